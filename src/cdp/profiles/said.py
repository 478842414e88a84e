"""What stored events said of their person, as registers and statements. Pure.

Registers keep only the newest of what was said; the timeline keeps it all, so every earlier moment
can be told from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cdp.profiles.consent import Statement
from cdp.profiles.traits import Register, take_apart
from cdp.said import consents_said, traits_said
from cdp.trait_parts import UNSET_OP


class Said(NamedTuple):
    """A stored event that may have said something of its person."""

    node_id: int
    type: str
    at: datetime
    message_id: str
    source_number: int
    properties: Mapping[str, Any]
    context: Mapping[str, Any]


def list_registers(
    events: Iterable[Said], ranks: Mapping[int, int] | None = None
) -> Iterator[Register]:
    """Give the registers of what events said of traits; ``ranks`` are those of sources."""
    for whole in _list_whole(events, ranks or {}):
        yield from take_apart(whole)


def list_changes(events: Iterable[Said]) -> Iterator[Register]:
    """Give what each event said of each trait, as it was said; ``None`` is a removal."""
    for whole in _list_whole(events, {}):
        yield whole._replace(value=None) if whole.value == {UNSET_OP: True} else whole


def _list_whole(events: Iterable[Said], ranks: Mapping[int, int]) -> Iterator[Register]:
    for event in events:
        number = event.source_number
        rank = ranks.get(number, 0)
        for name, value in traits_said(event.type, event.properties, event.context).items():
            yield Register(name, value, event.at, event.message_id, number, rank=rank)


def list_statements(events: Iterable[Said]) -> Iterator[Statement]:
    """Give one statement per purpose that an event named."""
    for event in events:
        for purpose, granted in consents_said(event.context).items():
            yield Statement(
                purpose,
                granted,
                event.at,
                event.message_id,
                event.source_number,
                event.node_id,
            )
