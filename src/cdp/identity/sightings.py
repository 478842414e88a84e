"""A batch of observations, summed up: who was seen when, and who was seen together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cdp.model import Identifier, Observation

BACKDATING_LIMIT = timedelta(days=7)
"""An untrusted claim older than this at its receipt counts from its receipt."""


@dataclass(slots=True)
class NodeSighting:
    """What a batch says of one identifier. ``events`` counts those that hang on it."""

    first: datetime
    last: datetime
    sources: set[int]
    events: int = 0


@dataclass(slots=True)
class GroupSighting:
    """Observations of a batch that name the same identifiers from the same source."""

    identifiers: tuple[Identifier, ...]
    trusted: bool
    source_number: int
    first: datetime
    last: datetime
    claimed_at: datetime
    """Of the least observation by (claim time, message id)."""
    message_id: str
    count: int
    """How many of them are events."""
    days: set[int]


@dataclass(slots=True)
class Sightings:
    groups: list[GroupSighting] = field(default_factory=list)
    group_of: list[int] = field(default_factory=list)
    """Per observation, the position of its group."""
    nodes: dict[Identifier, NodeSighting] = field(default_factory=dict)


_GroupKey = tuple[tuple[Identifier, ...], bool, int]


def sum_up(observations: Sequence[Observation]) -> Sightings:
    """Sum up a batch. Every observation must have an identifier."""
    positions: dict[_GroupKey, int] = {}
    groups: list[GroupSighting] = []
    group_of: list[int] = []
    for seen in observations:
        at = seen.at
        claimed_at = at if seen.trusted else _claim_time(seen)
        count = 1 if seen.is_event else 0
        key = (seen.identifiers, seen.trusted, seen.source_number)
        position = positions.get(key)
        if position is None:
            position = positions[key] = len(groups)
            groups.append(
                GroupSighting(
                    seen.identifiers, seen.trusted, seen.source_number,
                    at, at, claimed_at, seen.message_id, count,
                    {claimed_at.toordinal()},
                )
            )  # fmt: skip
        else:
            group = groups[position]
            group.count += count
            if at < group.first:
                group.first = at
            elif at > group.last:
                group.last = at
            if claimed_at <= group.claimed_at and (claimed_at, seen.message_id) < (
                group.claimed_at,
                group.message_id,
            ):
                group.claimed_at, group.message_id = claimed_at, seen.message_id
            group.days.add(claimed_at.toordinal())
        group_of.append(position)
    return Sightings(groups, group_of, _sum_nodes(groups))


def _claim_time(seen: Observation) -> datetime:
    if seen.received_at is not None and is_backdated(seen):
        return seen.received_at
    return seen.at


def is_backdated(seen: Observation) -> bool:
    """Whether an event is dated long before its receipt."""
    return seen.received_at is not None and seen.at < seen.received_at - BACKDATING_LIMIT


def _sum_nodes(groups: Iterable[GroupSighting]) -> dict[Identifier, NodeSighting]:
    nodes: dict[Identifier, NodeSighting] = {}
    for group in groups:
        home = True
        for identifier in group.identifiers:
            node = nodes.get(identifier)
            if node is None:
                node = nodes[identifier] = NodeSighting(
                    group.first, group.last, {group.source_number}
                )
            else:
                if group.first < node.first:
                    node.first = group.first
                if group.last > node.last:
                    node.last = group.last
                node.sources.add(group.source_number)
            if home:
                node.events += group.count
                home = False
    return nodes


@dataclass(slots=True)
class LinkSighting:
    """What a batch says of one set of nodes seen together."""

    trusted: bool
    node_ids: tuple[int, ...]
    first_at: datetime
    message_id: str
    source_number: int
    days: set[int]

    @property
    def key(self) -> str:
        """The text that names the link in the database."""
        return f"{int(self.trusted)}:{','.join(map(str, self.node_ids))}"


LinkKey = tuple[bool, tuple[int, ...]]


def sum_links(
    groups: Iterable[GroupSighting], node_ids: dict[Identifier, int]
) -> dict[LinkKey, LinkSighting]:
    """Return the links of a batch by (trusted, ascending node ids)."""
    links: dict[LinkKey, LinkSighting] = {}
    for group in groups:
        if len(group.identifiers) < 2:
            continue
        key = make_link_key(group, node_ids)
        link = links.get(key)
        if link is None:
            links[key] = LinkSighting(
                *key, group.claimed_at, group.message_id,
                group.source_number, set(group.days),
            )  # fmt: skip
            continue
        if (group.claimed_at, group.message_id) < (link.first_at, link.message_id):
            link.first_at, link.message_id = group.claimed_at, group.message_id
            link.source_number = group.source_number
        link.days |= group.days
    return links


def make_link_key(group: GroupSighting, node_ids: Mapping[Identifier, int]) -> LinkKey:
    """Return the key of the link that a group of several identifiers makes."""
    return group.trusted, tuple(sorted([node_ids[name] for name in group.identifiers]))


def list_moments(
    observations: Iterable[Observation],
    group_of: Iterable[int],
    groups: Sequence[GroupSighting],
    node_ids: Mapping[Identifier, int],
) -> dict[LinkKey, list[datetime]]:
    """Return when each link was seen in events whose time is taken at its word."""
    moments: dict[LinkKey, list[datetime]] = {}
    for seen, position in zip(observations, group_of, strict=True):
        if seen.is_event and len(seen.identifiers) > 1 and (seen.trusted or not is_backdated(seen)):
            key = make_link_key(groups[position], node_ids)
            moments.setdefault(key, []).append(seen.at)
    return moments
