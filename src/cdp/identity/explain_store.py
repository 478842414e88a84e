"""Why two identifiers are one person, or not: the component replayed once more, with its joins."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from cdp.identity.components_store import Stored, load_components
from cdp.identity.facts import Join, Refusal, Resolution
from cdp.identity.resolve import resolve
from cdp.identity.rules import Rules
from cdp.model import Identifier
from cdp.storage.database import Driver


@dataclass(frozen=True, slots=True)
class Evidence:
    """The event that made a link, as far as it is known."""

    message_id: str
    source_id: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One join or refusal, with the event behind it."""

    strong: Identifier
    weak: Identifier
    rule: str
    at: datetime
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Explanation:
    """``path`` leads from the one to the other when they are one person now."""

    same: bool
    path: tuple[Step, ...] = ()
    withheld: tuple[Step, ...] = ()


@dataclass(slots=True)
class _Component:
    stored: Stored
    resolution: Resolution
    evidence: dict[int, Evidence] = field(default_factory=dict)

    def name(self, node_id: int) -> Identifier:
        node = self.stored.nodes[node_id]
        return Identifier(node.type, node.value)

    def step(self, found: Join | Refusal) -> Step:
        rule = found.rule if isinstance(found, Join) else found.reason
        evidence = self.evidence[found.link_id]
        return Step(self.name(found.strong), self.name(found.weak), rule, found.at, evidence)

    def turn(self, join: Join, start: int) -> Step:
        """Return the step of ``join`` as walked from ``start``."""
        step = self.step(join)
        if join.strong == start:
            return step
        return replace(step, strong=step.weak, weak=step.strong)


def explain(
    conn: Driver, rules: Rules, ours: Sequence[int], theirs: Sequence[int], *, same: bool
) -> Explanation:
    """Explain how the nodes ``ours`` of one profile relate to ``theirs`` of another, or the same.

    The first node of each is the one asked for. ``same`` says what is stored.
    """
    component = _replay(conn, rules, [*ours, *theirs])
    if same:
        path = find_path(component.resolution.joins, ours[0], theirs[0])
        return Explanation(True, tuple(component.turn(join, start) for start, join in path))
    left, right = set(ours), set(theirs)
    withheld = tuple(
        component.step(refusal)
        for refusal in component.resolution.refusals
        if (refusal.strong in left and refusal.weak in right)
        or (refusal.strong in right and refusal.weak in left)
        or _clash_over(refusal, left, right, component.resolution.joins)
    )
    return Explanation(False, (), withheld)


def _clash_over(refusal: Refusal, left: set[int], right: set[int], joins: Iterable[Join]) -> bool:
    """Whether one side was refused a node that the other holds by a join."""
    for claimants, holders in ((left, right), (right, left)):
        if refusal.strong in claimants and any(
            refusal.weak in (join.weak, join.strong)
            and (join.strong in holders or join.weak in holders)
            for join in joins
        ):
            return True
    return False


def find_path(joins: Iterable[Join], start: int, end: int) -> list[tuple[int, Join]]:
    """Return the shortest chain of joins from ``start`` to ``end``, each with the node it is

    entered from; empty when there is none.
    """
    around: dict[int, list[tuple[int, Join]]] = {}
    for join in joins:
        around.setdefault(join.strong, []).append((join.weak, join))
        around.setdefault(join.weak, []).append((join.strong, join))
    came: dict[int, tuple[int, Join]] = {}
    waiting, seen = deque([start]), {start}
    while waiting and end not in seen:
        here = waiting.popleft()
        for there, join in around.get(here, ()):
            if there not in seen:
                seen.add(there)
                came[there] = (here, join)
                waiting.append(there)
    path: list[tuple[int, Join]] = []
    while end != start:
        if end not in came:
            return []
        end, join = came[end]
        path.append((end, join))
    return path[::-1]


def list_steps(conn: Driver, rules: Rules, node_ids: Sequence[int]) -> list[Step]:
    """Return every join and refusal that concerns some nodes, oldest first."""
    component = _replay(conn, rules, node_ids)
    mine = set(node_ids)
    found: list[Join | Refusal] = [*component.resolution.joins, *component.resolution.refusals]
    concerned = [step for step in found if step.strong in mine or step.weak in mine]
    concerned.sort(key=lambda step: (step.at, step.link_id))
    return [component.step(step) for step in concerned]


def _replay(conn: Driver, rules: Rules, node_ids: Sequence[int]) -> _Component:
    rows = conn.execute(
        "SELECT DISTINCT component_id FROM nodes WHERE node_id = ANY(%b)", (sorted(node_ids),)
    ).fetchall()
    stored = load_components(conn, [row[0] for row in rows])
    resolution = resolve(stored.nodes.values(), stored.links.values(), rules)
    return _Component(stored, resolution, _read_evidence(conn, stored))


def _read_evidence(conn: Driver, stored: Stored) -> dict[int, Evidence]:
    rows = conn.execute(
        """SELECT l.link_id, l.first_message_id, s.source_id
             FROM links l LEFT JOIN sources s ON s.number = l.first_source_number
            WHERE l.link_id = ANY(%b)""",
        (sorted(stored.links),),
    ).fetchall()
    return {row[0]: Evidence(row[1], row[2]) for row in rows}


def list_changes(conn: Driver, node_ids: Sequence[int]) -> list[Mapping[str, Any]]:
    """Return what happened to every profile that these nodes ever named, oldest first."""
    rows = conn.execute(
        """SELECT c.change_no, c.profile_id, c.change, c.details, c.at
             FROM profile_changes c
             JOIN nodes n ON n.profile_id = c.profile_id
            WHERE n.node_id = ANY(%b) ORDER BY c.change_no""",
        (sorted(node_ids),),
    ).fetchall()
    return [
        {"profile_id": row[1], "change": row[2], "details": row[3], "at": row[4]} for row in rows
    ]


def list_refusals(conn: Driver, *, below: int | None, limit: int) -> list[Mapping[str, Any]]:
    """Return refused joins, the newest first, with ids below ``below``."""
    rows = conn.execute(
        """SELECT r.refusal_id, a.type, a.value, b.type, b.value, r.reason, r.at,
                  l.first_message_id, s.source_id
             FROM refusals r
             JOIN nodes a ON a.node_id = r.node_a
             JOIN nodes b ON b.node_id = r.node_b
             JOIN links l ON l.link_id = r.link_id
             LEFT JOIN sources s ON s.number = l.first_source_number
            WHERE %s::bigint IS NULL OR r.refusal_id < %s
            ORDER BY r.refusal_id DESC LIMIT %s""",
        (below, below, limit),
    ).fetchall()
    return [
        {
            "id": row[0],
            "a": Identifier(row[1], row[2]),
            "b": Identifier(row[3], row[4]),
            "reason": row[5],
            "at": row[6],
            "message_id": row[7],
            "source_id": row[8],
        }
        for row in rows
    ]
