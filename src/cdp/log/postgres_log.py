"""The embedded log: a table in Postgres whose offsets are gapless and in commit order.

A sequence is not commit order: a reader that trusts one skips rows that commit late. Here every
append locks its partitions' heads until it has committed, so offset *n* is never visible before
*n - 1*. What that costs is won back by group commit: one appender thread writes everything that
is waiting in one transaction, sent in one round trip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from cdp.log.backlog import Backlog
from cdp.log.port import LogUnavailable, NewRecord, Record
from cdp.log.postgres_append import APPEND_TIMEOUT_SECONDS, Appender
from cdp.log.postgres_connection import describe
from cdp.log.postgres_read import Reader
from cdp.storage.database import Database, Driver, driver
from cdp.storage.partitions import list_partitions

_BACKLOG_BYTES = 64 * 1024 * 1024


class PostgresLog:
    """The log in tables ``log_heads`` and ``log_records``; see ``cdp.log.port.Log``."""

    def __init__(self, database: Database, partitions: int) -> None:
        """Open the log of a migrated database; ``partitions`` counts only for a new one."""
        self._database = database
        self._partitions = _ensure_heads(database, partitions)
        self._backlog = Backlog(max_bytes=_BACKLOG_BYTES, timeout_seconds=APPEND_TIMEOUT_SECONDS)
        self._appender = Appender(database, self._backlog)
        self._reader = Reader(database)

    @property
    def name(self) -> str:
        return "postgres"

    @property
    def partitions(self) -> int:
        return self._partitions

    def append(self, records: Sequence[NewRecord]) -> Future[list[int]]:
        for record in records:
            if not 0 <= record.partition < self._partitions:
                raise ValueError(f"there is no partition {record.partition}")
        append = self._backlog.admit(records)
        if not append.is_answered:
            self._appender.put(append)
        return append.future

    def read(
        self, positions: Mapping[int, int], *, max_bytes: int, wait_seconds: float
    ) -> list[Record]:
        return self._reader.read(positions, max_bytes, wait_seconds)

    def end_positions(self) -> dict[int, int]:
        with _unavailable(), self._database.transaction() as connection:
            rows = driver(connection).execute("SELECT partition, next_offset FROM log_heads")
            return {int(partition): int(offset) for partition, offset in rows}

    def drop_before(self, written_before: datetime, positions: Mapping[int, int]) -> int:
        with _unavailable(), self._database.transaction() as connection:
            return _drop_days(driver(connection), written_before, positions)

    def check(self) -> None:
        with _unavailable(), self._database.transaction() as connection:
            connection.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        self._backlog.close(APPEND_TIMEOUT_SECONDS)
        self._appender.close()
        self._reader.close()


@contextmanager
def _unavailable() -> Iterator[None]:
    """Turn a lost or refusing database into ``LogUnavailable``."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        raise LogUnavailable(describe(error)) from error


def _ensure_heads(database: Database, partitions: int) -> int:
    """Make the heads of a new log; return how many there are. Raises ``LogUnavailable``."""
    with _unavailable(), database.transaction() as connection:
        conn = driver(connection)
        # Processes that start together must not each make theirs.
        conn.execute("SELECT pg_advisory_xact_lock(7263544)")
        conn.execute(
            """INSERT INTO log_heads (partition) SELECT p FROM generate_series(0, %s - 1) AS p
                WHERE NOT EXISTS (SELECT FROM log_heads)""",
            (partitions,),
        )
        row = conn.execute("SELECT count(*) FROM log_heads").fetchone()
        assert row is not None
        return int(row[0])


def _drop_days(conn: Driver, written_before: datetime, positions: Mapping[int, int]) -> int:
    dropped = 0
    for name, day in list_partitions(conn, "log_records"):
        if _end_of(day) > written_before or not _is_done(conn, name, positions):
            continue
        # Waits for readers; they must not queue up behind it for long.
        conn.execute("SET LOCAL lock_timeout = '2s'")
        conn.execute(f"DROP TABLE {name}")
        dropped += 1
    return dropped


def _end_of(day: date) -> datetime:
    return datetime.fromisoformat(f"{day + timedelta(days=1)}T00:00:00+00:00")


def _is_done(conn: Driver, table: str, positions: Mapping[int, int]) -> bool:
    rows: list[tuple[Any, ...]] = conn.execute(
        f"SELECT partition, max(record_offset) FROM {table} GROUP BY partition"
    ).fetchall()
    return all(newest < positions.get(partition, 0) for partition, newest in rows)
