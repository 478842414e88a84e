"""The ledger in Postgres: who is in which segment, which value each tag has, and every change.

Changes are numbered by ``refresh_head`` under the refresh lock, and the lock is let go after the
commit: so numbers are gapless, in commit order, and a reader that has seen number n has seen
everything below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from cdp.storage.database import Driver

_REFRESH_LOCK = 7263543

MEMBERSHIP_CHANGE_COLUMNS = (
    "change_no", "segment", "profile_no", "profile_id", "change", "at", "cause", "version",
)  # fmt: skip
TAG_CHANGE_COLUMNS = (
    "change_no", "key", "profile_no", "profile_id", "value", "at", "cause", "version",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RefreshHead:
    """How far memberships and tag values have come."""

    seq: int
    """The newest batch whose effects are in them."""
    change_no: int
    """The newest change."""
    evaluated_at: datetime | None
    """The ``now`` of the last evaluation; ``None`` before the first."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What the batches after the head say."""

    profiles: list[int]
    merged: list[int]
    """Profiles, by the node that names them, that absorbed another or were absorbed."""
    is_complete: bool
    """False when nobody knows who was touched: batches are missing, or rates changed."""


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """One row of what consumers follow."""

    change_no: int
    profile_id: str
    change: str
    at: datetime
    cause: str
    version: int


def take_refresh_lock(connection: Driver) -> bool:
    """Become the one evaluator until this transaction ends; ``False`` when there is another.

    The lock lives in the connection that writes: who loses one loses the other.
    """
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_REFRESH_LOCK,)).fetchone()
    assert row is not None
    return bool(row[0])


def read_head(connection: Driver) -> RefreshHead:
    """Return how far the ledger has come."""
    row = connection.execute("SELECT seq, change_no, evaluated_at FROM refresh_head").fetchone()
    assert row is not None
    return RefreshHead(*row)


def move_head(connection: Driver, head: RefreshHead) -> None:
    """Write down how far the ledger has come. The caller holds the refresh lock."""
    connection.execute(
        "UPDATE refresh_head SET seq = %s, change_no = %s, evaluated_at = %s",
        (head.seq, head.change_no, head.evaluated_at),
    )


def read_touched(connection: Driver, after: int, until: int) -> Touched:
    """Return which profiles the batches (after, until] touched, and which of them merged."""
    # An order touches everybody whom any report of it named: its buyer may have changed. An account
    # touches everybody who was ever said to belong to it.
    rows = connection.execute(
        """SELECT touched FROM batches, unnest(profiles) AS touched
            WHERE seq > %(after)s AND seq <= %(until)s
           UNION SELECT m.profile_no
             FROM orders o
             JOIN order_reports r ON r.scope = o.scope AND r.order_id = o.order_id
             JOIN node_profiles m ON m.node_id = r.node_id
            WHERE o.order_no IN (SELECT unnest(orders) FROM batches
                                  WHERE seq > %(after)s AND seq <= %(until)s)
           UNION SELECT np.profile_no
             FROM account_members m
             JOIN node_profiles np ON np.node_id = m.node_id
            WHERE m.account_no IN (SELECT unnest(accounts) FROM batches
                                    WHERE seq > %(after)s AND seq <= %(until)s)""",
        {"after": after, "until": until},
    ).fetchall()
    count = connection.execute(
        "SELECT count(*) FILTER (WHERE NOT rates) FROM batches WHERE seq > %s AND seq <= %s",
        (after, until),
    ).fetchone()
    merged = connection.execute(
        """SELECT DISTINCT n.node_id
             FROM batches b, jsonb_array_elements(b.merges) AS merge,
                  LATERAL (VALUES (merge ->> 'from'), (merge ->> 'into')) AS side (profile_id)
             JOIN nodes n ON n.profile_id = side.profile_id
            WHERE b.seq > %s AND b.seq <= %s AND b.merges <> '[]'""",
        (after, until),
    ).fetchall()
    assert count is not None
    return Touched(
        [row[0] for row in rows], [row[0] for row in merged], int(count[0]) == until - after
    )


def write_membership_changes(connection: Driver, changes: pa.Table) -> None:
    """Append changes, given with their numbers, and bring ``memberships`` to what they say.

    Raises ``LedgerDiffers`` when somebody enters who is in, or leaves who is not: then the changes
    were computed from something else than this ledger.
    """
    if not changes.num_rows:
        return
    _copy(connection, "membership_changes", changes.select(list(MEMBERSHIP_CHANGE_COLUMNS)))
    first = changes["change_no"][0].as_py()
    left = connection.execute(
        """DELETE FROM memberships m USING membership_changes c
            WHERE c.change_no >= %s AND c.change = 'left'
              AND m.segment = c.segment AND m.profile_id = c.profile_id""",
        (first,),
    ).rowcount
    entered = connection.execute(
        """INSERT INTO memberships (segment, profile_no, profile_id, entered_at, version)
           SELECT segment, profile_no, profile_id, at, version FROM membership_changes
            WHERE change_no >= %s AND change = 'entered'
               ON CONFLICT (segment, profile_id) DO NOTHING""",
        (first,),
    ).rowcount
    if left + entered != changes.num_rows:
        raise LedgerDiffers("memberships are not what the changes were computed from")


def write_tag_changes(connection: Driver, changes: pa.Table) -> None:
    """Append changes, given with their numbers, and bring ``tag_values`` to what they say."""
    if not changes.num_rows:
        return
    _copy(connection, "tag_changes", changes.select(list(TAG_CHANGE_COLUMNS)))
    first = changes["change_no"][0].as_py()
    connection.execute(
        """DELETE FROM tag_values v USING tag_changes c
            WHERE c.change_no >= %s AND c.value IS NULL
              AND v.key = c.key AND v.profile_id = c.profile_id""",
        (first,),
    )
    connection.execute(
        """INSERT INTO tag_values AS v (key, profile_no, profile_id, value, at, version)
           SELECT key, profile_no, profile_id, value, at, version FROM tag_changes
            WHERE change_no >= %s AND value IS NOT NULL
               ON CONFLICT (key, profile_id) DO UPDATE
              SET profile_no = excluded.profile_no, value = excluded.value, at = excluded.at,
                  version = excluded.version""",
        (first,),
    )


class LedgerDiffers(Exception):
    """The mirror in DuckDB is not equal to the ledger; it must be made anew from the changes."""


def list_changes(
    connection: Driver, segment: str, *, after: int, limit: int
) -> list[MembershipChange]:
    """Return changes of a segment in order, after the change ``after``."""
    rows = connection.execute(
        """SELECT change_no, profile_id, change, at, cause, version FROM membership_changes
            WHERE segment = %s AND change_no > %s ORDER BY change_no LIMIT %s""",
        (segment, after, limit),
    )
    return [MembershipChange(*row) for row in rows]


def find_newest_change(connection: Driver, segment: str, *, until: int) -> int:
    """Return the newest change of a segment up to the change ``until``; 0 when there is none."""
    row: Any = connection.execute(
        """SELECT coalesce(max(change_no), 0) FROM membership_changes
            WHERE segment = %s AND change_no <= %s""",
        (segment, until),
    ).fetchone()
    return int(row[0])


def count_members(connection: Driver, segment: str) -> int:
    """Return the size of a segment."""
    row: Any = connection.execute(
        "SELECT count(*) FROM memberships WHERE segment = %s", (segment,)
    ).fetchone()
    return int(row[0])


def _copy(connection: Driver, table: str, rows: pa.Table) -> None:
    """COPY an Arrow table as CSV: rows never become Python objects."""
    sink = pa.BufferOutputStream()
    options = pa_csv.WriteOptions(include_header=False, quoting_style="needed")
    pa_csv.write_csv(rows, sink, options)
    columns = ", ".join(rows.column_names)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT csv)") as copy,
    ):
        copy.write(sink.getvalue().to_pybytes())
