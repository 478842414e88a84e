"""Keep memberships and tag values true: after every batch, when time passes, when rules change.

    lock ─► catch up the mirror ─► who was touched ─► evaluate in order ─► ledger ─► mirror

The ledger in Postgres is written in one transaction together with how far it has come, under a lock
that this transaction holds; DuckDB commits after it. So a crash at any point either leaves nothing,
or a ledger whose mirror catches up at the next refresh: no change is lost or told twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import psycopg
import sqlalchemy as sa

from cdp.errors import Conflict, Unavailable
from cdp.runtime.logs import get_logger
from cdp.segments import mirror_engine as mirror
from cdp.segments import refresh_moves, segments_store, tags_store
from cdp.segments.check_engine import Checked, check_units
from cdp.segments.crossings_engine import find_crossed
from cdp.segments.definitions import Definition, UnitName, find_users
from cdp.segments.evaluation_engine import Evaluator
from cdp.segments.flip_book import FlipBook
from cdp.segments.membership_store import (
    LedgerDiffers,
    RefreshHead,
    Touched,
    move_head,
    read_head,
    read_touched,
    take_refresh_lock,
    write_membership_changes,
    write_tag_changes,
)
from cdp.segments.mirror_engine import Applied, Duck
from cdp.segments.parse import NormaliseIdentifier, parse_rule
from cdp.segments.refresh_built_ins import BuiltInUnits
from cdp.segments.refresh_plan import EARLIEST, Evaluation, find_due_for_time, plan_refresh
from cdp.segments.refresh_sql import SqlUnits
from cdp.segments.rules import Rule
from cdp.segments.sql_tags import TagQueries
from cdp.storage.database import Database, Driver, driver

_log = get_logger(__name__)

_RETRY_FAILED_AFTER = timedelta(minutes=1)
_BUSY_PAUSE = 0.02
_MOST_SECONDS_FOR_TIME = 1.0
# Of a unit that must be evaluated for everybody because time passes: how long it rests for each
# second that it takes.
_REST = 20
# What is found by reading columns rests as long for each second, but no longer than this.
_LONGEST_REST = timedelta(days=1)
_SHORTEST_PAUSE = timedelta(seconds=0.25)
# Where nothing moves with time; what is dated in the future still comes true.
_STANDSTILL = timedelta(seconds=15)

Outcome = Literal["refreshed", "nothing_to_do", "behind", "busy"]


class Engine(Protocol):
    """What a refresh needs of the analytics engine: the single writer's transaction."""

    def write(self) -> Any: ...

    def applied_seq(self) -> int: ...

    def as_of(self) -> datetime | None: ...


class UserName(NamedTuple):
    """What uses a segment or a tag: another of them, or a destination."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What one refresh came to."""

    outcome: Outcome
    """``behind``: DuckDB has not come as far as the ledger; ``busy``: another evaluator works."""
    reached: Applied
    """The batch up to which memberships and tag values are now true, and what that means."""
    changes: int = 0
    evaluated: int = 0


@dataclass(frozen=True, slots=True)
class _Failure:
    version: int
    retry_at: datetime


class UnitFailed(Exception):
    """A unit's rule could not be evaluated; the others go on without it."""

    def __init__(self, definition: Definition, reason: str) -> None:
        super().__init__(f"{definition.kind} {definition.key}: {reason}")
        self.definition = definition
        self.reason = reason


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
        find_more_users: Callable[[Driver, UnitName], list[UserName]] = lambda tx, name: [],
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
        self._database = database
        self._engine = engine
        self._timezone = timezone
        self._time_interval = timedelta(seconds=time_seconds)
        self._normalise = normalise
        self._flips = FlipBook(timezone)
        self._built_ins = BuiltInUnits(timezone, currency, built_in_share)
        self._sql = SqlUnits(queries, self._time_interval, query_grace_seconds)
        self._find_more_users = find_more_users
        self._before_mirror_commit = before_mirror_commit
        self._evaluated_at: dict[UnitName, datetime] = {}
        self._seconds: dict[UnitName, float] = {}
        self._next_due: datetime | None = None
        self._scanned_at: datetime | None = None
        self._scanning: datetime | None = None
        self._scan_seconds = 0.0
        self._is_rest_over = False
        self._failed: dict[UnitName, _Failure] = {}
        self._moved = threading.Condition()
        self._reached = mirror.NOTHING_APPLIED

    def refresh(self, now: datetime) -> Refreshed:
        """Bring memberships and tag values to what the rules say at ``now`` of everything that

        DuckDB holds. Returns at once when another evaluator works.
        """
        result = self._attempt(now)
        if result.outcome in ("refreshed", "nothing_to_do") and self._sql.start_due(now):
            settled = self._attempt(now)
            result = replace(settled, changes=result.changes + settled.changes)
        with self._moved:
            if result.outcome != "behind" and result.reached.seq >= self._reached.seq:
                self._reached = result.reached
                self._moved.notify_all()
        return result

    def refresh_until_done(self, now: Callable[[], datetime], *, seconds: float) -> Refreshed:
        """Refresh, waiting up to ``seconds`` for another evaluator to finish."""
        end = time.monotonic() + seconds
        while True:
            result = self.refresh(now())
            if result.outcome != "busy" or time.monotonic() > end:
                return result
            time.sleep(_BUSY_PAUSE)

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
        end = time.monotonic() + seconds
        while True:
            existed = self._retire(name, now(), record)
            if existed is not None:
                return existed
            if time.monotonic() > end:
                raise Unavailable("busy", "segments are being evaluated; try again soon")
            time.sleep(_BUSY_PAUSE)

    def check(self, now: Callable[[], datetime], *, seconds: float) -> list[Checked]:
        """Compare what is kept with a full evaluation at the instant of the last one.

        Changes nothing. Raises ``Unavailable`` when events keep coming in between, or another
        evaluator works, for longer than ``seconds``.
        """
        end = time.monotonic() + seconds
        while True:
            self._is_rest_over = True
            self.refresh(now())
            checked = self._check_once()
            if checked is not None:
                return checked
            if time.monotonic() > end:
                raise Unavailable("busy", "segments are being evaluated; try again soon")
            time.sleep(_BUSY_PAUSE)

    def is_time_due(self, now: datetime) -> bool:
        """Whether rules that move with time are to be evaluated again."""
        return self._next_due is None or now >= self._next_due

    def positions(self, log: str) -> dict[int, int]:
        """Return, per partition of ``log``, the offset below which everything is evaluated."""
        return dict(self._reached.positions.get(log, {}))

    def as_of(self) -> datetime | None:
        """The time up to which every event is in memberships and tag values."""
        as_of = self._engine.as_of()
        return as_of if self._reached.seq >= self._engine.applied_seq() else self._reached.as_of

    def wait_for(self, seq: int, seconds: float) -> bool:
        """Wait until everything up to the batch ``seq`` is evaluated; return whether it is."""
        with self._moved:
            return self._moved.wait_for(lambda: self._reached.seq >= seq, seconds)

    def failing(self) -> frozenset[UnitName]:
        """Return the units whose evaluation failed and is to be tried again."""
        return frozenset(self._failed)

    def _attempt(self, now: datetime) -> Refreshed:
        """Refresh; leave out, and come back to, units that fail, so that they stop nobody else."""
        while True:
            self._scanning = None
            try:
                result = self._refresh_once(now)
                # Only what is committed counts as looked at.
                self._scanned_at = self._scanning or self._scanned_at
                return result
            except UnitFailed as failure:
                definition = failure.definition
                _log.error(
                    "evaluation_failed",
                    kind=definition.kind,
                    key=definition.key,
                    exc_info=failure.__cause__,
                )
                retry_at = now + _RETRY_FAILED_AFTER
                self._failed[definition.name] = _Failure(definition.version, retry_at)
            except (psycopg.Error, sa.exc.SQLAlchemyError):
                self._sql.forget()
                raise
            except LedgerDiffers:
                self._sql.forget()
                _log.error("mirror_differs_from_ledger")
                with self._engine.write() as duck:
                    mirror.clear(duck)
                return Refreshed("behind", self._reached)

    @contextmanager
    def _transactions(self) -> Iterator[tuple[Duck, Driver]]:
        """Both transactions: Postgres commits first, DuckDB after it."""
        with self._engine.write() as duck:
            with self._database.transaction() as connection:
                yield duck, driver(connection)
            self._before_mirror_commit()

    def _refresh_once(self, now: datetime) -> Refreshed:
        with self._transactions() as (duck, tx):
            is_evaluator = take_refresh_lock(tx)
            # Read after the lock: until then another evaluator may move it.
            head = read_head(tx)
            mirror.catch_up(duck, self._database.libpq_url, head.change_no, head.seq)
            applied = mirror.read_applied(duck)
            if applied.seq < head.seq:
                return Refreshed("behind", applied)
            if not is_evaluator:
                is_all = applied.seq == head.seq
                return Refreshed("busy", applied if is_all else self._reached)
            return self._evaluate(duck, tx, head, applied, now)

    def _evaluate(
        self, duck: Duck, tx: Driver, head: RefreshHead, applied: Applied, now: datetime
    ) -> Refreshed:
        definitions = read_definitions(tx)
        mirror.write_segments(duck, segments_store.list_segments(tx))
        touched = read_touched(tx, head.seq, applied.seq)
        # A clock that was turned back must not make anything come true twice.
        now = max(now, head.evaluated_at or now)
        evaluator = Evaluator(
            duck, now=now, timezone=self._timezone, read_rule=self._rule_reader(definitions)
        )
        evaluator.before_settling = partial(refresh_moves.hold_back, evaluator, tx)
        since = head.evaluated_at or EARLIEST
        count = evaluator.touch(touched, since)
        skipped = self._skip(definitions, now)
        self._flips.note(definitions, evaluator.read_rule)
        crossed = self._find_crossed(duck, since, now)
        due = self._flips.list_turned(since, now)
        due += self._choose_affordable(
            find_due_for_time(self._flips.incomplete, self._evaluated_at, now, self._find_interval)
        )
        self._is_rest_over = False
        built_in_due = self._built_ins.look(
            evaluator,
            tx,
            definitions,
            batches=(head.seq, applied.seq),
            since=since,
            any_touched=count > 0,
        )
        held = refresh_moves.find_due(evaluator, tx, definitions)
        sql_due = self._sql.note(
            definitions,
            tags_store.list_types(tx),
            seq=applied.seq,
            change_no=head.change_no,
            awaited=held,
        )
        plan = plan_refresh(
            definitions,
            any_touched=count > 0,
            due_for_time=[*due, *built_in_due, *sql_due],
            crossed=refresh_moves.join_crossed(self._flips.list_crossed(crossed), held),
            all_touched=not touched.is_complete,
            skipped=skipped,
        )
        plan = self._built_ins.settle_plan(plan, built_in_due)
        plan = self._sql.settle_plan(plan)
        for evaluation in plan:
            self._evaluate_unit(evaluator, tx, evaluation)
        changes = _write_changes(duck, tx, evaluator, head, applied.seq, now)
        _mark_evaluated(tx, plan, skipped)
        self._schedule(plan, now, refresh_moves.find_next_due(tx, definitions, skipped))
        outcome: Outcome = "refreshed" if plan else "nothing_to_do"
        return Refreshed(outcome, applied, changes, len(plan))

    def _find_crossed(self, duck: Duck, since: datetime, now: datetime) -> set[str]:
        """Fill ``crossed``; what is found by reading columns rests between two looks."""
        scans = self._flips.scans
        # An evaluator before this one may have rested up to its last evaluation.
        scanned_at = self._scanned_at or max(since - _LONGEST_REST, EARLIEST)
        if now - scanned_at < self._find_scan_interval():
            scans = set()
        started = time.monotonic()
        crossed = find_crossed(
            duck, self._flips.crossings, since, now, scans=scans, scanned_at=scanned_at
        )
        if scans:
            self._scan_seconds = time.monotonic() - started
            self._scanning = now
        return crossed

    def _find_scan_interval(self) -> timedelta:
        if self._is_rest_over:
            return timedelta()
        resting = _REST * timedelta(seconds=self._scan_seconds)
        return min(max(self._time_interval, resting), _LONGEST_REST)

    def _evaluate_unit(self, evaluator: Evaluator, tx: Driver, evaluation: Evaluation) -> None:
        definition = evaluation.definition
        started = time.monotonic()
        try:
            evaluator.open_scope(evaluation.dependencies, evaluation.crossings)
            if definition.kind == "segment":
                evaluator.evaluate_segment(evaluation)
            elif "builtin" in definition.document:
                self._built_ins.evaluate(evaluator, tx, evaluation)
            elif "sql" in definition.document:
                self._sql.evaluate(evaluator, tx, evaluation)
            else:
                evaluator.evaluate_tag(evaluation, _read_manual(evaluator, tx, evaluation))
        except (psycopg.Error, sa.exc.SQLAlchemyError):
            raise
        except Exception as error:
            raise UnitFailed(definition, type(error).__name__) from error
        self._failed.pop(definition.name, None)
        if evaluation.whole:
            self._seconds[definition.name] = time.monotonic() - started

    def _choose_affordable(self, due: list[UnitName]) -> list[UnitName]:
        """Return as many of ``due`` as fit into a moment, at least one: events must not wait for

        the passing of time. The others come next, being the longest due then.
        """
        if self._is_rest_over:
            return due
        chosen: list[UnitName] = []
        seconds = 0.0
        for name in due:
            seconds += self._seconds.get(name, 0.0)
            if chosen and seconds > _MOST_SECONDS_FOR_TIME:
                break
            chosen.append(name)
        return chosen

    def _find_interval(self, name: UnitName) -> timedelta:
        """Return how often a unit is evaluated for everybody: never so often that it fills time."""
        if self._is_rest_over:
            return timedelta()
        return max(self._time_interval, _REST * timedelta(seconds=self._seconds.get(name, 0.0)))

    def _schedule(self, plan: list[Evaluation], now: datetime, next_move: datetime | None) -> None:
        """Note what was evaluated for everybody, and when time is to be looked at again."""
        done = {each.definition.name: now for each in plan if each.whole}
        known = {**self._evaluated_at, **done}
        self._evaluated_at = {n: at for n, at in known.items() if n in self._flips.incomplete}
        self._next_due = now + (self._time_interval if self._flips.is_moving else _STANDSTILL)
        built_ins_due = self._built_ins.finish(now)
        if next_move is not None:
            next_move = max(next_move, now + _SHORTEST_PAUSE)
        for moment in (built_ins_due, next_move, self._sql.find_next_due(now)):
            if moment is not None:
                self._next_due = min(self._next_due, moment)

    def _check_once(self) -> list[Checked] | None:
        try:
            with self._transactions() as (duck, tx):
                raise _RollBack(self._look_at_all(duck, tx))
        except _RollBack as found:
            return found.checked

    def _look_at_all(self, duck: Duck, tx: Driver) -> list[Checked] | None:
        if not take_refresh_lock(tx):
            return None
        head = read_head(tx)
        mirror.catch_up(duck, self._database.libpq_url, head.change_no, head.seq)
        if mirror.read_applied(duck).seq != head.seq or head.evaluated_at is None:
            return None
        definitions = [each for each in read_definitions(tx) if not each.is_behind]
        evaluator = Evaluator(
            duck,
            now=head.evaluated_at,
            timezone=self._timezone,
            read_rule=self._rule_reader(definitions),
        )
        evaluator.before_settling = partial(refresh_moves.hold_back, evaluator, tx)
        return check_units(
            evaluator, definitions, lambda evaluation: _read_manual(evaluator, tx, evaluation)
        )

    def _retire(
        self, name: UnitName, now: datetime, record: Callable[[Driver], None]
    ) -> bool | None:
        with self._transactions() as (duck, tx):
            if not take_refresh_lock(tx):
                return None
            head = read_head(tx)
            mirror.catch_up(duck, self._database.libpq_url, head.change_no, head.seq)
            segments_store.lock_definitions(tx)
            definitions = read_definitions(tx)
            found = {each.name: each for each in definitions}.get(name)
            if found is None:
                return False
            _require_unused(name, find_users(name, definitions), self._find_more_users(tx, name))
            record(tx)
            evaluator = Evaluator(
                duck, now=now, timezone=self._timezone, read_rule=self._rule_reader([])
            )
            evaluator.touch(Touched([], [], True), now)
            evaluator.open_scope(())
            evaluation = Evaluation(found, True, "definition", frozenset())
            if name.kind == "segment":
                evaluator.empty_segment(evaluation)
                segments_store.delete_segment(tx, name.key)
                mirror.write_segments(duck, segments_store.list_segments(tx))
            else:
                evaluator.empty_tag(evaluation)
                tags_store.delete_tag(tx, name.key)
            _write_changes(duck, tx, evaluator, head, head.seq, head.evaluated_at)
            return True

    def _rule_reader(self, definitions: list[Definition]) -> Callable[[Any], Rule]:
        tags = {each.key for each in definitions if each.kind == "tag"}

        def read_rule(document: Any) -> Rule:
            return parse_rule(document, known_tags=tags, normalise=self._normalise)

        return read_rule

    def _skip(self, definitions: list[Definition], now: datetime) -> frozenset[UnitName]:
        """Return the failed units whose time to be tried again has not come."""
        versions = {each.name: each.version for each in definitions}
        self._failed = {
            name: failure
            for name, failure in self._failed.items()
            if versions.get(name) == failure.version and now < failure.retry_at
        }
        return frozenset(self._failed)


def _read_manual(
    evaluator: Evaluator, tx: Driver, evaluation: Evaluation
) -> tuple[list[int], list[str], list[datetime]] | None:
    """Return what was set by hand for a manual tag, of everybody or of the scope."""
    definition = evaluation.definition
    if "manual" not in definition.document:
        return None
    nodes = None if evaluation.whole else evaluator.read_scope_nodes()
    return tags_store.read_manual_values(tx, definition.key, nodes)


def read_definitions(connection: Driver) -> list[Definition]:
    """Return the newest definition of every segment and tag."""
    segments = [each.definition for each in segments_store.list_segments(connection)]
    return segments + [each.definition for each in tags_store.list_tags(connection)]


def _require_unused(name: UnitName, *users: Iterable[tuple[str, str]]) -> None:
    found = [UserName(*user) for each in users for user in each]
    if found:
        named = ", ".join(f"{user.kind} {user.key}" for user in found)
        raise Conflict(
            f"{name.kind}_in_use",
            f"{name.kind} {name.key} is used by {named}; change them first",
            details={"used_by": [user._asdict() for user in found]},
        )


def _write_changes(
    duck: Duck,
    tx: Driver,
    evaluator: Evaluator,
    head: RefreshHead,
    seq: int,
    evaluated_at: datetime | None,
) -> int:
    """Write the changes into the ledger, move its head, and say so in the mirror."""
    memberships, tags = evaluator.number_changes(head.change_no)
    write_membership_changes(tx, memberships)
    write_tag_changes(tx, tags)
    count: int = memberships.num_rows + tags.num_rows
    moved = replace(head, seq=seq, change_no=head.change_no + count, evaluated_at=evaluated_at)
    if moved != head:
        move_head(tx, moved)
    if (moved.change_no, moved.seq) != (head.change_no, head.seq):
        mirror.mark_mirror(duck, moved.change_no, moved.seq)
    return count


def _mark_evaluated(tx: Driver, plan: list[Evaluation], skipped: frozenset[UnitName]) -> None:
    for evaluation in plan:
        definition = evaluation.definition
        if evaluation.whole and definition.is_behind:
            _store_of(definition.name).mark_evaluated(tx, definition.key, definition.version)
    # What was left out must be looked at for everybody when it is tried again.
    for name in skipped:
        _store_of(name).mark_evaluated(tx, name.key, 0)


def _store_of(name: UnitName) -> Any:
    return segments_store if name.kind == "segment" else tags_store
