"""The words that the stages share. Data only: no I/O, no clock, no rules.

Times are aware ``datetime`` values in UTC. Identifiers are already normalised. What is made once
per event is a ``msgspec.Struct``: a frozen dataclass takes ten times as long to make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

EventType = Literal["track", "identify", "page", "screen", "group", "alias"]
SourceType = Literal["web", "app", "server", "store", "crm", "erp", "service", "shop"]

EVENT_TYPES: frozenset[str] = frozenset({"track", "identify", "page", "screen", "group", "alias"})
SOURCE_TYPES: tuple[SourceType, ...] = (
    "web", "app", "server", "store", "crm", "erp", "service", "shop",
)  # fmt: skip
PUBLIC_SOURCE_TYPES: frozenset[str] = frozenset({"web", "app"})
DEFAULT_CONSENT_AT = datetime(1970, 1, 1, tzinfo=UTC)
"""The date of a consent that a source's setting states: before whatever anybody says."""


class Identifier(NamedTuple):
    """One way to name a person: a type (``email``, ``user_id``, …) and its normalised value."""

    type: str
    value: str

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"


class Scoped(NamedTuple):
    """A raw value of an identifier, with the names that tell whose numbering it is of."""

    value: object
    app: str | None
    """The app that the event comes from, by its own word."""
    system: str | None
    """The system that the source stands for, by its settings."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where events come from. ``number`` is the small integer that rows carry."""

    source_id: str
    number: int
    name: str
    type: SourceType
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_public: bool = field(init=False, compare=False)
    """Whether the write key lies in the open (browser, app), so its claims are not trusted."""
    joins_known: bool = field(init=False, compare=False)
    """Whether its events may tie two known people together; a public key's never do."""
    trusts_times: bool = field(init=False, compare=False)
    """Whether its clock is taken at its word."""

    def __post_init__(self) -> None:
        """Find out once what is asked for every event."""
        is_public = self.type in PUBLIC_SOURCE_TYPES
        joins = not is_public and self.settings.get("links") != "anonymous"
        said = self.settings.get("trusted_times")
        object.__setattr__(self, "is_public", is_public)
        object.__setattr__(self, "joins_known", joins)
        trusts_times = not is_public if said is None else bool(said)
        object.__setattr__(self, "trusts_times", trusts_times)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One accepted call, read and normalised: what the worker works on.

    ``properties`` and ``context`` are strict JSON objects as UTF-8 bytes. For identify and group
    calls ``properties`` holds the traits that were sent. ``at`` is the event time after the
    clock-skew correction; ``original_at`` is what the caller wrote, when that differs.
    """

    source: Source
    message_id: str
    type: EventType
    name: str | None
    at: datetime
    received_at: datetime
    identifiers: tuple[Identifier, ...]
    """Strongest first, without duplicates; empty only for revenue without a person."""
    properties: bytes
    context: bytes
    traits: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """The person's trait changes that this call carries; ``None`` removes one."""
    consents: Mapping[str, bool] = msgspec.field(default_factory=dict)
    group_id: str | None = None
    original_at: str | None = None


class Observation(msgspec.Struct, frozen=True, gc=False):
    """What one event says about identity: these identifiers were seen together at this time."""

    identifiers: tuple[Identifier, ...]
    at: datetime
    message_id: str
    source_number: int
    trusted: bool
    """False for public keys, which may tie an anonymous visitor to a person, never two people."""
    received_at: datetime | None = None
    """With it, an untrusted claim dated long before its receipt counts from its receipt."""
    is_event: bool = True
    """Whether it counts among the person's events; a record of an order does not."""


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event or record that was refused, kept with its reason and its bytes."""

    source_id: str
    message_id: str | None
    code: str
    message: str
    received_at: datetime
    raw: bytes
    kind: str = "events"
    """What it would have been: events, orders, …"""
    place: int | None = None
    """Its place in the request, or its row in a file."""
    request_id: str | None = None
    sent_at: str | None = None
    """What the request said, as it said it."""
    route_type: str | None = None
    """The type of event that the route says."""
    shared: bytes | None = None
    """What the batch said for all its events, as JSON."""
    truncated: bool = False
    """Whether ``raw`` is only the beginning."""
    key: bytes | None = None
    """What the same line has whenever the log brings it; without it, it is always a new one."""


class Slot(NamedTuple):
    """A span of an identifier's time that is one profile's, and new; ``None`` has no bound."""

    node_id: int
    since: datetime | None
    until: datetime | None
    is_whole: bool
    """Made of former spans as they were: then what the registers hold is all there is."""


class Verdict(NamedTuple):
    """What a check of the tracking plan says of one event at the door.

    Either it is refused, or it is marked, and loses what ``removed`` leads to.
    """

    code: str | None = None
    """Why it is refused; ``None``: it is taken."""
    message: str = ""
    flags: tuple[str, ...] = ()
    mark: Mapping[str, Any] | None = None
    """What is written into its ``context.cdp.plan``."""
    removed: tuple[tuple[str | int, ...], ...] = ()


EventCheck = Callable[[dict[str, Any]], Verdict | None]
"""From an event to the verdict on it; ``None`` when there is nothing to say."""

FindCheck = Callable[[Source], EventCheck | None]
"""From a source to the check of its events; ``None`` when they are not checked."""


def check_nothing(source: Source) -> EventCheck | None:
    """Be the ``FindCheck`` of a door that checks no events."""
    return None
