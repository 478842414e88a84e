"""Keep memberships and tag values true: after every batch, when time passes, when rules change.

    lock ─► catch up the mirror ─► who was touched ─► evaluate in order ─► ledger ─► mirror

The ledger in Postgres is written in one transaction together with how far it has come, under a lock
that this transaction holds; DuckDB commits after it. So a crash at any point either leaves nothing,
or a ledger whose mirror catches up at the next refresh: no change is lost or told twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import sqlalchemy as sa

from cdp.runtime.logs import get_logger
from cdp.segments import mirror_engine as mirror
from cdp.segments import segments_store
from cdp.segments.check_engine import Checked, check_units
from cdp.segments.definitions import UnitName
from cdp.segments.definitions_store import read_definitions
from cdp.segments.membership_store import LedgerDiffers, read_touched
from cdp.segments.mirror_engine import Applied
from cdp.segments.parse import NormaliseIdentifier
from cdp.segments.refresh_built_ins import BuiltInUnits
from cdp.segments.refresh_ledger import Ledger, Opened
from cdp.segments.refresh_reached import BUSY_PAUSE, Engine, Outcome, Reached, Refreshed, insist
from cdp.segments.refresh_sql import SqlUnits
from cdp.segments.refresh_units import RefreshUnits, read_manual
from cdp.segments.retire_unit import FindUsers, find_retiring, retire
from cdp.segments.sql_tags import TagQueries
from cdp.segments.unit_failures import UnitFailed
from cdp.storage.database import Database, Driver

_log = get_logger(__name__)


class _RollBack(Exception):
    """Carries what was found out of transactions that must leave no trace."""

    def __init__(self, checked: list[Checked] | None) -> None:
        super().__init__()
        self.checked = checked


class Refresher:
    """Evaluates segments and tags. Any number may run, in any process: one works at a time."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        *,
        timezone: str,
        time_seconds: float,
        normalise: NormaliseIdentifier | None = None,
        currency: str = "CNY",
        built_in_share: float = 0.2,
        find_more_users: FindUsers = lambda tx, name: [],
        before_mirror_commit: Callable[[], None] = lambda: None,
        queries: TagQueries | None = None,
        query_grace_seconds: float = 0.4,
    ) -> None:
        """``time_seconds``: how often it is looked at whom time alone has moved.

        ``currency`` is the workspace's; ``built_in_share`` that part of one processor's time in
        which built-in tags are computed anew for everybody.
        ``find_more_users`` names what uses a segment or tag besides other definitions.
        ``queries`` runs the SQL of tags; a refresh waits ``query_grace_seconds`` for one.
        ``before_mirror_commit`` is called between the two commits, where tests let things die.
        """
        self._engine = engine
        self._ledger = Ledger(database, engine, before_mirror_commit)
        interval = timedelta(seconds=time_seconds)
        self._sql = SqlUnits(queries, interval, query_grace_seconds)
        self._units = RefreshUnits(
            timezone=timezone,
            interval=interval,
            normalise=normalise,
            built_ins=BuiltInUnits(timezone, currency, built_in_share),
            sql=self._sql,
        )
        self._find_more_users = find_more_users
        self._reached = Reached(engine)

    def refresh(self, now: datetime) -> Refreshed:
        """Bring memberships and tag values to what the rules say at ``now`` of everything that

        DuckDB holds. Returns at once when another evaluator works.
        """
        result = self._attempt(now)
        if result.outcome in ("refreshed", "nothing_to_do") and self._sql.start_due(now):
            settled = self._attempt(now)
            result = replace(settled, changes=result.changes + settled.changes)
        self._reached.note(result)
        return result

    def refresh_until_done(self, now: Callable[[], datetime], *, seconds: float) -> Refreshed:
        """Refresh, waiting up to ``seconds`` for another evaluator to finish."""
        end = time.monotonic() + seconds
        while True:
            result = self.refresh(now())
            if result.outcome != "busy" or time.monotonic() > end:
                return result
            time.sleep(BUSY_PAUSE)

    def retire(
        self,
        name: UnitName,
        now: Callable[[], datetime],
        record: Callable[[Driver], None],
        *,
        seconds: float,
    ) -> bool:
        """Let everybody leave a segment or lose a tag, and delete its definition.

        ``record`` writes it down in the same transaction. Return whether it existed. Raises
        ``Conflict`` while another definition refers to it, ``Unavailable`` when another evaluator
        works for longer than ``seconds``.
        """
        return insist(lambda: self._retire(name, now(), record), seconds)

    def check(self, now: Callable[[], datetime], *, seconds: float) -> list[Checked]:
        """Compare what is kept with a full evaluation at the instant of the last one.

        Changes nothing. Raises ``Unavailable`` when events keep coming in between, or another
        evaluator works, for longer than ``seconds``.
        """

        def look() -> list[Checked] | None:
            self._units.pace.end_rest()
            self.refresh(now())
            return self._check_once()

        return insist(look, seconds)

    def is_time_due(self, now: datetime) -> bool:
        """Whether rules that move with time are to be evaluated again."""
        return self._units.pace.is_time_due(now)

    def positions(self, log: str) -> dict[int, int]:
        """Return, per partition of ``log``, the offset below which everything is evaluated."""
        return self._reached.positions(log)

    def as_of(self) -> datetime | None:
        """The time up to which every event is in memberships and tag values."""
        return self._reached.as_of()

    def wait_for(self, seq: int, seconds: float) -> bool:
        """Wait until everything up to the batch ``seq`` is evaluated; return whether it is."""
        return self._reached.wait_for(seq, seconds)

    def failing(self) -> frozenset[UnitName]:
        """Return the units whose evaluation failed and is to be tried again."""
        return self._units.failures.names()

    def _attempt(self, now: datetime) -> Refreshed:
        """Refresh; leave out, and come back to, units that fail, so that they stop nobody else."""
        while True:
            self._units.pace.begin()
            try:
                result = self._refresh_once(now)
                self._units.pace.commit()
                return result
            except UnitFailed as failure:
                definition = failure.definition
                _log.error(
                    "evaluation_failed",
                    kind=definition.kind,
                    key=definition.key,
                    exc_info=failure.__cause__,
                )
                self._units.failures.note(definition, now)
            except (psycopg.Error, sa.exc.SQLAlchemyError):
                self._sql.forget()
                raise
            except LedgerDiffers:
                self._sql.forget()
                _log.error("mirror_differs_from_ledger")
                with self._engine.write() as duck:
                    mirror.clear(duck)
                return Refreshed("behind", self._reached.newest)

    def _refresh_once(self, now: datetime) -> Refreshed:
        with self._ledger.open() as opened:
            applied = mirror.read_applied(opened.duck)
            if applied.seq < opened.head.seq:
                return Refreshed("behind", applied)
            if not opened.is_evaluator:
                is_all = applied.seq == opened.head.seq
                return Refreshed("busy", applied if is_all else self._reached.newest)
            return self._evaluate(opened, applied, now)

    def _evaluate(self, opened: Opened, applied: Applied, now: datetime) -> Refreshed:
        duck, tx, head = opened.duck, opened.tx, opened.head
        definitions = read_definitions(tx)
        mirror.write_segments(duck, segments_store.list_segments(tx))
        touched = read_touched(tx, head.seq, applied.seq)
        # A clock that was turned back must not make anything come true twice.
        now = max(now, head.evaluated_at or now)
        evaluator = self._units.open(duck, tx, definitions, now)
        plan = self._units.evaluate(evaluator, tx, definitions, head, applied.seq, touched)
        changes = opened.write(evaluator, applied.seq, now)
        self._units.finish(tx, definitions, plan, now)
        outcome: Outcome = "refreshed" if plan else "nothing_to_do"
        return Refreshed(outcome, applied, changes, len(plan))

    def _check_once(self) -> list[Checked] | None:
        try:
            with self._ledger.open() as opened:
                raise _RollBack(self._look_at_all(opened))
        except _RollBack as found:
            return found.checked

    def _look_at_all(self, opened: Opened) -> list[Checked] | None:
        head, tx = opened.head, opened.tx
        has_come = mirror.read_applied(opened.duck).seq == head.seq
        if not (opened.is_evaluator and has_come) or head.evaluated_at is None:
            return None
        definitions = [each for each in read_definitions(tx) if not each.is_behind]
        evaluator = self._units.open(opened.duck, tx, definitions, head.evaluated_at)
        return check_units(
            evaluator, definitions, lambda evaluation: read_manual(evaluator, tx, evaluation)
        )

    def _retire(
        self, name: UnitName, now: datetime, record: Callable[[Driver], None]
    ) -> bool | None:
        with self._ledger.open() as opened:
            if not opened.is_evaluator:
                return None
            tx, head = opened.tx, opened.head
            segments_store.lock_definitions(tx)
            definition = find_retiring(tx, name, read_definitions(tx), self._find_more_users)
            if definition is None:
                return False
            record(tx)
            evaluator = self._units.open(opened.duck, tx, [], now)
            retire(evaluator, tx, definition)
            opened.write(evaluator, head.seq, head.evaluated_at)
            return True
