"""The queue of suggestions in Postgres: what was found, and what people made of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from cdp.identity.suggestions.plan_queue import (
    Kept,
    People,
    Proposal,
    QueuePlan,
    Status,
    plan_queue,
)
from cdp.storage.database import Driver

MOST_OPEN = 100_000
"""Suggestions kept open; of more, the likeliest."""
_STALE_AFTER = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Found:
    """A proposal with all that is kept of it; ``evidence`` as JSON."""

    proposal: Proposal
    weight: float
    evidence: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One suggestion as it stands now."""

    number: int
    suggestion_id: str
    status: Status
    score: float
    weight: float
    evidence: list[dict[str, Any]]
    found_at: datetime
    seen_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None
    decision_id: str | None
    person_a: int | None
    """The profile that the one side is now."""
    person_b: int | None
    profile_a: str | None
    profile_b: str | None


# A side stands for whoever its node was first, as a profile id does. An acceptance whose merge was
# undone is a rejection by whoever undid it; an open suggestion about one person is none any more.
_STANDING = """
SELECT s.suggestion_no, s.suggestion_id,
       CASE WHEN s.status = 'accepted' AND d.undone_at IS NOT NULL THEN 'rejected'
            WHEN s.status = 'open' AND (a.profile_no = b.profile_no) IS NOT FALSE THEN 'stale'
            ELSE s.status END AS status,
       s.score, s.weight, s.evidence, s.found_at, s.seen_at,
       coalesce(d.undone_at, s.decided_at) AS decided_at,
       coalesce(d.undone_by, s.decided_by) AS decided_by,
       coalesce(d.undone_reason, s.reason) AS reason, s.decision_id,
       a.profile_no AS person_a, b.profile_no AS person_b,
       pa.profile_id AS profile_a, pb.profile_id AS profile_b, s.proofs
  FROM identity_suggestions s
  LEFT JOIN identity_decisions d ON d.decision_id = s.decision_id
  LEFT JOIN node_profiles a ON a.node_id = s.node_a AND a.since = '-infinity'
  LEFT JOIN node_profiles b ON b.node_id = s.node_b AND b.since = '-infinity'
  LEFT JOIN profiles pa ON pa.profile_no = a.profile_no
  LEFT JOIN profiles pb ON pb.profile_no = b.profile_no
"""
# The stored statuses from which a shown one can come.
_STORED = {
    "open": ["open"],
    "accepted": ["accepted"],
    "rejected": ["rejected", "accepted"],
    "stale": ["stale", "open"],
}


def list_suggestions(
    conn: Driver,
    *,
    status: Status,
    min_score: float,
    below: tuple[float, int] | None,
    limit: int,
) -> list[Suggestion]:
    """Return suggestions of a status, the likeliest first; ``below``: (score, number) of the last.

    For ``min_score`` 0 all.
    """
    score, number = below or (2.0, 0)
    rows = conn.execute(
        f"""SELECT * FROM ({_STANDING}
             WHERE s.status = ANY(%(stored)s) AND s.score >= %(least)s
               AND (s.score, s.suggestion_no) < (%(score)s, %(number)s)) AS standing
             WHERE status = %(status)s
             ORDER BY score DESC, suggestion_no DESC LIMIT %(limit)s""",
        {
            "stored": _STORED[status], "least": min_score, "score": score, "number": number,
            "status": status, "limit": limit,
        },
    ).fetchall()  # fmt: skip
    return [_read(row) for row in rows]


def find_suggestion(
    conn: Driver, suggestion_id: str, *, for_update: bool = False
) -> Suggestion | None:
    """Return one suggestion, or ``None``; locked until the transaction ends if so wished."""
    if for_update:
        conn.execute(
            "SELECT 1 FROM identity_suggestions WHERE suggestion_id = %s FOR UPDATE",
            (suggestion_id,),
        )
    row = conn.execute(f"{_STANDING} WHERE s.suggestion_id = %s", (suggestion_id,)).fetchone()
    return None if row is None else _read(row)


def mark_decided(
    conn: Driver,
    number: int,
    status: Status,
    *,
    actor: str,
    reason: str,
    now: datetime,
    decision_id: str | None = None,
) -> None:
    """Keep what somebody decided about a suggestion."""
    conn.execute(
        """UPDATE identity_suggestions
              SET status = %s, decided_by = %s, reason = %s, decided_at = %s, decision_id = %s
            WHERE suggestion_no = %s""",
        (status, actor, reason, now, decision_id, number),
    )


def list_kept(conn: Driver, people: Sequence[int] | None = None) -> list[Kept]:
    """Return all suggestions with who their sides are now; with ``people``, those about them."""
    about = ""
    if people is not None:
        about = """WHERE s.node_a IN (SELECT node_id FROM sides)
                      OR s.node_b IN (SELECT node_id FROM sides)"""
    rows = conn.execute(
        f"""WITH sides AS (SELECT node_id FROM node_profiles
                         WHERE profile_no = ANY(%s::bigint[]) AND since = '-infinity')
            SELECT suggestion_no, person_a, person_b, status, score, proofs
              FROM ({_STANDING} {about}) AS standing""",
        (list(people or ()),),
    ).fetchall()
    return [Kept(row[0], _pair(row[1], row[2]), row[3], row[4], frozenset(row[5])) for row in rows]


def retire(conn: Driver, numbers: Iterable[int]) -> None:
    """Let open suggestions be suggested no longer."""
    conn.execute(
        """UPDATE identity_suggestions SET status = 'stale'
            WHERE suggestion_no = ANY(%s::bigint[]) AND status = 'open'""",
        (sorted(numbers),),
    )


def replace_queue(conn: Driver, found: Sequence[Found], now: datetime) -> int:
    """Let what was found be the queue, all at once; return how many are open.

    Whoever decides meanwhile waits, and so do we for them.
    """
    conn.execute("LOCK TABLE identity_suggestions IN SHARE ROW EXCLUSIVE MODE")
    by_people = _read_owners(conn, found)
    kept = list_kept(conn)
    plan = plan_queue(
        [one.proposal._replace(people=people) for people, one in by_people.items()],
        kept,
        _list_apart(conn),
    )
    _carry_out(conn, plan, by_people, now)
    conn.execute(
        "DELETE FROM identity_suggestions WHERE status = 'stale' AND seen_at < %s",
        (now - _STALE_AFTER,),
    )
    return len(plan.add) + len(plan.renew)


def _read_owners(conn: Driver, found: Sequence[Found]) -> dict[People, Found]:
    """Return what was found by who its sides are now: people were merged while we compared."""
    nodes = sorted({node for one in found for node in one.proposal.people})
    rows = conn.execute(
        """SELECT node_id, profile_no FROM node_profiles
            WHERE node_id = ANY(%s::bigint[]) AND since = '-infinity'""",
        (nodes,),
    ).fetchall()
    owners: dict[int, int] = {row[0]: row[1] for row in rows}
    by_people: dict[People, Found] = {}
    for one in found:
        people = _pair(*(owners.get(node) for node in one.proposal.people))
        if people is not None:
            by_people.setdefault(people, one)
    return by_people


def _list_apart(conn: Driver) -> frozenset[People]:
    """Return who was parted by hand and is so still."""
    rows = conn.execute(
        """SELECT DISTINCT least(a.profile_no, b.profile_no), greatest(a.profile_no, b.profile_no)
             FROM links l
            CROSS JOIN LATERAL (SELECT node_id, place FROM
                                unnest(l.node_ids) WITH ORDINALITY AS one (node_id, place)) x
            CROSS JOIN LATERAL (SELECT node_id FROM unnest(l.node_ids) AS other (node_id)
                                 WHERE other.node_id <> x.node_id) y
             JOIN node_profiles a ON a.node_id = x.node_id AND a.until = 'infinity'
             JOIN node_profiles b ON b.node_id = y.node_id AND b.until = 'infinity'
            WHERE l.kind IN ('parted', 'detached') AND l.retracted_at IS NULL
              AND (l.kind = 'parted' OR x.place = 1) AND a.profile_no <> b.profile_no"""
    ).fetchall()
    return frozenset((row[0], row[1]) for row in rows)


def _carry_out(conn: Driver, plan: QueuePlan, found: Mapping[People, Found], now: datetime) -> None:
    retire(conn, plan.retire)
    with conn.cursor() as cursor:
        cursor.executemany(
            """UPDATE identity_suggestions
                  SET status = 'open', score = %s, weight = %s, evidence = %s, proofs = %s,
                      seen_at = %s, decided_at = NULL, decided_by = NULL, reason = NULL,
                      decision_id = NULL
                WHERE suggestion_no = %s""",
            [
                (*_write(found[proposal.people]), now, number)
                for number, proposal in plan.renew.items()
            ],
        )
        cursor.executemany(
            """INSERT INTO identity_suggestions
                      (score, weight, evidence, proofs, suggestion_id, node_a, node_b, found_at,
                       seen_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
               ON CONFLICT (node_a, node_b) DO NOTHING""",
            [
                (*_write(found[one.people]), f"sug_{secrets.token_hex(10)}", *one.people, now, now)
                for one in plan.add
            ],
        )


def _write(one: Found) -> tuple[object, ...]:
    proposal = one.proposal
    return proposal.score, one.weight, Jsonb(one.evidence), sorted(proposal.proofs)


def _pair(one: int | None, other: int | None) -> People | None:
    if one is None or other is None or one == other:
        return None
    return (one, other) if one < other else (other, one)


def _read(row: tuple[Any, ...]) -> Suggestion:
    return Suggestion(*row[:16])
