"""What other rules would change: the stored facts replayed under them, and nothing written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cdp.identity.apply_rules_store import find_cooled
from cdp.identity.components_store import Stored, group_nodes, load_components, read_components
from cdp.identity.facts import ProfileKey
from cdp.identity.resolve import resolve
from cdp.identity.rules import Rules
from cdp.model import Identifier
from cdp.storage.database import Driver

MOST_EXAMPLES = 20
_MOST_NAMES = 20
_NODES_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Example:
    """Profiles of now, and the groups of identifiers that their people would be."""

    profile_ids: tuple[str, ...]
    people: tuple[tuple[Identifier, ...], ...]


@dataclass(slots=True)
class DryRun:
    """``parting``: profiles that would come apart; ``joining``: people who would be made of more

    than one profile.
    """

    components: int = 0
    parting: int = 0
    joining: int = 0
    parts: list[Example] = field(default_factory=list)
    joins: list[Example] = field(default_factory=list)


def dry_run(conn: Driver, rules: Rules) -> DryRun:
    """Compare who is who with who would be who under ``rules``.

    ``conn`` is in a snapshot, so that workers go on meanwhile and are not seen.
    """
    cooled = find_cooled(conn, rules)
    tied = {node_id for link in cooled.links for node_id in link.node_ids}
    labels = {n: c for n, (c, _) in read_components(conn, tied).items()} if tied else {}
    found = DryRun()
    for components in _list_pieces(conn, labels, [link.node_ids for link in cooled.links]):
        found.components += len(components)
        _compare(load_components(conn, components), cooled.nodes, rules, found)
    return found


def _list_pieces(
    conn: Driver, labels: Mapping[int, int], ties: Iterable[tuple[int, ...]]
) -> Iterator[list[int]]:
    """Give the components of several nodes, some at a time; those that are tied, together."""
    groups: dict[int, set[int]] = {}
    for node_id, group in group_nodes(ties, labels).items():
        groups.setdefault(group, set()).add(labels[node_id])
    for tied in groups.values():
        yield sorted(tied)
    done = set(labels.values())
    piece: list[int] = []
    size = 0
    rows = conn.execute(
        """SELECT component_id, count(*) FROM nodes
            GROUP BY component_id HAVING count(*) > 1 ORDER BY component_id"""
    )
    for component_id, count in rows:
        if component_id in done:
            continue
        piece.append(component_id)
        size += count
        if size >= _NODES_AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _compare(stored: Stored, cooled: frozenset[int], rules: Rules, found: DryRun) -> None:
    nodes = {
        node_id: node._replace(quarantined=False) if node_id in cooled else node
        for node_id, node in stored.nodes.items()
    }
    assignments = resolve(nodes.values(), stored.links.values(), rules).assignments
    now_by_then: dict[ProfileKey, set[int]] = {}
    then_by_now: dict[int, set[ProfileKey]] = {}
    members: dict[ProfileKey, list[int]] = {}
    for node_id in stored.component_of:
        if node_id not in nodes or node_id not in stored.spans:
            continue
        now, then = stored.spans[node_id][-1].profile_no, assignments[node_id][-1].profile
        now_by_then.setdefault(then, set()).add(now)
        then_by_now.setdefault(now, set()).add(then)
        members.setdefault(then, []).append(node_id)

    def show(profiles: Iterable[int], people: Iterable[ProfileKey]) -> Example:
        groups = [
            tuple(
                sorted(Identifier(nodes[n].type, nodes[n].value) for n in members[key])[
                    :_MOST_NAMES
                ]
            )
            for key in sorted(people)
        ]
        ids = tuple(stored.profiles[number].profile_id for number in sorted(profiles))
        return Example(ids[:_MOST_NAMES], tuple(groups[:_MOST_NAMES]))

    for now, thens in then_by_now.items():
        if len(thens) > 1:
            found.parting += 1
            if len(found.parts) < MOST_EXAMPLES:
                found.parts.append(show([now], thens))
    for then, nows in now_by_then.items():
        if len(nows) > 1:
            found.joining += 1
            if len(found.joins) < MOST_EXAMPLES:
                found.joins.append(show(nows, [then]))
