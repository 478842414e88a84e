"""The reading side of the embedded log: bounded by bytes, woken by appends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

import psycopg

from cdp.log.port import LogUnavailable, Record
from cdp.log.postgres_connection import CHANNEL, connect, describe
from cdp.storage.database import Database, Driver

# Bounds the look at rows that are then left for the next read.
_MAX_ROWS_PER_PARTITION = 4000

# Takes from every partition about the same number of bytes, a prefix of each, in one snapshot.
# The first record of all is taken whatever its size.
READ = """
SELECT partition, record_offset, written_at, headers, value
  FROM (SELECT r.*, sum(size) OVER (ORDER BY bytes_until, r.partition) AS total
          FROM unnest(%b::int[], %b::bigint[]) AS wanted(partition, position)
         CROSS JOIN LATERAL (
               SELECT *, sum(size) OVER (ORDER BY record_offset) AS bytes_until
                 FROM (SELECT *, octet_length(l.value) AS size FROM log_records l
                        WHERE l.partition = wanted.partition
                          AND l.record_offset >= wanted.position
                        ORDER BY l.record_offset LIMIT %b) AS newest) AS r) AS chosen
 WHERE total - size < %b
 ORDER BY partition, record_offset
"""


class Reader:
    """Reads over a connection of its own, on which it also listens for appends."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Driver | None = None

    def read(
        self, positions: Mapping[int, int], max_bytes: int, wait_seconds: float
    ) -> list[Record]:
        deadline = time.monotonic() + wait_seconds
        try:
            connection = self._connect()
            while True:
                records = _select(connection, positions, max_bytes)
                if records or not _wait_for_append(connection, positions, deadline):
                    return records
        except psycopg.Error as error:
            self.close()
            raise LogUnavailable(describe(error)) from error

    def _connect(self) -> Driver:
        if self._connection is None:
            self._connection = connect(self._database, statement_timeout="60s")
            # Before the first look, so that no append falls between the look and the wait.
            self._connection.execute(f"LISTEN {CHANNEL}")
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


def _select(conn: Driver, positions: Mapping[int, int], max_bytes: int) -> list[Record]:
    with conn.cursor(binary=True) as cursor:
        cursor.execute(
            READ,
            (
                list(positions),
                list(positions.values()),
                _MAX_ROWS_PER_PARTITION,
                max_bytes,
            ),
        )
        return [Record(*row) for row in cursor.fetchall()]


def _wait_for_append(conn: Driver, positions: Mapping[int, int], deadline: float) -> bool:
    """Wait until somebody appends to one of the partitions; return whether to look again."""
    while (remaining := deadline - time.monotonic()) > 0:
        for notice in conn.notifies(timeout=remaining, stop_after=1):
            if any(int(partition) in positions for partition in notice.payload.split(",")):
                return True
    return False
