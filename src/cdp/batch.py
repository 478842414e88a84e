"""What one transaction of the worker works off: everything read from some records. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cdp.accounts.account import AccountSaid, MemberSaid
from cdp.log.port import Record
from cdp.model import Event, Identifier, RejectedEvent, Source
from cdp.orders.order import Report
from cdp.storage.privacy_requests_store import PrivacyRequest


@dataclass(frozen=True, slots=True)
class PostedOrder:
    """One posted order: what it says of the order, and who bought."""

    source: Source
    message_id: str
    received_at: datetime
    identifiers: tuple[Identifier, ...]
    """May be empty: revenue without a person."""
    seen_at: datetime
    """When these identifiers were seen together."""
    report: Report


@dataclass(frozen=True, slots=True)
class PostedAccount:
    """One posted account: what it says of the account, and of the members it names."""

    source: Source
    message_id: str
    received_at: datetime
    said: AccountSaid
    members: tuple[tuple[Identifier, MemberSaid], ...]


@dataclass(frozen=True, slots=True)
class PostedPrivacy:
    """A request to delete or export a person, as a shop's hook brings it."""

    source: Source
    message_id: str
    received_at: datetime
    kind: str
    """``delete`` or ``export``."""
    reason: str
    identifiers: tuple[Identifier, ...]

    def list_requests(self) -> list[PrivacyRequest]:
        """Return what it asks, one identifier at a time."""
        source_id = self.source.source_id
        return [
            PrivacyRequest(
                source_id, self.message_id, self.kind, self.reason, self.received_at, identifier
            )
            for identifier in self.identifiers
        ]


Posted = PostedOrder | PostedAccount | PostedPrivacy
Message = Event | Posted
"""What has its effect once."""


class Gap(NamedTuple):
    """Records that were gone from the log before anybody read them."""

    partition: int
    first: int
    """Offset of the first one."""
    records: int


@dataclass(slots=True)
class Batch:
    """What one transaction works off, and how far it reaches in the log."""

    log: str
    moves: dict[int, tuple[int, int]]
    """Per partition: the position before and after."""
    events: list[Event] = field(default_factory=list)
    posted: list[Posted] = field(default_factory=list)
    rejected: list[RejectedEvent] = field(default_factory=list)
    dead: list[tuple[Record, str]] = field(default_factory=list)
    """Records that nobody can read, and why."""
    gaps: list[Gap] = field(default_factory=list)
    received: dict[tuple[str, datetime], int] = field(default_factory=dict)
    """Lines by source id and time of receipt, as the headers of the records count them."""
    lost: dict[tuple[str, datetime], int] = field(default_factory=dict)
    """The lines among them of ``dead``."""

    @property
    def messages(self) -> list[Message]:
        """Everything that has its effect once."""
        return [*self.events, *self.posted]
