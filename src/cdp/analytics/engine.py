"""DuckDB: one file, one process, many readers, one writer.

The file holds nothing that Postgres does not: a file of another version, or one that cannot be
read, is dropped and fed again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa

from cdp.analytics import catalogue
from cdp.analytics.compact_engine import copy_live, finish_draft, take_place
from cdp.analytics.damage_engine import (
    condemn,
    drop_condemned,
    ends_use,
    is_damage,
    list_causes,
)
from cdp.analytics.file_engine import create_tables, open_file
from cdp.analytics.headroom_engine import Headroom, PeoplesStatements, drop_results
from cdp.errors import Unavailable
from cdp.runtime.logs import get_logger

Duck = duckdb.DuckDBPyConnection
Params = Mapping[str, Any] | Sequence[Any] | None

_log = get_logger(__name__)

_CHECKPOINT_BYTES = 1024 * 1024
_REBUILD_RETRY_SECONDS = 5
_LETTING_GO_SECONDS = 5.0
_SPILL_LIMIT = "4GB"
# Larger than what one step writes; between steps ``checkpoint`` keeps the log small.
_CHECKPOINT_THRESHOLD = "64MB"


class QueryTimeout(Exception):
    """The statement was stopped because its time was over."""


class Engine:
    """The DuckDB file of this process. Every method may be called from any thread."""

    def __init__(self, path: Path | str, memory: str = "512MB", threads: int = 2) -> None:
        """Open ``path``, or make it. ``memory`` is such as ``512MB``.

        Raises ``SetupError`` when another process has it, or it cannot be opened or written.
        """
        self.path = Path(path)
        config = {
            "memory_limit": memory,
            "threads": threads,
            "temp_directory": f"{self.path}.tmp",
            "max_temp_directory_size": _SPILL_LIMIT,
            "checkpoint_threshold": _CHECKPOINT_THRESHOLD,
        }
        self._writing = threading.Lock()
        self._opening = threading.Lock()
        self._as_of: datetime | None = None
        self._positions: dict[str, dict[int, int]] = {}
        self._is_lost = False
        self._rebuilder: int | None = None
        self._rebuilt_share = 0.0
        drop_condemned(self.path)
        self._config = config
        self._doors = threading.Condition()
        self._inside = 0
        self._is_draining = self._is_shut = False
        self._mine = threading.local()
        self._people = PeoplesStatements()
        self._headroom = Headroom(memory)
        self._connection = open_file(self.path, config)
        if not self._can_recall():
            self._connection.close()
            drop_condemned(self.path)
            self._is_lost = False
            self._connection = open_file(self.path, config)
            self.recall()

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────

    def read(self, sql: str, params: Params = None, *, timeout: float | None = None) -> pa.Table:
        """Return the rows of ``sql`` as an Arrow table. ``timeout`` is in seconds.

        Raises ``QueryTimeout``, or a ``duckdb.Error``.
        """
        with self.cursor() as cursor, stop_after(cursor, timeout):
            return select(cursor, sql, params).to_arrow_table()

    @contextmanager
    def cursor(self, *, roams: bool = False) -> Iterator[Duck]:
        """A connection of one's own: its statements see committed rows, without waiting.

        One that ``roams`` may be opened in one thread and closed in another, as streams are.
        Raises ``Unavailable`` while another thread builds everything anew.
        """
        if self._rebuilder not in (None, threading.get_ident()):
            raise Unavailable(
                "analytics_rebuilding",
                f"what analytics hold is being built anew: {self._rebuilt_share:.0%} done",
                details={"share": round(self._rebuilt_share, 4)},
                retry_after=_REBUILD_RETRY_SECONDS,
            )
        try:
            with self._enter(roams):
                cursor = self._open()
                try:
                    yield cursor
                except BaseException as error:
                    drop_results(error)
                    raise
                finally:
                    cursor.close()
        except duckdb.Error as error:
            self._note_failure(error)
            raise

    def _open(self) -> Duck:
        with self._opening:
            return self._connection.cursor()

    @contextmanager
    def ask(self, *, timeout: float) -> Iterator[Duck]:
        """A cursor for the statement of a person, who begins a transaction and ends none.

        It is stopped after ``timeout`` seconds (``QueryTimeout``), and when the writer lacks memory
        (``MemoryNeeded``).
        """
        with self.cursor() as cursor, self._people.among(cursor):
            try:
                with stop_after(cursor, timeout):
                    yield cursor
            except BaseException as error:
                drop_results(error)
                raise
            finally:
                self._people.leave(cursor)
                with self._headroomy():
                    _roll_back(cursor)

    @contextmanager
    def _headroomy(self) -> Iterator[None]:
        """End a transaction in the block: memory does not run out in it."""
        self._headroom.raise_limit(self._open)
        try:
            yield
        finally:
            if not self._headroom.lower(self._open):
                self._people.stop(_LETTING_GO_SECONDS)
                self._headroom.settle(self._open)

    @contextmanager
    def _enter(self, roams: bool) -> Iterator[None]:
        """Be one of those who have the file open. Waits while it is exchanged.

        Who is inside may open more while others wait to get in: else both would wait for ever.
        """
        mine = threading.local() if roams else self._mine
        with self._doors:
            depth = getattr(mine, "depth", 0)
            self._doors.wait_for(lambda: not self._is_shut and (depth > 0 or not self._is_draining))
            self._inside += 1
        mine.depth = depth + 1
        try:
            yield
        finally:
            mine.depth = depth
            with self._doors:
                self._inside -= 1
                self._doors.notify_all()

    @property
    def is_lost(self) -> bool:
        """Whether the file is of no more use to this process, which must be started again."""
        return self._is_lost

    def _note_failure(self, error: duckdb.Error) -> None:
        for cause in list_causes(error):
            if is_damage(cause):
                condemn(self.path, cause)
            if is_damage(cause) or ends_use(cause):
                self._is_lost = True

    def _can_recall(self) -> bool:
        try:
            self.recall()
        except duckdb.Error:
            if not self._is_lost:
                raise
            return False
        return True

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def write(self) -> Iterator[Duck]:
        """The one writer's transaction: commits when the block ends, else leaves no trace.

        When it runs out of memory, people's statements are stopped: it is tried again, they wait.
        """
        with self._writing, self.cursor() as cursor:
            cursor.execute("BEGIN TRANSACTION")
            try:
                yield cursor
            except BaseException as error:
                drop_results(error)
                if isinstance(error, duckdb.OutOfMemoryException):
                    self._people.stop(_LETTING_GO_SECONDS)
                with self._headroomy():
                    _roll_back(cursor)
                raise
            if not self._people:
                cursor.execute("COMMIT")
                return
            with self._headroomy():
                cursor.execute("COMMIT")

    def checkpoint(self) -> None:
        """Move what was written into the file when the write-ahead log has grown. Never waits."""
        wal = Path(f"{self.path}.wal")
        if not wal.exists() or wal.stat().st_size < _CHECKPOINT_BYTES:
            return
        try:
            with self._writing, self.cursor() as cursor:
                cursor.execute("CHECKPOINT")
        except duckdb.TransactionException:
            return  # Somebody is reading; next time.

    def compact(self, *, seconds: float) -> bool:
        """Write the file anew, so that nothing that was deleted is in it; return whether it was.

        Readers go on meanwhile, except for the moment in which the files are exchanged. When some
        of them read for longer than ``seconds``, nothing happens: try again later.
        """
        with self._writing:
            with self.cursor() as cursor:
                views = copy_live(cursor, self.path)
            finish_draft(self.path, views)
            with self._doors:
                self._is_draining = True
                try:
                    if not self._doors.wait_for(lambda: self._inside == 0, seconds):
                        return False
                    self._is_shut = True
                finally:
                    self._is_draining = False
                    self._doors.notify_all()
            try:
                with self._opening:
                    self._connection.close()
                    take_place(self.path)
                    self._connection = open_file(self.path, self._config)
            finally:
                with self._doors:
                    self._is_shut = False
                    self._doors.notify_all()
        return True

    def reset(self) -> None:
        """Drop everything, as if the file were new."""
        with self.write() as cursor:
            for (schema,) in cursor.execute(
                "SELECT schema_name FROM duckdb_schemas()"
                " WHERE NOT internal AND schema_name IN ('core', 'masked')"
            ).fetchall():
                cursor.execute(f"DROP SCHEMA {schema} CASCADE")
            catalogue.drop_views(cursor, "main")
            create_tables(cursor)
        with self._opening:
            self._as_of, self._positions = None, {}

    def close_to_readers(self, share: float = 0.0) -> None:
        """Keep out all threads but this one, which builds everything anew; ``share`` is done."""
        self._rebuilder, self._rebuilt_share = threading.get_ident(), share

    def open_to_readers(self) -> None:
        """Let everybody in again."""
        self._rebuilder = None

    # ── How fresh it is ─────────────────────────────────────────────────────────────────────────

    def as_of(self) -> datetime | None:
        """The time up to which every accepted event is in it; ``None`` when nothing is known."""
        return self._as_of

    def lag_ms(self, now: datetime) -> int | None:
        """How far ``as_of`` lies behind ``now``, in milliseconds."""
        as_of = self._as_of
        return None if as_of is None else max(0, (now - as_of) // timedelta(milliseconds=1))

    def note_as_of(self, time: datetime) -> None:
        """Say that everything accepted up to ``time`` is in it. It never moves back."""
        with self._opening:
            if self._as_of is None or time > self._as_of:
                self._as_of = time

    def applied_positions(self, log: str) -> dict[int, int]:
        """Return, per partition of ``log``, the offset below which everything is in it."""
        return dict(self._positions.get(log, {}))

    def note_positions(self, positions: Mapping[str, Mapping[int, int]]) -> None:
        """Say what the feed has just committed."""
        self._positions = {log: dict(found) for log, found in positions.items()}

    def read_positions(self) -> dict[str, dict[int, int]]:
        """Return the applied positions of every log."""
        return {log: dict(positions) for log, positions in self._positions.items()}

    def applied_seq(self) -> int:
        """Return the newest batch that is in it; 0 when it is empty."""
        return int(self.read("SELECT seq FROM core.applied")["seq"][0].as_py())

    def recall(self) -> None:
        """Read again from the file how far it has been fed; for whoever has written it."""
        row = self.read("SELECT positions, as_of FROM core.applied").to_pylist()[0]
        positions = json.loads(row["positions"])
        with self._opening:
            self._positions = {
                log: {int(partition): offset for partition, offset in by_partition.items()}
                for log, by_partition in positions.items()
            }
        if row["as_of"] is not None:
            self.note_as_of(row["as_of"])

    def close(self) -> None:
        """Let go of the file; what was committed is in it."""
        with self._writing:
            self._connection.close()


def select(cursor: Duck, sql: str, params: Params = None) -> duckdb.DuckDBPyRelation:
    """Bind one SELECT without running it: its columns are known, its rows come when read."""
    if params is None:
        return cursor.sql(sql)
    return cursor.sql(sql, params=cast(Any, params))


@contextmanager
def stop_after(cursor: Duck, seconds: float | None) -> Iterator[None]:
    """Interrupt whatever ``cursor`` does after ``seconds``; raises ``QueryTimeout`` then."""
    if seconds is None:
        yield
        return
    is_over = threading.Event()

    def interrupt() -> None:
        is_over.set()
        cursor.interrupt()

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except duckdb.InterruptException as error:
        if is_over.is_set():
            raise QueryTimeout(f"stopped after {seconds:g} s") from error
        raise
    finally:
        timer.cancel()
        timer.join()


def _roll_back(cursor: Duck) -> None:
    try:
        cursor.execute("ROLLBACK")
    except duckdb.Error:  # A statement's own failure may have ended the transaction.
        _log.debug("analytics_rollback_unneeded")
