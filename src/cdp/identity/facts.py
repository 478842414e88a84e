"""The words of the replay: the facts that go in, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

Reason = Literal[
    "unique_conflict",
    "public_source",
    "other_contact",
    "shared_device",
    "hot_identifier",
    "blocked",
    "limit",
    "parted_by_hand",
]

LinkKind = Literal["seen", "merge", "exception", "parted", "detached", "twin"]
"""What a link fact says: *seen* together by an event; by hand that the people of its nodes are one

(*merge*), even if a unique type then has two values (*exception*); that no two of its nodes are
one person (*parted*); that its first node is not the person of any other (*detached*). *twin*: by
what they are, its two nodes are spellings of one identifier.
"""


class Node(NamedTuple):
    """An identifier as the replay sees it."""

    node_id: int
    type: str
    value: str
    first_seen: datetime
    quarantined: bool = False
    """Found hot before: its links are withdrawn, whether or not they are all at hand."""
    is_beyond_cap: bool = False
    """Of another component, where one of the two was full when they met: withheld as a hot one."""


DayRange = tuple[int, int]
"""Days since 0001-01-01 (``date.toordinal``): from the first to before the second."""


class LinkFact(NamedTuple):
    """These nodes were seen together, or somebody decided by hand what they are to each other.

    A decision carries the moment at which it was taken and its id in place of a message's.
    """

    link_id: int
    trusted: bool
    node_ids: tuple[int, ...]
    first_at: datetime
    first_message_id: str
    active_days: tuple[DayRange, ...]
    kind: LinkKind = "seen"

    @property
    def joins_by_hand(self) -> bool:
        return self.kind in ("merge", "exception")

    @property
    def parts_by_hand(self) -> bool:
        return self.kind in ("parted", "detached")


class ProfileKey(NamedTuple):
    """A profile by the node that names it; ``shared`` for a shared device's own profile."""

    node_id: int
    shared: bool = False


class Assignment(NamedTuple):
    """Whose a node is from ``since`` (included) to ``until``; ``None`` has no bound."""

    node_id: int
    since: datetime | None
    until: datetime | None
    profile: ProfileKey


class Refusal(NamedTuple):
    """A join that was withheld: ``weak`` was not let to the person of ``strong``."""

    link_id: int
    strong: int
    weak: int
    reason: Reason
    at: datetime


JoinRule = Literal["seen_together", "moved", "by_hand", "hashed_twin", "scoped_twin"]


class Join(NamedTuple):
    """A join that was made: an edge of the path that explains a profile."""

    link_id: int
    strong: int
    weak: int
    at: datetime
    rule: JoinRule


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the facts of a component come to."""

    assignments: Mapping[int, tuple[Assignment, ...]]
    joined_at: Mapping[ProfileKey, datetime | None]
    refusals: tuple[Refusal, ...]
    joins: tuple[Join, ...]
    hot: frozenset[int]
