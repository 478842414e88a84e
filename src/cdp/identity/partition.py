"""From a resolution to rows: what differs from what is stored, and what to tell about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from cdp.identity.facts import Join, ProfileKey, Resolution
from cdp.model import Slot


class StoredProfile(NamedTuple):
    profile_no: int
    profile_id: str
    version: int
    joined_at: datetime | None


class Span(NamedTuple):
    """A row of ``node_profiles``; ``None`` has no bound."""

    since: datetime | None
    until: datetime | None
    profile_no: int


class Change(NamedTuple):
    """One line of a profile's history: created, merged, parted, renamed."""

    profile_id: str
    change: str
    details: dict[str, Any]


@dataclass(slots=True)
class PartitionDiff:
    """Rows to write so that the stored partition is the resolved one."""

    spans: dict[int, tuple[Span, ...]] = field(default_factory=dict)
    """All rows of each node whose rows change."""
    stale: list[tuple[int, Span]] = field(default_factory=list)
    """Rows of nodes to delete, and then those to insert: of a device with many sessions a few."""
    fresh: list[tuple[int, Span]] = field(default_factory=list)
    cut: list[Slot] = field(default_factory=list)
    """Spans that are new of nodes whose time is cut, or was: their registers are to be settled."""
    made: list[StoredProfile] = field(default_factory=list)
    changed: list[StoredProfile] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    merges: list[dict[str, str]] = field(default_factory=list)


def number_profiles(
    resolution: Resolution, shared_nodes: Mapping[int, int], members: Iterable[int]
) -> dict[int, tuple[Span, ...]]:
    """Return the rows of ``node_profiles`` that a resolution asks for.

    A shared device's own node keeps a row also when the device is not shared any more, so that
    the profile id it gave its name to goes on resolving.
    """
    wanted: dict[int, tuple[Span, ...]] = {}
    for node_id in members:
        found = resolution.assignments.get(node_id)
        if found is None:
            continue
        wanted[node_id] = tuple(
            Span(part.since, part.until, _number(part.profile, shared_nodes)) for part in found
        )
        variant = shared_nodes.get(node_id)
        if variant is not None:
            is_shared = ProfileKey(node_id, True) in resolution.joined_at
            home = variant if is_shared else wanted[node_id][-1].profile_no
            wanted[variant] = (Span(None, None, home),)
    return wanted


def _number(key: ProfileKey, shared_nodes: Mapping[int, int]) -> int:
    return shared_nodes[key.node_id] if key.shared else key.node_id


def number_joins(
    resolution: Resolution, shared_nodes: Mapping[int, int]
) -> dict[int, datetime | None]:
    """Return ``joined_at`` by profile number."""
    return {
        _number(key, shared_nodes): joined_at
        for key, joined_at in resolution.joined_at.items()
        if not key.shared or key.node_id in shared_nodes
    }


def compare(
    wanted: Mapping[int, tuple[Span, ...]],
    joined_at: Mapping[int, datetime | None],
    spans: Mapping[int, tuple[Span, ...]],
    profiles: Mapping[int, StoredProfile],
    profile_ids: Mapping[int, str],
) -> PartitionDiff:
    """Say what to write so that ``spans`` and ``profiles`` become ``wanted`` and ``joined_at``."""
    diff = PartitionDiff()
    before: dict[int, set[int]] = {}
    after: dict[int, set[int]] = {}
    for node_id, rows in wanted.items():
        old = spans.get(node_id)
        for row in rows:
            after.setdefault(row.profile_no, set()).add(node_id)
        for row in old or ():
            before.setdefault(row.profile_no, set()).add(node_id)
        if old != rows:
            diff.spans[node_id] = rows
            kept = set(rows).intersection(old or ())
            diff.stale += [(node_id, row) for row in old or () if row not in kept]
            diff.fresh += [(node_id, row) for row in rows if row not in kept]
            diff.cut += _list_cut(node_id, old or (), rows)
    touched = {row.profile_no for _, row in (*diff.stale, *diff.fresh)}
    for number, members in after.items():
        stored = profiles.get(number)
        at = joined_at.get(number)
        if stored is not None and number not in touched and stored.joined_at == at:
            continue
        sources = {row.profile_no for node_id in members for row in spans.get(node_id, ())}
        version = max((profiles[source].version for source in sources), default=0) + 1
        profile = StoredProfile(number, profile_ids[number], version, at)
        (diff.made if stored is None else diff.changed).append(profile)
    diff.gone = sorted(before.keys() - after.keys())
    _tell(diff, wanted, spans, before, after, profile_ids)
    return diff


def cite(
    diff: PartitionDiff,
    joins: Iterable[Join],
    messages: Mapping[int, str],
    spans: Mapping[int, tuple[Span, ...]],
    profile_ids: Mapping[int, str],
) -> None:
    """Name in each merge the event behind it: the first new one that joined the absorbed profile.

    ``messages`` are those of new links, ``spans`` who was whose before.
    """
    cited: dict[str, str] = {}
    for join in sorted(joins, key=lambda join: (join.at, join.link_id)):
        if join.link_id in messages:
            for node_id in (join.strong, join.weak):
                for span in spans.get(node_id, ()):
                    cited.setdefault(profile_ids[span.profile_no], messages[join.link_id])
    for position, one in enumerate(diff.changes):
        message = cited.get(one.details.get("from", ""))
        if message is not None and one.change in ("merged", "renamed"):
            details = {**one.details, "message_id": message}
            diff.changes[position] = one._replace(details=details)


def _list_cut(node_id: int, old: Sequence[Span], rows: Sequence[Span]) -> Iterator[Slot]:
    """Give the new spans of a node in which others are newest of what was said than before."""
    if not old or (len(old) == 1 and len(rows) == 1):
        return
    bounds = {(row.since, row.until) for row in old}
    begins, ends = {row.since for row in old}, {row.until for row in old}
    for row in rows:
        if (row.since, row.until) not in bounds:
            is_whole = row.since in begins and row.until in ends
            yield Slot(node_id, row.since, row.until, is_whole)


def _tell(
    diff: PartitionDiff,
    wanted: Mapping[int, tuple[Span, ...]],
    spans: Mapping[int, tuple[Span, ...]],
    before: Mapping[int, set[int]],
    after: Mapping[int, set[int]],
    profile_ids: Mapping[int, str],
) -> None:
    """Put the differences into words. A profile that ceased lives on where its naming node is."""
    heirs: dict[int, list[int]] = {}
    for number in diff.gone:
        if number in wanted:
            heirs.setdefault(wanted[number][0].profile_no, []).append(number)
    for heir, absorbed in heirs.items():
        is_new = heir not in before
        for position, number in enumerate(sorted(absorbed)):
            pair = {"from": profile_ids[number], "into": profile_ids[heir]}
            diff.merges.append(pair)
            kind = "renamed" if is_new and position == 0 else "merged"
            diff.changes.append(Change(profile_ids[heir], kind, pair))
    for number in sorted(after.keys() - before.keys()):
        if number in heirs:
            continue
        origins = {row.profile_no for node_id in after[number] for row in spans.get(node_id, ())}
        if not origins:
            diff.changes.append(Change(profile_ids[number], "created", {}))
        for origin in sorted(origins):
            pair = {"from": profile_ids[origin], "into": profile_ids[number]}
            diff.changes.append(Change(profile_ids[number], "parted", pair))
