"""What a net promoter score is asked of. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.parse import parse_aggregate
from cdp.segments.rules import EventCount, Events, Path

MOST_TOUCHPOINTS = 100


@dataclass(frozen=True, slots=True)
class NpsSettings:
    events: Events
    property: Path
    survey: Path | None
    """A person's latest answer to each value of it counts; without it, to all of them."""
    touchpoint: Path | None
    """The summary is also given for each value of it."""


def read_settings(reader: SettingsReader) -> NpsSettings:
    """Read the settings of ``nps``."""
    events = read_events(reader, "NPS Answered")
    path = reader.path_of("property", "score")
    assert path is not None
    survey, touchpoint = reader.path_of("survey"), reader.path_of("touchpoint")
    reader.finish()
    return NpsSettings(events, path, survey, touchpoint)


def read_events(reader: SettingsReader, default: str) -> Events:
    """Read which events are meant: ``event``, ``where``, ``within``."""
    node = {
        name: reader.document[name] for name in ("event", "where", "within") if reader.has(name)
    }
    reader.show("event", default)
    found = parse_aggregate({"event": default, **node}, reader.path)
    assert isinstance(found, EventCount)
    assert isinstance(found.events, Events)
    return found.events
