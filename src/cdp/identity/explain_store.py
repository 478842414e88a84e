"""Why two identifiers are one person, or not: the component replayed once more, with its joins."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cdp.identity.components_store import load_facts
from cdp.identity.facts import Join, Node, Refusal, Resolution
from cdp.identity.resolve import resolve
from cdp.identity.rules import Rules
from cdp.model import Identifier
from cdp.storage.database import Driver


@dataclass(frozen=True, slots=True)
class Evidence:
    """The event or decision that made a link; without either, what the rules say of values."""

    message_id: str | None
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
    nodes: Mapping[int, Node]
    resolution: Resolution

    def tell(
        self, conn: Driver, found: Sequence[Join | Refusal], starts: Sequence[int] = ()
    ) -> tuple[Step, ...]:
        """Return the steps of joins and refusals; with ``starts``, as walked from there."""
        evidence = _read_evidence(conn, {one.link_id for one in found})
        steps = [self._step(one, evidence[one.link_id]) for one in found]
        for position, start in enumerate(starts):
            if found[position].strong != start:
                step = steps[position]
                steps[position] = replace(step, strong=step.weak, weak=step.strong)
        return tuple(steps)

    def _step(self, found: Join | Refusal, evidence: Evidence) -> Step:
        rule = found.rule if isinstance(found, Join) else found.reason
        return Step(self._name(found.strong), self._name(found.weak), rule, found.at, evidence)

    def _name(self, node_id: int) -> Identifier:
        node = self.nodes[node_id]
        return Identifier(node.type, node.value)


def explain(
    conn: Driver, rules: Rules, ours: Sequence[int], theirs: Sequence[int], *, same: bool
) -> Explanation:
    """Explain how the nodes ``ours`` of one profile relate to ``theirs`` of another, or the same.

    The first node of each is the one asked for. ``same`` says what is stored.
    """
    component = _replay(conn, rules, [*ours, *theirs])
    resolution = component.resolution
    if same:
        path = find_path(resolution.joins, ours[0], theirs[0])
        joins, starts = [join for _, join in path], [start for start, _ in path]
        return Explanation(True, component.tell(conn, joins, starts))
    withheld = list_withheld(resolution.joins, resolution.refusals, set(ours), set(theirs))
    return Explanation(False, (), component.tell(conn, withheld))


def list_withheld(
    joins: Iterable[Join], refusals: Iterable[Refusal], left: set[int], right: set[int]
) -> list[Refusal]:
    """Return the refusals that keep two people apart, in their order. Pure.

    Those of a node of one to the other; of a node to one side that the other holds by a join; and
    those of a node to both sides, as of an identifier that is nobody's.
    """
    partners: dict[int, set[int]] = {}
    for join in joins:
        partners.setdefault(join.strong, set()).add(join.weak)
        partners.setdefault(join.weak, set()).add(join.strong)
    found = list(refusals)
    refused = [{one.weak for one in found if one.strong in side} for side in (left, right)]
    to_both = refused[0] & refused[1]

    def concerns(refusal: Refusal) -> bool:
        for claimants, holders in ((left, right), (right, left)):
            if refusal.strong in claimants and (
                refusal.weak in holders
                or refusal.weak in to_both
                or not holders.isdisjoint(partners.get(refusal.weak, ()))
            ):
                return True
        return False

    return [refusal for refusal in found if concerns(refusal)]


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
    return list(component.tell(conn, concerned))


def _replay(conn: Driver, rules: Rules, node_ids: Sequence[int]) -> _Component:
    nodes, links = load_facts(conn, rules, node_ids)
    return _Component(nodes, resolve(nodes.values(), links, rules))


def _read_evidence(conn: Driver, link_ids: Collection[int]) -> dict[int, Evidence]:
    if not link_ids:
        return {}
    rows = conn.execute(
        """SELECT l.link_id, l.first_message_id, s.source_id
             FROM links l LEFT JOIN sources s ON s.number = l.first_source_number
            WHERE l.link_id = ANY(%b)""",
        (sorted(link_ids),),
    ).fetchall()
    return {row[0]: Evidence(row[1] or None, row[2]) for row in rows}


def list_changes(conn: Driver, node_ids: Sequence[int]) -> list[Mapping[str, Any]]:
    """Return what happened to every profile that these nodes ever named, oldest first.

    A merge is written down for whoever takes in the other, a decision for everybody it concerned;
    so whoever is parted again finds both.
    """
    rows = conn.execute(
        """WITH mine AS (SELECT profile_id FROM nodes WHERE node_id = ANY(%b)),
           found AS (
               SELECT c.* FROM mine JOIN profile_changes c USING (profile_id)
                UNION
               SELECT c.* FROM mine
                 JOIN profile_changes c ON c.details ->> 'from' = mine.profile_id)
           SELECT f.profile_id, f.change, f.details, f.at
             FROM (SELECT DISTINCT ON (batch_id, change, details) * FROM found
                    ORDER BY batch_id, change, details, change_no) f
            ORDER BY f.change_no""",
        (sorted(node_ids),),
    ).fetchall()
    return [
        {"profile_id": row[0], "change": row[1], "details": row[2], "at": row[3]} for row in rows
    ]


def list_blocked(conn: Driver, blocked: Identifier, node_ids: Sequence[int]) -> list[Step]:
    """Return by which events a blocked identifier would belong to some nodes."""
    rows = conn.execute(
        """SELECT a.type, a.value, r.at, r.link_id
             FROM nodes b
             JOIN refusals r ON r.node_b = b.node_id AND r.reason = 'blocked'
             JOIN nodes a ON a.node_id = r.node_a
            WHERE b.type = %s AND b.value = %s AND b.variant = '' AND r.node_a = ANY(%s)
            ORDER BY r.at, r.link_id""",
        (*blocked, sorted(node_ids)),
    ).fetchall()
    evidence = _read_evidence(conn, {row[3] for row in rows})
    return [
        Step(Identifier(row[0], row[1]), blocked, "blocked", row[2], evidence[row[3]])
        for row in rows
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
            "message_id": row[7] or None,
            "source_id": row[8],
        }
        for row in rows
    ]
