"""Proves on the live data what identity promises: batches add up to the whole; invariants hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cdp.identity.rebuild_store import Partition, read_partition, recompute_all
from cdp.identity.rules import Rules
from cdp.storage.database import Driver

_MOST_EXAMPLES = 5
# A profile that never joined says ``None``, which is something else than no profile.
_ABSENT = object()


@dataclass(slots=True)
class Finding:
    """One promise: how much was looked at, how much of it is wrong, and some of that."""

    promise: str
    compared: int
    wrong: int = 0
    examples: list[str] = field(default_factory=list)
    """Profile ids and numbers of nodes; no personal values."""


def check_identity(conn: Driver, rules: Rules) -> list[Finding]:
    """Check everything, under the rules in force. ``conn`` is in a snapshot."""
    stored, rebuilt = read_partition(conn), recompute_all(conn, rules)
    return [
        *compare_partitions(stored, rebuilt),
        _check_spans(conn),
        _check_profiles(conn),
        _check_unique(conn, rules),
        _check_ids(conn),
        _check_refusals(conn),
    ]


def compare_partitions(stored: Partition, rebuilt: Partition) -> list[Finding]:
    """Compare who is who as kept up to date with who is who from scratch. Pure."""
    return [
        _compare("identifiers belong to whom a rebuild says", stored.owners, rebuilt.owners),
        _compare("profiles joined when a rebuild says", stored.joined_at, rebuilt.joined_at),
        _compare(
            "refusals are those of a rebuild",
            dict.fromkeys(stored.refusals, True),
            dict.fromkeys(rebuilt.refusals, True),
        ),
    ]


def _compare(promise: str, ours: Mapping[Any, Any], theirs: Mapping[Any, Any]) -> Finding:
    names = ours.keys() | theirs.keys()
    wrong = sorted(
        _type_of(name) for name in names if ours.get(name, _ABSENT) != theirs.get(name, _ABSENT)
    )
    return Finding(promise, len(names), len(wrong), wrong[:_MOST_EXAMPLES])


def _type_of(name: Any) -> str:
    """The type of the identifier that a name starts with: values are personal."""
    first = name[0]
    return first if isinstance(first, str) else str(first[0])


def _check_spans(conn: Driver) -> Finding:
    """Invariant 4: every moment of an identifier belongs to exactly one live profile."""
    rows = conn.execute(
        """SELECT n.node_id
             FROM nodes n
             LEFT JOIN (
                 SELECT s.node_id,
                        bool_and(p.profile_no IS NOT NULL
                                 AND s.since = coalesce(s.before, '-infinity')
                                 AND s.since < s.until) AS is_whole,
                        max(s.until) AS until
                   FROM (SELECT *, lag(until) OVER (PARTITION BY node_id ORDER BY since) AS before
                           FROM node_profiles) s
                   LEFT JOIN profiles p USING (profile_no)
                  GROUP BY s.node_id) w USING (node_id)
            WHERE NOT coalesce(w.is_whole AND w.until = 'infinity', false)"""
    )
    return _finding(
        "every moment of an identifier belongs to one live profile",
        _count(conn, "SELECT count(*) FROM nodes"),
        (f"node {row[0]}" for row in rows),
    )


def _check_profiles(conn: Driver) -> Finding:
    rows = conn.execute(
        """SELECT p.profile_id FROM profiles p
            WHERE NOT EXISTS (SELECT FROM node_profiles s WHERE s.profile_no = p.profile_no)
               OR NOT EXISTS (SELECT FROM nodes n WHERE n.node_id = p.profile_no
                                                    AND n.profile_id = p.profile_id)"""
    )
    return _finding(
        "every profile has identifiers and is named by one of them",
        _count(conn, "SELECT count(*) FROM profiles"),
        (row[0] for row in rows),
    )


def _check_unique(conn: Driver, rules: Rules) -> Finding:
    """Invariant 5: one value of a unique type at a time, save for recorded exceptions."""
    types = [row[0] for row in conn.execute("SELECT DISTINCT type FROM nodes")]
    unique = [name for name in types if rules.rule_of(name).unique]
    rows = conn.execute(
        """SELECT DISTINCT p.profile_id
             FROM nodes n
             JOIN node_profiles s USING (node_id)
             JOIN node_profiles o ON o.profile_no = s.profile_no AND o.node_id > s.node_id
                                 AND o.since < s.until AND s.since < o.until
             JOIN nodes m ON m.node_id = o.node_id AND m.type = n.type AND m.variant = ''
             JOIN profiles p ON p.profile_no = s.profile_no
            WHERE n.type = ANY(%s) AND n.variant = ''
              AND NOT EXISTS (
                  SELECT FROM links l JOIN node_profiles e ON e.node_id = ANY (l.node_ids)
                   WHERE l.component_id = n.component_id AND l.kind = 'exception'
                     AND l.retracted_at IS NULL AND e.profile_no = s.profile_no)""",
        (unique,),
    )
    return _finding(
        "no profile holds two values of a unique type",
        _count(conn, "SELECT count(*) FROM nodes WHERE type = ANY(%s)", unique),
        (row[0] for row in rows),
    )


def _check_ids(conn: Driver) -> Finding:
    """Invariant 12: every profile id ever issued leads to a live profile in one hop."""
    rows = conn.execute(
        """SELECT i.profile_id
             FROM (SELECT profile_id FROM nodes UNION SELECT profile_id FROM profile_changes) i
             LEFT JOIN nodes n USING (profile_id)
             LEFT JOIN node_profiles s ON s.node_id = n.node_id AND s.since = '-infinity'
             LEFT JOIN profiles p ON p.profile_no = s.profile_no
            WHERE p.profile_no IS NULL"""
    )
    return _finding(
        "every profile id ever issued leads to a live profile",
        _count(
            conn,
            """SELECT count(*) FROM (SELECT profile_id FROM nodes
                                      UNION SELECT profile_id FROM profile_changes) i""",
        ),
        (row[0] for row in rows),
    )


def _check_refusals(conn: Driver) -> Finding:
    rows = conn.execute(
        """SELECT r.refusal_id FROM refusals r LEFT JOIN links l USING (link_id)
            WHERE l.link_id IS NULL OR l.retracted_at IS NOT NULL"""
    )
    return _finding(
        "every refusal names a fact that stands",
        _count(conn, "SELECT count(*) FROM refusals"),
        (f"refusal {row[0]}" for row in rows),
    )


def _finding(promise: str, compared: int, wrong: Iterable[str]) -> Finding:
    found = list(wrong)
    return Finding(promise, compared, len(found), found[:_MOST_EXAMPLES])


def _count(conn: Driver, statement: str, *parameters: object) -> int:
    row = conn.execute(statement, parameters).fetchone()
    assert row is not None
    return int(row[0])
