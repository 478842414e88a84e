"""★ Closed days go into the archive, and out of Postgres when it holds them for certain.

    copy:    rows ─► files ─► Postgres says that these are the day ─► files of before go
    drop:    rows = files, value by value ─► what is kept of them ─► Postgres drops them, unless
             other rows have come
    absorb:  rows that came after the drop ─► more files of the day ─► dropped as well

Killed between any two lines, a day is what Postgres says it is, whole; files that are nobody's are
removed by the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import psycopg
import pyarrow as pa
from psycopg import sql

from cdp.archive import archive_store as store
from cdp.archive.archive_folder import ArchiveFolder
from cdp.archive.compare_rows import count_equal
from cdp.archive.day_store import read_day
from cdp.archive.layout import EVENTS, Part, number_of
from cdp.archive.maps_folder import write_maps
from cdp.archive.read_parts import iterate_rows
from cdp.archive.rewrite_part import tidy
from cdp.archive.write_parts import write_parts
from cdp.runtime.clock import now as clock_now
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, Driver, driver
from cdp.storage.partitions import list_partitions

_log = get_logger(__name__)

Keep = Callable[[Driver, sql.Identifier], None]
"""Keeps, of the rows of a table that is about to be dropped, what is read of people in Postgres."""


class _OthersCame(Exception):
    """Rows are there that nobody has compared."""


@dataclass(slots=True)
class Ran:
    """What a run did."""

    archived: list[date] = field(default_factory=list)
    """Days that were written, for the first time or again."""
    dropped: list[date] = field(default_factory=list)
    """Days whose rows were dropped from Postgres."""
    failed: list[date] = field(default_factory=list)
    """Days whose files are not what Postgres holds: nothing of these was dropped."""
    rows: int = 0
    """That were written."""


@dataclass(slots=True)
class Archiver:
    """Archives one database into one folder."""

    database: Database
    folder: ArchiveFolder
    after_days: int
    """Days after which a day is closed."""
    keep_days: int
    """Days that rows stay in Postgres; 0: for ever."""
    keep: Keep
    now: Callable[[], datetime] = clock_now

    def run(self, through: date | None = None) -> Ran:
        """Do all that is due; ``through`` closes the days up to it, early as it may be.

        Raises ``ArchiveBusy``.
        """
        today = self.now().date()
        closed = max(today - timedelta(days=self.after_days + 1), through or date.min)
        last_kept = today - timedelta(days=max(self.keep_days, self.after_days))
        ran = Ran()
        with store.hold_archive(self.database.libpq_url):
            tidy(self.database, self.folder)
            with self.database.transaction() as connection:
                found = list_partitions(driver(connection), EVENTS)
            for _, day in found:
                if day <= closed:
                    self._settle(day, ran)
                if self.keep_days and day < last_kept:
                    self._drop(day, ran)
            write_maps(self.database, self.folder, self.now())
        return ran

    def _settle(self, day: date, ran: Ran) -> None:
        with self.database.transaction() as connection:
            tx = driver(connection)
            known = store.list_days(tx).get(day)
            newest = store.find_newest_seq(tx, day)
        if newest is None or (known and known.dropped_at):
            return  # Nothing is there, or what came late is absorbed.
        if known is None or newest > known.seq:
            self._copy(day, ran)

    def _copy(self, day: date, ran: Ran) -> None:
        with read_day(self.database.libpq_url, day) as (seq, rows):
            parts = write_parts(self.folder, day, rows)
        with self.database.transaction() as connection:
            before = store.put_day(driver(connection), day, seq=seq, parts=parts, now=self.now())
        for path in before:
            self.folder.remove(path)
        ran.archived.append(day)
        ran.rows += sum(part.rows for part in parts)
        _log.info("day_archived", day=day.isoformat(), files=len(parts))

    def _drop(self, day: date, ran: Ran) -> None:
        with self.database.transaction() as connection:
            tx = driver(connection)
            known = store.list_days(tx).get(day)
            parts = store.list_parts(tx, day)
            newest = store.find_newest_seq(tx, day)
        if known is None or newest is None:
            return
        if known.dropped_at is None:
            self._drop_copied(day, parts, ran)
        else:
            self._absorb(day, parts, known.rows, ran)

    def _drop_copied(self, day: date, parts: list[Part], ran: Ran) -> None:
        with read_day(self.database.libpq_url, day) as (seq, rows):
            count = count_equal(rows, self._iterate(parts))
        is_whole = all(self.folder.digest(part.path) == part.sha256 for part in parts)
        if count is None or not is_whole:
            _log.error("archive_differs", day=day.isoformat(), consequence="the day is kept")
            ran.failed.append(day)
            self._copy(day, ran)
            return
        self._let_go(day, [], seq, count, count, ran)

    def _absorb(self, day: date, known: list[Part], rows_before: int, ran: Ran) -> None:
        number = 1 + max((number_of(part.path) for part in known), default=-1)
        with read_day(self.database.libpq_url, day) as (seq, rows):
            parts = write_parts(self.folder, day, rows, first_number=number)
        with read_day(self.database.libpq_url, day) as (_, rows):
            count = count_equal(rows, self._iterate(parts))
        done = count is not None and self._let_go(day, parts, seq, count, rows_before + count, ran)
        if not done:
            for part in parts:
                self.folder.remove(part.path)

    def _let_go(
        self, day: date, added: list[Part], seq: int, count: int, whole: int, ran: Ran
    ) -> bool:
        try:
            with self.database.transaction() as connection:
                tx = driver(connection)
                # Before the rows are locked: it reads them all. What is dropped is what it read.
                self.keep(tx, store.name_table(day))
                if not store.drop_table(tx, day, expected_rows=count, seq=seq):
                    raise _OthersCame
                store.add_parts(tx, added)
                store.note_dropped(tx, day, seq=seq, rows=whole, now=self.now())
        except _OthersCame:
            return False
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            return False  # Somebody reads for long; the next run tries again.
        ran.dropped.append(day)
        _log.info("day_dropped", day=day.isoformat(), rows=count)
        return True

    def _iterate(self, parts: list[Part]) -> Iterator[pa.RecordBatch]:
        for part in parts:
            yield from iterate_rows(self.folder, part.path)
