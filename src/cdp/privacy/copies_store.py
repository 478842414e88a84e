"""Copies of what people sent or were decided on, in tables that know no people.

Each table is read in pieces, and each piece is a transaction of its own: read again after a crash,
it is without what was removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from cdp.privacy.traces import Traces
from cdp.storage.database import Database, Driver, driver

_PIECE = 2000

_Row = tuple[Any, ...]


def remove_copies(database: Database, traces: Traces, profile_ids: Sequence[str]) -> dict[str, int]:
    """Remove every copy that holds a trace; return how many per table."""
    counts = {
        "rejected": _remove(database, "rejected", "rejected_id", ("raw", "shared"), traces),
        "dead_letters": _remove(database, "dead_letters", "dead_letter_id", ("value",), traces),
        "import_rejected": _remove_import_rows(database, traces),
        "audit": _rewrite(database, "audit", "audit_id", traces, _blank_audit),
        "identity_decisions": _rewrite(
            database, "identity_decisions", "decision_no", traces, _blank_decision
        ),
    }
    with database.transaction() as connection:
        tx = driver(connection)
        counts["tag_moves"] = tx.execute(
            """DELETE FROM tag_moves WHERE profile_no IN (
                   SELECT profile_no FROM tag_changes WHERE profile_id = ANY(%s))""",
            (list(profile_ids),),
        ).rowcount
        # The last change of a tag says that it is gone: whoever follows must hear of it.
        counts["tag_changes"] = tx.execute(
            "DELETE FROM tag_changes WHERE profile_id = ANY(%s) AND value IS NOT NULL",
            (list(profile_ids),),
        ).rowcount
    return counts


def _remove(
    database: Database, table: str, key: str, columns: Sequence[str], traces: Traces
) -> int:
    after, removed = 0, 0
    while True:
        with database.transaction() as connection:
            tx = driver(connection)
            rows: list[_Row] = tx.execute(
                f"SELECT {key}, {', '.join(columns)} FROM {table} WHERE {key} > %s"
                f" ORDER BY {key} LIMIT %s",
                (after, _PIECE),
            ).fetchall()
            found = [row[0] for row in rows if any(raw and traces.are_in(raw) for raw in row[1:])]
            removed += tx.execute(f"DELETE FROM {table} WHERE {key} = ANY(%s)", (found,)).rowcount
        if not rows:
            return removed
        after = rows[-1][0]


def _remove_import_rows(database: Database, traces: Traces) -> int:
    after, removed = ("", 0), 0
    while True:
        with database.transaction() as connection:
            tx = driver(connection)
            rows: list[_Row] = tx.execute(
                """SELECT import_id, row_number, raw FROM import_rejected
                    WHERE (import_id, row_number) > (%s, %s)
                    ORDER BY import_id, row_number LIMIT %s""",
                (*after, _PIECE),
            ).fetchall()
            found = [row[:2] for row in rows if traces.are_in(row[2])]
            removed += tx.execute(
                """DELETE FROM import_rejected r
                    USING unnest(%s::text[], %s::bigint[]) AS f (import_id, row_number)
                    WHERE r.import_id = f.import_id AND r.row_number = f.row_number""",
                ([one[0] for one in found], [one[1] for one in found]),
            ).rowcount
        if not rows:
            return removed
        after = rows[-1][:2]


def _rewrite(
    database: Database,
    table: str,
    key: str,
    traces: Traces,
    blank: Callable[[Driver, int, Traces], None],
) -> int:
    """Let ``blank`` rewrite the rows of ``table`` whose text holds a trace."""
    after, count = 0, 0
    while True:
        with database.transaction() as connection:
            tx = driver(connection)
            rows: list[_Row] = tx.execute(
                f"SELECT {key}, row_to_json(t)::text FROM {table} t WHERE {key} > %s"
                f" ORDER BY {key} LIMIT %s",
                (after, _PIECE),
            ).fetchall()
            for number, text in rows:
                if traces.are_in(text.encode()):
                    blank(tx, number, traces)
                    count += 1
        if not rows:
            return count
        after = rows[-1][0]


def _blank_audit(tx: Driver, number: int, traces: Traces) -> None:
    """Who did it, when, and what stays; of whom does not."""
    row = tx.execute("SELECT subject FROM audit WHERE audit_id = %s", (number,)).fetchone()
    assert row is not None
    subject = "erased" if traces.are_in(row[0].encode()) else row[0]
    tx.execute(
        "UPDATE audit SET subject = %s, details = '{\"erased\": true}' WHERE audit_id = %s",
        (subject, number),
    )


def _blank_decision(tx: Driver, number: int, traces: Traces) -> None:
    """A decision by hand stays as a line of what was decided, without the person's identifiers.

    A block names nobody, so it stays whole.
    """
    row = tx.execute(
        """SELECT kind, identifiers, reason, undone_reason FROM identity_decisions
            WHERE decision_no = %s""",
        (number,),
    ).fetchone()
    assert row is not None
    kind, identifiers, *reasons = row
    if kind == "block":
        return
    left = [one for one in identifiers if not traces.are_in(json.dumps(one).encode())]
    said = ["erased" if text and traces.are_in(text.encode()) else text for text in reasons]
    tx.execute(
        """UPDATE identity_decisions SET identifiers = %s, reason = %s, undone_reason = %s
            WHERE decision_no = %s""",
        (Jsonb(left), *said, number),
    )
