"""The ledger's mirror in DuckDB: where rules, exports and SQL find memberships and tag values.

The mirror follows the ledger's changes by their number. It is equal to a replay of them, so a file
that was lost, or left behind by a crash between the two commits, catches up from where it stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import duckdb
import pyarrow as pa

from cdp.segments.segments_store import Segment
from cdp.storage.registered_engine import registered

Duck = duckdb.DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Applied:
    """How far the feed has come: the newest batch, and what that means to the outside."""

    seq: int
    as_of: datetime | None
    positions: Mapping[str, Mapping[int, int]]


_CHANGES_AT_A_TIME = 500_000

NOTHING_APPLIED = Applied(0, None, {})

_READ_MEMBERSHIP_CHANGES = """
SELECT change_no, segment, profile_no, profile_id, change, "at", cause, version
  FROM membership_changes WHERE change_no > {after} AND change_no <= {until} ORDER BY change_no
"""
_READ_TAG_CHANGES = """
SELECT change_no, key, profile_no, profile_id, value::text AS value, "at", version
  FROM tag_changes WHERE change_no > {after} AND change_no <= {until} ORDER BY change_no
"""

_REPLAY_MEMBERSHIPS = """
CREATE OR REPLACE TEMP TABLE newest_changes AS
SELECT segment, profile_no, max_by(profile_id, change_no) AS profile_id,
       max_by(change, change_no) AS change, max_by("at", change_no) AS "at",
       max_by(version, change_no) AS version
  FROM incoming GROUP BY segment, profile_no;
DELETE FROM core.memberships AS m USING newest_changes AS n
 WHERE m.segment = n.segment AND m.profile_no = n.profile_no;
INSERT INTO core.memberships (segment, profile_no, profile_id, entered_at, version)
SELECT segment, profile_no, profile_id, "at", version FROM newest_changes WHERE change = 'entered';
INSERT INTO core.membership_changes
       (change_no, segment, profile_no, profile_id, change, "at", cause, version)
SELECT change_no, segment, profile_no, profile_id, change, "at", cause, version FROM incoming;
"""
_REPLAY_TAGS = """
CREATE OR REPLACE TEMP TABLE newest_changes AS
SELECT key, profile_no, arg_max_null(profile_id, change_no) AS profile_id,
       arg_max_null(value, change_no) AS value, arg_max_null("at", change_no) AS "at",
       arg_max_null(version, change_no) AS version
  FROM incoming GROUP BY key, profile_no;
DELETE FROM core.tag_values AS v USING newest_changes AS n
 WHERE v.key = n.key AND v.profile_no = n.profile_no;
INSERT INTO core.tag_values (key, profile_no, profile_id, value, "at", version)
SELECT key, profile_no, profile_id, value, "at", version FROM newest_changes
 WHERE value IS NOT NULL;
"""


def read_mirror(duck: Duck) -> tuple[int, int]:
    """Return the newest change in the mirror, and the batch that the ledger had come to then."""
    row = duck.execute("SELECT change_no, seq FROM core.ledger_mirror").fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def mark_mirror(duck: Duck, change_no: int, seq: int) -> None:
    """Write down how far the mirror has come. Inside the transaction of the changes."""
    duck.execute("DELETE FROM core.ledger_mirror")
    duck.execute("INSERT INTO core.ledger_mirror VALUES (?, ?)", [change_no, seq])


def catch_up(
    duck: Duck, libpq_url: str, change_no: int, seq: int, read_dropped: Callable[[], int]
) -> None:
    """Replay the ledger's changes up to ``change_no``, which are committed, into the mirror.

    ``read_dropped`` returns the change up to which retention has cut the ledger by then.
    """
    after, seen_seq = read_mirror(duck)
    if (after, seen_seq) == (change_no, seq):
        return
    if after > change_no:
        # The ledger went back in time: a backup was restored.
        clear(duck)
        after = 0
    if after < change_no:
        dropped = read_dropped()
        if after < dropped:
            # What it has not heard yet may never be told: that a value is gone.
            clear(duck)
            after = 0
        _replay(duck, libpq_url, after, change_no)
        while after < (cut := read_dropped()) and cut != dropped:
            dropped, after = cut, 0
            clear(duck)
            _replay(duck, libpq_url, after, change_no)
    mark_mirror(duck, change_no, seq)


def _replay(duck: Duck, libpq_url: str, after: int, until: int) -> None:
    """Replay the changes (after, until] in pieces: a long history must not be held in memory."""
    with closing(adbc.connect(libpq_url)) as connection, connection.cursor() as cursor:
        for start in range(after, until, _CHANGES_AT_A_TIME):
            span = {"after": start, "until": min(until, start + _CHANGES_AT_A_TIME)}
            for query, replay in (
                (_READ_MEMBERSHIP_CHANGES, _REPLAY_MEMBERSHIPS),
                (_READ_TAG_CHANGES, _REPLAY_TAGS),
            ):
                cursor.execute(query.format(**span))
                with registered(duck, "incoming", cursor.fetch_arrow_table()):
                    duck.execute(replay)


def clear(duck: Duck) -> None:
    """Empty the mirror, so that the next ``catch_up`` makes it anew."""
    for table in ("memberships", "membership_changes", "tag_values", "ledger_mirror"):
        duck.execute(f"DELETE FROM core.{table}")


def fetch(duck: Duck, sql: str, params: Any = None) -> pa.Table:
    """Return the rows of a SELECT inside the writer's transaction as an Arrow table."""
    # A statement before it may still hold its result.
    duck.complete()
    return duck.sql(sql, params=params).to_arrow_table()


def read_applied(duck: Duck) -> Applied:
    """Return how far the feed has come, as the writer's transaction sees it."""
    found = fetch(duck, "SELECT seq, positions, as_of FROM core.applied")
    row: dict[str, Any] = found.to_pylist()[0]
    positions = {
        log: {int(partition): offset for partition, offset in by_partition.items()}
        for log, by_partition in json.loads(row["positions"]).items()
    }
    return Applied(row["seq"], row["as_of"], positions)


def write_segments(duck: Duck, segments: Sequence[Segment]) -> None:
    """Mirror the definitions, when they are not the ones that are there."""
    columns = ("key", "name", "description", "version", "created_at", "updated_at")
    rows = [{name: getattr(each, name) for name in columns} for each in segments]
    listed = ", ".join(columns)
    there = fetch(duck, f"SELECT {listed} FROM core.segments ORDER BY key")
    if rows == there.to_pylist():
        return
    duck.execute("DELETE FROM core.segments")
    if rows:
        with registered(duck, "incoming_segments", pa.Table.from_pylist(rows)):
            duck.execute(
                f"INSERT INTO core.segments ({listed}) SELECT {listed} FROM incoming_segments"
            )
