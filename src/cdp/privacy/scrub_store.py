"""Let what was deleted from Postgres be nowhere on its disk: pages, statistics, write-ahead log.

A deleted row stays readable in its page until the table is written anew (``VACUUM FULL``); its
values stay in the planner's statistics until they are; and everything ever written stands in the
write-ahead log until its segments are gone. Segments are removed rather than recycled, because a
recycled one keeps its old content until it is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from cdp.runtime.clock import format_time
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, Driver

_log = get_logger(__name__)

# Of what people are, said or did. Small ones are always written anew: they may hold rows that were
# changed or removed long before. Large ones when something was removed from them.
TABLES: tuple[str, ...] = (
    "nodes", "identifier_forms", "links", "refusals", "node_profiles", "profiles",
    "profile_changes", "identity_decisions", "identity_suggestions", "traits", "consents",
    "consent_statements", "service_events", "touch_facts", "shared_device_facts", "orders",
    "order_reports", "account_members", "manual_tag_values", "memberships", "tag_values",
    "tag_changes", "tag_moves", "rejected", "dead_letters", "imports", "import_rejected", "audit",
    "deliveries", "destination_rows", "privacy_jobs", "privacy_requests", "privacy_traces",
    "events", "log_records",
)  # fmt: skip
_SMALL_BYTES = 64 * 1024 * 1024
_LOCK_SECONDS = 5
_MOST_TRIES = 5

_LEAVES = """
SELECT c.oid::regclass::text, pg_total_relation_size(c.oid), root.relkind = 'p'
  FROM pg_class root
  JOIN LATERAL (SELECT root.oid WHERE root.relkind = 'r'
                UNION ALL SELECT relid FROM pg_partition_tree(root.oid) WHERE isleaf
                   AND root.relkind = 'p') AS leaf (oid) ON true
  JOIN pg_class c ON c.oid = leaf.oid
 WHERE root.oid = to_regclass(%s)
"""


class Busy(Exception):
    """Somebody holds a table for so long that it cannot be written anew now."""


@contextmanager
def open_scrubber(libpq_url: str) -> Iterator[Driver]:
    """A connection of its own: none of this can be done within a transaction."""
    with psycopg.connect(
        libpq_url,
        autocommit=True,
        connect_timeout=5,
        application_name="cdp-privacy",
        options=f"-c lock_timeout={_LOCK_SECONDS}s -c statement_timeout=0 -c timezone=UTC",
    ) as connection:
        yield connection


def rewrite_tables(conn: Driver, touched: Iterable[str]) -> int:
    """Write the tables anew from which something was removed; return how many.

    ``touched`` names tables, of partitioned ones the parts. Raises ``Busy``.
    """
    wanted = set(touched)
    count = 0
    for table in TABLES:
        for name, size, is_part in conn.execute(_LEAVES, (table,)).fetchall():
            # Rows of parts are never changed: only what was removed now can lie in them.
            if name in wanted or (size <= _SMALL_BYTES and not is_part):
                _rewrite(conn, name)
                count += 1
    return count


def _rewrite(conn: Driver, name: str) -> None:
    statement = sql.SQL("VACUUM (FULL) {}").format(_identify(name))
    for _ in range(_MOST_TRIES):
        try:
            conn.execute(statement)
        except psycopg.errors.LockNotAvailable:
            continue
        except psycopg.errors.UndefinedTable:
            return  # Retention has dropped its day.
        return
    raise Busy(name)


def _identify(name: str) -> sql.Identifier:
    return sql.Identifier(*(part.strip('"') for part in name.split(".")))


def forget_statistics(conn: Driver) -> bool:
    """Let the planner know nothing of values that are gone; return whether we may do that.

    They are counted anew at once: a planner without statistics is slow.
    """
    try:
        conn.execute(
            """DELETE FROM pg_statistic WHERE starelid IN (
                   SELECT t.oid FROM unnest(%s::text[]) AS name, LATERAL (
                          SELECT to_regclass(name)::oid
                          UNION ALL SELECT relid::oid FROM pg_partition_tree(to_regclass(name))
                          ) AS t (oid))""",
            (list(TABLES),),
        )
        conn.execute("VACUUM (FULL) pg_statistic")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable):
        return False
    for table in TABLES:
        if conn.execute("SELECT to_regclass(%s)", (table,)).fetchone() != (None,):
            conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
    return True


def is_within(conn: Driver, data_dir: Path) -> bool:
    """Whether this server's files lie in the data folder: it is the embedded one."""
    try:
        row = conn.execute("SELECT current_setting('data_directory')").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return False
    assert row is not None
    return Path(row[0]).resolve().is_relative_to(data_dir.resolve())


def drop_old_wal(conn: Driver) -> int:
    """Remove every segment of the write-ahead log of before; return how many were.

    Needs a superuser. Segments that were recycled before recycling was switched off stand ready
    for future use with their old content, so they are used up first.
    """
    recycles = conn.execute("SHOW wal_recycle").fetchone()
    if recycles != ("off",):
        conn.execute("ALTER SYSTEM SET wal_recycle = off")
        conn.execute("SELECT pg_reload_conf()")
        _log.info("postgres_wal_recycling_switched_off")
    before = _list_segments(conn)
    ahead = conn.execute(
        """SELECT count(*) FROM pg_ls_waldir()
            WHERE name ~ '^[0-9A-F]{24}$' AND name > pg_walfile_name(pg_current_wal_lsn())"""
    ).fetchone()
    assert ahead is not None
    for _ in range(int(ahead[0]) + 1):
        # A segment in which nothing was written is not left.
        conn.execute("SELECT pg_logical_emit_message(true, 'cdp', '')")
        conn.execute("SELECT pg_switch_wal()")
    conn.execute("CHECKPOINT")
    return len(before - _list_segments(conn))


def _list_segments(conn: Driver) -> set[str]:
    rows = conn.execute("SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'")
    return {row[0] for row in rows}


def scrub_disk(
    database: Database, data_dir: Path, touched: Iterable[str], now: Callable[[], datetime]
) -> dict[str, Any]:
    """Write what ``touched`` names anew, and drop statistics and log; return what to say of it.

    Raises ``Busy``.
    """
    with open_scrubber(database.libpq_url) as conn:
        tables = rewrite_tables(conn, touched)
        at = format_time(now())
        said: dict[str, Any] = {
            "postgres": {"state": "written anew", "tables": tables, "at": at},
            "statistics": {
                "state": "counted anew"
                if forget_statistics(conn)
                else "your server's: until it counts them anew"
            },
        }
        if is_within(conn, data_dir):
            segments = drop_old_wal(conn)
            at = format_time(now())
            said["write_ahead_log"] = {"state": "removed", "segments": segments, "at": at}
        else:
            said["write_ahead_log"] = {
                "state": "your server's: gone after its own retention, as are its backups"
            }
    return said
