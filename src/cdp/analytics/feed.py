"""DuckDB follows Postgres in commit order.

Each step reads the changes of the next batches in one Postgres snapshot and applies them in one
DuckDB transaction that holds the position, so a crash between any two lines repeats a step that
left no trace, or goes on after one that is complete.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
import pyarrow as pa

from cdp.analytics.apply import PropertiesSeen, apply_archived, apply_changes
from cdp.analytics.archived_engine import (
    ReadPart,
    create_archive_tables,
    drop_day,
    list_wanted,
    pass_cutoffs,
    read_day,
)
from cdp.analytics.changes_store import (
    Changes,
    ChangesStore,
    DatabaseAway,
    Positions,
    merge_positions,
)
from cdp.analytics.engine import Engine
from cdp.analytics.freshness import Ends, Freshness
from cdp.runtime.clock import now
from cdp.runtime.logs import get_logger
from cdp.storage.batches import FEED_CHANNEL
from cdp.storage.database import Database, Driver

_log = get_logger(__name__)

MOST_EVENTS = 50_000
_MOST_BYTES = 64 * 1024 * 1024
_RETRY_SECONDS = 1.0

ReadLogEnds = Callable[[], tuple[str, Ends] | None]
"""The log's name and, per partition, the position after its newest record; ``None``: it is away."""


@dataclass(frozen=True, slots=True)
class FeedStep:
    """What one step brought in."""

    batches: int = 0
    events: int = 0
    touched: set[int] = field(default_factory=set)
    """Numbers of the profiles of which anything changed, those that are gone included."""
    merges: list[dict[str, str]] = field(default_factory=list)
    as_of: datetime | None = None
    is_caught_up: bool = False
    """Whether everything was in that had been committed when the step read; until then DuckDB

    shows a past state, and what is missing in it may just not have come yet.
    """


class Feed:
    """The one writer of events and people in DuckDB. For one thread at a time."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        read_log_ends: ReadLogEnds | None = None,
        read_part: ReadPart | None = None,
    ) -> None:
        """``read_log_ends`` lets ``as_of`` move on when nothing arrives; it must answer soon.

        ``read_part`` reads the archive, where days lie that Postgres no longer holds.
        """
        self._engine = engine
        self._url = database.libpq_url
        self._store = ChangesStore(database.libpq_url)
        self._read_log_ends = read_log_ends
        self._freshness = Freshness()
        self._listener: Driver | None = None
        self._small: dict[str, pa.Table] = {}
        self._read_part = read_part
        self._listed: dict[str, pa.Table] = {}
        self._seen = PropertiesSeen()
        self._is_history_known = False
        self._is_waiting = self._is_position_known = False
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feed-reader")
        self._ahead: Future[Changes] | None = None
        self._most_events = MOST_EVENTS
        self._seq = 0
        self._positions: Positions = {}
        self._recall()

    def step(self, wait_seconds: float) -> FeedStep:
        """Apply the next batches; when there is none, wait for one up to ``wait_seconds``.

        Without Postgres nothing happens, for as long: the caller just goes on calling.
        """
        until = time.monotonic() + wait_seconds
        try:
            self._listen()
            changes = self._read()
            if not changes.batches and self._wait(until - time.monotonic()):
                changes = self._read()
        except (DatabaseAway, psycopg.Error) as error:
            return self._sit_out(error, until)
        if self._is_waiting:
            _log.info("analytics_feed_goes_on")
            self._is_waiting = False
        return self._take_in(changes)

    def catch_up(self) -> FeedStep:
        """Apply everything that is committed now, step by step; return the last step.

        Raises ``DatabaseAway``.
        """
        while True:
            step = self._take_in(self._read())
            if step.is_caught_up:
                return step

    def rebuild(self) -> None:
        """Drop everything and feed it again, up to what is committed now."""
        self.start_over()
        self.catch_up()

    def start_over(self) -> None:
        """Drop everything; the next steps feed it again."""
        self._forget()

    def close(self) -> None:
        """Let go of the connections to Postgres."""
        self._drop_ahead()
        self._reader.shutdown()
        self._store.close()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────

    def _read(self) -> Changes:
        if not self._is_position_known:
            self._drop_ahead()
            self._recall()
        if not self._is_history_known:
            self._drop_ahead()
            self._check_history()
        self._look_at_log()
        changes = self._take_ahead() or self._store.read(self._seq, self._most_events)
        if not changes.is_head:
            # There is more: fetch it while this is being applied.
            self._ahead = self._reader.submit(self._store.read, changes.seq, self._most_events)
        return changes

    def _take_ahead(self) -> Changes | None:
        """Return what was fetched ahead, when it is what comes next."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        changes = ahead.result()
        return changes if changes.after == self._seq else None

    def _drop_ahead(self) -> None:
        """Wait for what is being fetched ahead, whose connection is needed, and forget it."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.exception()

    def _check_history(self) -> None:
        """A restored or another database has its own batches; what was fed is not part of them."""
        if self._seq:
            held = self._engine.read("SELECT batch FROM core.applied")["batch"][0].as_py()
            if self._store.find_batch(self._seq) != held:
                _log.warning(
                    "analytics_other_history",
                    consequence="Postgres has another history than this file; fed again",
                )
                self._forget()
        self._is_history_known = True

    def _look_at_log(self) -> None:
        if self._read_log_ends is None or not self._freshness.wants_look():
            return
        before = now()
        found = self._read_log_ends()
        if found is not None:
            self._freshness.look(before, *found)

    def _listen(self) -> None:
        if self._listener is None or self._listener.closed:
            listener = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            listener.execute(f"LISTEN {FEED_CHANNEL}")
            self._listener = listener

    def _wait(self, seconds: float) -> bool:
        """Wait for word of a batch; return whether it is worth looking again."""
        if seconds <= 0 or self._listener is None:
            return False
        for _ in self._listener.notifies(timeout=seconds, stop_after=1):
            pass
        return True

    def _sit_out(self, error: Exception, until: float) -> FeedStep:
        if not self._is_waiting:
            _log.warning("analytics_feed_waits", reason=str(error).splitlines()[0])
        self._is_waiting = True
        self._is_history_known = False
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        time.sleep(max(0.0, min(_RETRY_SECONDS, until - time.monotonic())))
        return FeedStep(as_of=self._engine.as_of())

    # ── Applying ────────────────────────────────────────────────────────────────────────────────

    def _take_in(self, changes: Changes) -> FeedStep:
        positions = {log: dict(found) for log, found in self._positions.items()}
        merge_positions(positions, changes.positions)
        as_of = self._settle_as_of(changes, positions)
        news = {
            table: rows
            for table, rows in changes.small.items()
            if table not in self._small or not rows.equals(self._small[table])
        }
        changes.small = news
        self._take_from_archive(changes)
        if changes.batches or news or positions != self._positions:
            self._apply(changes, positions, as_of)
        if as_of is not None:
            self._engine.note_as_of(as_of)
        if not changes.batches:
            self._engine.checkpoint()
        return FeedStep(
            changes.batches,
            changes.events,
            changes.touched,
            changes.merges,
            self._engine.as_of(),
            changes.is_head,
        )

    def _settle_as_of(self, changes: Changes, positions: Positions) -> datetime | None:
        if self._read_log_ends is not None:
            return self._freshness.reached(positions)
        # Without sight of the log: nothing is known of what the workers have not come to.
        return changes.received_until if changes.is_head else None

    def _take_from_archive(self, changes: Changes) -> None:
        """Bring in what was archived and what is past its time, when either list has changed."""
        for name, rows in (("archived", changes.archived), ("cutoffs", changes.cutoffs)):
            known = self._listed.get(name)
            if rows is None or (rows.equals(known) if known is not None else not rows.num_rows):
                continue
            if name == "archived":
                self._take_days(changes, rows)
            else:
                with self._engine.write() as duck:
                    create_archive_tables(duck)
                    pass_cutoffs(duck, rows)
            self._listed[name] = rows

    def _take_days(self, changes: Changes, days: pa.Table) -> None:
        with self._engine.write() as duck:
            create_archive_tables(duck)
            wanted = list_wanted(duck, days, self._seq)
        for day in wanted if self._read_part is not None else ():
            assert self._read_part is not None
            try:
                with self._engine.write() as duck:
                    drop_day(duck, day)
                    kinds = self._seen.kinds
                    for rows in read_day(day, self._read_part):
                        kinds = apply_archived(duck, rows, changes, self._seen)
                        self._seen.kinds = kinds
            except BaseException:
                self._is_position_known = False
                raise
            _log.info("analytics_day_from_archive", day=day["day"])

    def _apply(self, changes: Changes, positions: Positions, as_of: datetime | None) -> None:
        try:
            with self._engine.write() as duck:
                kinds = apply_changes(
                    duck, changes, self._seen, positions, as_of or self._engine.as_of()
                )
        except BaseException:
            # Whatever became of the transaction, the file knows; but now it may lack the memory
            # to say so, and a guess would take the same events in twice.
            self._is_position_known = False
            raise
        self._seq, self._positions, self._seen.kinds = changes.seq, positions, kinds
        self._engine.note_positions(positions)
        self._small |= changes.small
        self._fit(changes)

    def _recall(self) -> None:
        self._engine.recall()
        self._seq = self._engine.applied_seq()
        self._positions = self._engine.read_positions()
        with self._engine.cursor() as cursor:
            self._seen.recall(cursor)
        self._is_position_known = True

    def _forget(self) -> None:
        self._drop_ahead()
        self._engine.reset()
        self._small, self._listed = {}, {}
        self._recall()

    def _fit(self, changes: Changes) -> None:
        """Take fewer events at a time when they are large: the tables are held in memory."""
        if changes.events and "events" in changes.changed:
            size = max(1, changes.changed["events"].nbytes // changes.events)
            self._most_events = max(500, min(MOST_EVENTS, _MOST_BYTES // size))
