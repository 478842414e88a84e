"""What other rules or blocks would change: the stored facts replayed under them, nothing written.

Piece by piece, so that however many people there are, few of them are in memory at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cdp.identity.apply_rules_store import Cooled, find_cooled
from cdp.identity.components_store import Stored, group_nodes, load_components, read_components
from cdp.identity.device_sessions_store import settle_sessions
from cdp.identity.facts import Node, ProfileKey
from cdp.identity.identifiers import is_blocked
from cdp.identity.resolve import resolve
from cdp.identity.rules import Rules
from cdp.model import Identifier
from cdp.storage.database import Driver

MOST_EXAMPLES = 20
_MOST_NAMES = 20
_NODES_AT_ONCE = 5000
_MOST_COMPONENTS_AT_ONCE = 2000
_MOST_TIED_NODES = 100_000
"""In what identifiers that are hot no more tie together; beyond it memory would not be bounded."""


@dataclass(frozen=True, slots=True)
class Example:
    """Profiles of now, and the groups of identifiers that their people would be."""

    profile_ids: tuple[str, ...]
    people: tuple[tuple[Identifier, ...], ...]


class DeviceExample(NamedTuple):
    """A shared device whose time would be cut otherwise: into how many pieces now, and then."""

    device: Identifier
    pieces_now: int
    pieces_then: int


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
    devices: int = 0
    """Shared devices that would be others' at some time than they are."""
    device_examples: list[DeviceExample] = field(default_factory=list)
    too_large: int = 0
    """Components that would become one of so many nodes that nothing is said of them."""
    share: float = 0.0
    """How much of everything has been looked at, from 0 to 1."""


def dry_run(
    conn: Driver, rules: Rules, about: Collection[Identifier] | None = None
) -> Iterator[DryRun]:
    """Compare who is who with who would be who under ``rules``; give how far that has come, again

    and again. With ``about``, only people whom these identifiers touch are looked at.

    ``conn`` is in a snapshot, so that workers go on meanwhile and are not seen.
    """
    found = DryRun()
    about_nodes = None if about is None else _find_nodes(conn, about)
    cooled = find_cooled(conn, rules, about_nodes)
    ties = [link.node_ids for link in cooled.links]
    tied = {node_id for node_ids in ties for node_id in node_ids}
    labels = {n: c for n, (c, _) in read_components(conn, tied).items()} if tied else {}
    for components in _list_tied(ties, labels):
        if _count_nodes(conn, components) > _MOST_TIED_NODES:
            found.too_large += len(components)
            continue
        _compare_components(conn, components, cooled, rules, found)
        yield found
    seen = set(labels.values())
    if about_nodes is None:
        pieces = _list_pieces(conn, seen)
    else:
        rest = {c for c, _ in read_components(conn, about_nodes).values()} - seen
        pieces = iter([(1.0, sorted(rest))] if rest else [])
    for share, components in pieces:
        _compare_components(conn, components, cooled, rules, found)
        found.share = share
        yield found
    found.share = 1.0
    yield found


def _find_nodes(conn: Driver, names: Collection[Identifier]) -> set[int]:
    rows = conn.execute(
        """SELECT n.node_id FROM unnest(%s::text[], %s::text[]) AS w (type, value)
             JOIN nodes n ON n.type = w.type AND n.value = w.value AND n.variant = ''""",
        ([name.type for name in names], [name.value for name in names]),
    ).fetchall()
    return {row[0] for row in rows}


def _list_tied(
    ties: Iterable[tuple[int, ...]], labels: Mapping[int, int]
) -> Iterator[Collection[int]]:
    """Give the components that ``ties`` bring together."""
    groups: dict[int, set[int]] = {}
    for node_id, group in group_nodes(ties, labels).items():
        groups.setdefault(group, set()).add(labels[node_id])
    yield from groups.values()


def _count_nodes(conn: Driver, components: Collection[int]) -> int:
    row = conn.execute(
        "SELECT count(*) FROM nodes WHERE component_id = ANY(%s)", (sorted(components),)
    ).fetchone()
    assert row is not None
    return int(row[0])


def _list_pieces(conn: Driver, seen: Collection[int]) -> Iterator[tuple[float, list[int]]]:
    """Give the components of several nodes that were not ``seen``, some at a time.

    With the share of all that was looked at then, by the numbers of the components.
    """
    row = conn.execute("SELECT coalesce(max(component_id), 0) FROM nodes").fetchone()
    assert row is not None
    after, last = 0, row[0]
    while True:
        rows = conn.execute(
            """SELECT component_id, count(*) FROM nodes WHERE component_id > %s
                GROUP BY component_id HAVING count(*) > 1 ORDER BY component_id LIMIT %s""",
            (after, _MOST_COMPONENTS_AT_ONCE),
        ).fetchall()
        piece: list[int] = []
        size = 0
        for component_id, count in rows:
            after = component_id
            if component_id not in seen:
                piece.append(component_id)
                size += count
            if size >= _NODES_AT_ONCE:
                break
        if not rows:
            return
        yield min(1.0, after / last), piece


def _compare_components(
    conn: Driver, components: Collection[int], cooled: Cooled, rules: Rules, found: DryRun
) -> None:
    found.components += len(components)
    stored = load_components(conn, components)
    _compare(stored, cooled.nodes, rules, found)
    _compare_sessions(conn, stored, cooled.nodes, rules, found)


def _compare_sessions(
    conn: Driver, stored: Stored, cooled: frozenset[int], rules: Rules, found: DryRun
) -> None:
    """Count the shared devices that would be others' at some time than they are."""
    shared = {
        device: stored.spans[device]
        for device in stored.shared_nodes
        if len(stored.spans.get(device, ())) > 1
    }
    if not shared:
        return
    nodes = _thaw(stored, cooled)
    resolution = resolve(nodes.values(), stored.links.values(), rules)
    settled = settle_sessions(conn, {0: resolution}, nodes, stored.links.values(), rules)[0]
    for device, spans in sorted(shared.items()):
        parts = settled.assignments.get(device, ())
        now = {(one.since, one.until) for one in spans}
        if not parts or now == {(one.since, one.until) for one in parts}:
            continue
        found.devices += 1
        if len(found.device_examples) < MOST_EXAMPLES:
            name = Identifier(nodes[device].type, nodes[device].value)
            found.device_examples.append(DeviceExample(name, len(spans), len(parts)))


def _thaw(stored: Stored, cooled: frozenset[int]) -> dict[int, Node]:
    return {
        node_id: node._replace(quarantined=False) if node_id in cooled else node
        for node_id, node in stored.nodes.items()
    }


def _compare(stored: Stored, cooled: frozenset[int], rules: Rules, found: DryRun) -> None:
    nodes = _thaw(stored, cooled)
    resolution = resolve(nodes.values(), stored.links.values(), rules)
    assignments = resolution.assignments
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

    def names_nobody(node_id: int) -> bool:
        name = Identifier(nodes[node_id].type, nodes[node_id].value)
        return node_id in resolution.hot or is_blocked(name, rules)

    for now, thens in then_by_now.items():
        if len(thens) < 2:
            continue
        # An identifier that merely becomes nobody's parts no people.
        people = {key for key in thens if not all(map(names_nobody, members[key]))}
        if len(people) > 1:
            found.parting += 1
            if len(found.parts) < MOST_EXAMPLES:
                found.parts.append(show([now], people))
    for then, nows in now_by_then.items():
        if len(nows) > 1:
            found.joining += 1
            if len(found.joins) < MOST_EXAMPLES:
                found.joins.append(show(nows, [then]))
