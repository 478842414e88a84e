"""One refresh inside its two transactions: plan what to evaluate, for whom, and do it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa

from cdp.segments import refresh_moves, tags_store
from cdp.segments.crossings_engine import find_crossed
from cdp.segments.definitions import Definition
from cdp.segments.definitions_store import mark_evaluated
from cdp.segments.evaluation_engine import Evaluator
from cdp.segments.findings_engine import Manual
from cdp.segments.flip_book import FlipBook
from cdp.segments.membership_store import RefreshHead, Touched
from cdp.segments.mirror_engine import Duck
from cdp.segments.parse import NormaliseIdentifier, parse_rule
from cdp.segments.refresh_built_ins import BuiltInUnits
from cdp.segments.refresh_pace import Pace
from cdp.segments.refresh_plan import EARLIEST, Evaluation, plan_refresh, share_crossings
from cdp.segments.refresh_sql import SqlUnits
from cdp.segments.rules import Rule
from cdp.segments.unit_failures import UnitFailed, UnitFailures
from cdp.storage.database import Driver


class RefreshUnits:
    """What is kept of segments and tags from one refresh to the next. Used by one thread."""

    def __init__(
        self,
        *,
        timezone: str,
        interval: timedelta,
        normalise: NormaliseIdentifier | None,
        built_ins: BuiltInUnits,
        sql: SqlUnits,
    ) -> None:
        """``interval``: how often it is looked at whom time alone has moved."""
        self._timezone = timezone
        self._normalise = normalise
        self._built_ins = built_ins
        self._sql = sql
        self._flips = FlipBook(timezone)
        self.pace = Pace(interval)
        self.failures = UnitFailures()

    def open(
        self, duck: Duck, tx: Driver, definitions: list[Definition], now: datetime
    ) -> Evaluator:
        """Return what evaluates ``definitions`` at ``now`` within both transactions."""
        evaluator = Evaluator(
            duck, now=now, timezone=self._timezone, read_rule=self._rule_reader(definitions)
        )
        evaluator.before_settling = partial(refresh_moves.hold_back, evaluator, tx)
        return evaluator

    def evaluate(
        self,
        evaluator: Evaluator,
        tx: Driver,
        definitions: list[Definition],
        head: RefreshHead,
        seq: int,
        touched: Touched,
    ) -> list[Evaluation]:
        """Evaluate what the batches after ``head`` up to ``seq`` and the time passed since may

        have changed. Return what was evaluated. Raises ``UnitFailed``.
        """
        now = evaluator.now
        since = head.evaluated_at or EARLIEST
        count = evaluator.touch(touched, since)
        skipped = self.failures.skip(definitions, now)
        self._flips.note(definitions, evaluator.read_rule)
        crossed = self._find_crossed(evaluator.duck, since, now)
        due = self._flips.list_turned(since, now)
        due += self.pace.choose_due(self._flips.incomplete, now)
        built_in_due = self._built_ins.look(
            evaluator,
            tx,
            definitions,
            batches=(head.seq, seq),
            since=since,
            any_touched=count > 0,
        )
        held = refresh_moves.find_due(evaluator, tx, definitions)
        sql_due = self._sql.note(
            definitions,
            tags_store.list_types(tx),
            seq=seq,
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
        plan = self._sql.settle_plan(self._built_ins.settle_plan(plan, built_in_due))
        for evaluation in share_crossings(plan) if evaluator.are_all_few() else plan:
            self._evaluate_unit(evaluator, tx, evaluation)
        return plan

    def finish(
        self, tx: Driver, definitions: list[Definition], plan: list[Evaluation], now: datetime
    ) -> None:
        """Note what was evaluated, and when it is to be looked at what time does."""
        skipped = self.failures.names()
        mark_evaluated(tx, plan, skipped)
        self.pace.schedule(
            plan,
            now,
            incomplete=self._flips.incomplete,
            is_moving=self._flips.is_moving,
            moments=(self._built_ins.finish(now), self._sql.find_next_due(now)),
            next_move=refresh_moves.find_next_due(tx, definitions, skipped),
        )

    def _find_crossed(self, duck: Duck, since: datetime, now: datetime) -> set[str]:
        """Fill ``crossed``; what is found by reading columns rests between two looks."""
        scanned_at = self.pace.find_scanned_at(since)
        scans = self._flips.scans if self.pace.is_scan_due(scanned_at, now) else set()
        started = time.monotonic()
        crossed = find_crossed(
            duck, self._flips.crossings, since, now, scans=scans, scanned_at=scanned_at
        )
        if scans:
            self.pace.note_scan(now, time.monotonic() - started)
        return crossed

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
                evaluator.evaluate_tag(evaluation, read_manual(evaluator, tx, evaluation))
        except (psycopg.Error, sa.exc.SQLAlchemyError):
            raise
        except Exception as error:
            raise UnitFailed(definition, type(error).__name__) from error
        self.failures.clear(definition.name)
        if evaluation.whole:
            self.pace.note_whole(definition.name, time.monotonic() - started)

    def _rule_reader(self, definitions: list[Definition]) -> Callable[[Any], Rule]:
        tags = {each.key for each in definitions if each.kind == "tag"}

        def read_rule(document: Any) -> Rule:
            return parse_rule(document, known_tags=tags, normalise=self._normalise)

        return read_rule


def read_manual(evaluator: Evaluator, tx: Driver, evaluation: Evaluation) -> Manual | None:
    """Return what was set by hand for a manual tag, of everybody or of the scope."""
    definition = evaluation.definition
    if "manual" not in definition.document:
        return None
    nodes = None if evaluation.whole else evaluator.read_scope_nodes()
    return tags_store.read_manual_values(tx, definition.key, nodes)
