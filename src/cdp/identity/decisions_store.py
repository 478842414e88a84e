"""Decisions by hand in Postgres: who decided what, why, and whether it still stands."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from cdp.identity.facts import LinkKind
from cdp.model import Identifier
from cdp.storage.database import Driver

DecisionKind = Literal["merge", "unmerge", "block"]
_COLUMNS = """decision_no, decision_id, kind, identifiers, actor, reason, made_at,
              undone_at, undone_by, undone_reason"""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision as it is kept."""

    decision_no: int
    decision_id: str
    kind: DecisionKind
    identifiers: tuple[Identifier, ...]
    actor: str
    reason: str
    made_at: datetime
    undone_at: datetime | None
    undone_by: str | None
    undone_reason: str | None


def make_decision_id() -> str:
    """Return a new id."""
    return f"dec_{secrets.token_hex(10)}"


def insert_decision(
    conn: Driver,
    decision_id: str,
    kind: DecisionKind,
    identifiers: Iterable[Identifier],
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    """Keep a decision."""
    conn.execute(
        """INSERT INTO identity_decisions (decision_id, kind, identifiers, actor, reason, made_at)
           VALUES (%s, %s, %s, %s, %s, %s)""",
        (decision_id, kind, Jsonb(_to_document(identifiers)), actor, reason, now),
    )


def insert_fact(
    conn: Driver,
    decision_id: str,
    kind: LinkKind,
    node_ids: Sequence[int],
    component_id: int,
    now: datetime,
) -> int:
    """Make a decision a fact for the replay, in a component of its nodes; return the link's id."""
    row = conn.execute(
        """INSERT INTO links (link_key, kind, node_ids, component_id, first_at, first_message_id,
                              active_days)
           VALUES (%s, %s, %s, %s, %s, %s, '{}') RETURNING link_id""",
        (decision_id, kind, list(node_ids), component_id, now, decision_id),
    ).fetchone()
    assert row is not None
    return int(row[0])


def retract_fact(conn: Driver, decision_id: str, now: datetime) -> list[int]:
    """Withdraw the fact of a decision; return its nodes."""
    row = conn.execute(
        "UPDATE links SET retracted_at = %s WHERE link_key = %s RETURNING node_ids",
        (now, decision_id),
    ).fetchone()
    return [] if row is None else list(row[0])


def find_decision(conn: Driver, decision_id: str) -> Decision | None:
    """Return a decision, locked until the transaction ends, or ``None``."""
    row = conn.execute(
        f"SELECT {_COLUMNS} FROM identity_decisions WHERE decision_id = %s FOR UPDATE",
        (decision_id,),
    ).fetchone()
    return None if row is None else _read(row)


def find_standing(
    conn: Driver, kind: DecisionKind, identifiers: Iterable[Identifier]
) -> Decision | None:
    """Return the newest decision of this kind about just these that was not undone."""
    row = conn.execute(
        f"""SELECT {_COLUMNS} FROM identity_decisions
             WHERE kind = %s AND undone_at IS NULL AND identifiers = %s
             ORDER BY decision_no DESC LIMIT 1""",
        (kind, Jsonb(_to_document(identifiers))),
    ).fetchone()
    return None if row is None else _read(row)


def mark_undone(conn: Driver, decision_id: str, *, actor: str, reason: str, now: datetime) -> None:
    """Say that a decision stands no longer."""
    conn.execute(
        """UPDATE identity_decisions SET undone_at = %s, undone_by = %s, undone_reason = %s
            WHERE decision_id = %s""",
        (now, actor, reason, decision_id),
    )


def list_decisions(conn: Driver, *, below: int | None, limit: int) -> list[Decision]:
    """Return decisions, the newest first, with numbers below ``below``."""
    rows = conn.execute(
        f"""SELECT {_COLUMNS} FROM identity_decisions
             WHERE %s::bigint IS NULL OR decision_no < %s
             ORDER BY decision_no DESC LIMIT %s""",
        (below, below, limit),
    ).fetchall()
    return [_read(row) for row in rows]


def has_merge_of(conn: Driver, node_id: int, component_id: int) -> bool:
    """Whether a merge by hand that stands names this node."""
    row = conn.execute(
        """SELECT EXISTS (SELECT FROM links
                           WHERE component_id = %s AND kind IN ('merge', 'exception')
                             AND retracted_at IS NULL AND %s = ANY (node_ids))""",
        (component_id, node_id),
    ).fetchone()
    assert row is not None
    return bool(row[0])


def tell(
    conn: Driver,
    profile_ids: Iterable[str],
    change: str,
    details: Mapping[str, Any],
    batch_id: int,
    now: datetime,
) -> None:
    """Write a line into the history of each profile."""
    conn.execute(
        """INSERT INTO profile_changes (profile_id, change, details, batch_id, at)
           SELECT p, %s, %s, %s, %s FROM unnest(%s::text[]) AS p""",
        (change, Jsonb(dict(details)), batch_id, now, sorted(profile_ids)),
    )


def _to_document(identifiers: Iterable[Identifier]) -> list[dict[str, str]]:
    return [{"type": one.type, "value": one.value} for one in sorted(identifiers)]


def _read(row: tuple[Any, ...]) -> Decision:
    identifiers = tuple(Identifier(one["type"], one["value"]) for one in row[3])
    return Decision(row[0], row[1], row[2], identifiers, *row[4:])
