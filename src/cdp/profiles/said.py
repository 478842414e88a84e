"""What stored events said of their person, as registers and statements. Pure.

Registers keep only the newest of what was said; the timeline keeps it all, so every earlier moment
can be told from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cdp.profiles.consent import Statement
from cdp.profiles.traits import Register
from cdp.said import consents_said, traits_said


class Said(NamedTuple):
    """A stored event that may have said something of its person."""

    node_id: int
    type: str
    at: datetime
    message_id: str
    source_number: int
    properties: Mapping[str, Any]
    context: Mapping[str, Any]


def list_registers(events: Iterable[Said]) -> Iterator[Register]:
    """Give one register per trait that an event named."""
    for event in events:
        for name, value in traits_said(event.type, event.properties, event.context).items():
            yield Register(name, value, event.at, event.message_id, event.source_number)


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
