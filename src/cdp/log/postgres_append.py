"""The appending side of the embedded log: one thread, one transaction for everything waiting."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, timedelta

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from cdp.log.backlog import Append, Backlog
from cdp.log.port import NewRecord
from cdp.log.postgres_connection import CHANNEL, connect, describe
from cdp.runtime.clock import now
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, Driver
from cdp.storage.partitions import ensure_partitions

APPEND_TIMEOUT_SECONDS = 8.0
_GROUP_BYTES = 8 * 1024 * 1024
_RETRY_SECONDS = 0.2
_IDLE_SECONDS = 900.0

_log = get_logger(__name__)


def write_records(conn: Driver, records: Sequence[NewRecord]) -> list[int]:
    """Write ``records`` in the open transaction of ``conn``; return their offsets in order.

    Their partitions stay locked until the transaction ends. Sent as one round trip.
    """
    counts = Counter(record.partition for record in records)
    partitions = sorted(counts)
    ordinals: list[int] = []
    seen: Counter[int] = Counter()
    for record in records:
        ordinals.append(seen[record.partition])
        seen[record.partition] += 1
    with conn.pipeline():
        # In sorted order, so that appenders of several processes cannot deadlock.
        conn.execute(
            "SELECT FROM log_heads WHERE partition = ANY(%s) ORDER BY partition FOR UPDATE",
            (partitions,),
        )
        # A statement of its own sees the heads as they are now that they are locked.
        conn.execute(
            """INSERT INTO log_records (partition, record_offset, written_at, headers, value)
               SELECT r.partition, h.next_offset + r.ordinal, now(), r.headers::json, r.value
                 FROM unnest(%b::int[], %b::int[], %b::text[], %b::bytea[])
                      AS r(partition, ordinal, headers, value)
                 JOIN log_heads h USING (partition)""",
            (
                [record.partition for record in records],
                ordinals,
                [json.dumps(dict(record.headers)) for record in records],
                [record.value for record in records],
            ),
        )
        heads = conn.execute(
            """UPDATE log_heads h SET next_offset = h.next_offset + c.records
                 FROM unnest(%b::int[], %b::int[]) AS c(partition, records)
                WHERE h.partition = c.partition
               RETURNING h.partition, h.next_offset - c.records""",
            (partitions, [counts[partition] for partition in partitions]),
        )
        conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, ",".join(map(str, partitions))))
    first = {int(partition): int(offset) for partition, offset in heads.fetchall()}
    return [
        first[record.partition] + ordinal for record, ordinal in zip(records, ordinals, strict=True)
    ]


class Appender:
    """The one thread of this process that writes to the log."""

    def __init__(self, database: Database, backlog: Backlog) -> None:
        self._database = database
        self._backlog = backlog
        self._waiting: deque[Append] = deque()
        self._has_work = threading.Condition()
        self._is_closed = False
        self._connection: Driver | None = None
        self._away_since: float | None = None
        self._partitions_made_for: date | None = None
        self._thread = threading.Thread(target=self._run, name="log-appender", daemon=True)
        self._thread.start()

    def put(self, append: Append) -> None:
        with self._has_work:
            self._waiting.append(append)
            self._has_work.notify()

    def close(self) -> None:
        with self._has_work:
            self._is_closed = True
            self._has_work.notify()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while (group := self._take_group()) is not None:
            try:
                if group:
                    self._write_group(group)
                else:
                    self._make_partitions()
            except Exception as error:
                # Whatever it was, the next caller must still find somebody at work.
                _log.warning("log_append_failed", error=describe(error))
                self._disconnect()
                for append in group:
                    self._backlog.fail(append, describe(error), is_away=False)
        self._disconnect()

    def _take_group(self) -> list[Append] | None:
        """Return everything that waits, up to a bound; ``None`` when the log is closed."""
        with self._has_work:
            # Wakes now and then to make tomorrow's partitions in time, also when nothing comes.
            self._has_work.wait_for(lambda: self._waiting or self._is_closed, _IDLE_SECONDS)
            if self._is_closed and not self._waiting:
                return None
            group: list[Append] = []
            size = 0
            while self._waiting and (not group or size < _GROUP_BYTES):
                append = self._waiting.popleft()
                if not append.is_answered:
                    group.append(append)
                    size += append.size
        return group

    def _write_group(self, group: list[Append]) -> None:
        connection = self._connect_for(group)
        if connection is None:
            return
        records = [record for append in group for record in append.records]
        try:
            offsets = self._commit(connection, records)
        except psycopg.OperationalError as error:
            if not connection.closed:
                raise
            # Whether it was committed is unknown. Sending again may double it in the log, as the
            # caller would by sending again; the worker recognises what came twice.
            self._disconnect()
            self._wait_or_fail(group, describe(error))
            return
        at = 0
        for append in group:
            self._backlog.settle(append, offsets[at : at + len(append.records)])
            at += len(append.records)

    def _commit(self, connection: Driver, records: Sequence[NewRecord]) -> list[int]:
        with connection.pipeline(), connection.transaction():
            return write_records(connection, records)

    def _connect_for(self, group: list[Append]) -> Driver | None:
        """Return a working connection; while Postgres is away, keep those who can still wait."""
        try:
            if self._connection is None:
                self._connection = connect(self._database, statement_timeout="8s")
            self._make_partitions()
        except (psycopg.Error, SQLAlchemyError) as error:
            self._disconnect()
            self._wait_or_fail(group, describe(error))
            return None
        self._away_since = None
        return self._connection

    def _wait_or_fail(self, group: list[Append], reason: str) -> None:
        """Try again later: the backlog fails what waits too long, and then lets one try alone."""
        current = time.monotonic()
        if self._away_since is None:
            self._away_since = current
        if current - self._away_since > APPEND_TIMEOUT_SECONDS or self._is_closed:
            for append in group:
                self._backlog.fail(append, reason)
        else:
            with self._has_work:
                self._waiting.extendleft(reversed(group))
        time.sleep(_RETRY_SECONDS)

    def _make_partitions(self) -> None:
        # By the calendar, not by time run: a machine may have slept over midnight.
        today = now().date()
        if today != self._partitions_made_for:
            ensure_partitions(self._database, [today + timedelta(days=day) for day in (-1, 0, 1)])
            self._partitions_made_for = today

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
