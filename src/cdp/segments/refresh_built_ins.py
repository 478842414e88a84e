"""The built-in tags within a refresh: when each is computed for everybody, and when for a few."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from cdp.segments.builtins import computations_store
from cdp.segments.builtins.compute_engine import compute
from cdp.segments.builtins.definition import BuiltIn, ReadContext
from cdp.segments.builtins.figures import Whole, no_values
from cdp.segments.builtins.registry import find_kind, read_built_in
from cdp.segments.builtins.schedule import News, Schedule, is_news
from cdp.segments.builtins.source_engine import Source, read_as_of
from cdp.segments.definitions import Definition, UnitName
from cdp.segments.evaluation_engine import Evaluator
from cdp.segments.mirror_engine import fetch
from cdp.segments.refresh_plan import Evaluation
from cdp.storage.database import Driver

_SHORTEST_WAIT = timedelta(seconds=0.25)
_NO_NEWS = News(has_orders=False, has_moves=False, has_touched=False)


class BuiltInUnits:
    """Computes built-in tags as a refresh comes to them."""

    def __init__(self, timezone: str, currency: str, share: float) -> None:
        """``currency`` is the workspace's; ``share`` is that of ``Schedule``."""
        self._currency = currency
        self._schedule = Schedule(share, timezone)
        self._news = _NO_NEWS
        self._done: dict[UnitName, float] = {}

    def look(
        self,
        evaluator: Evaluator,
        tx: Driver,
        definitions: Iterable[Definition],
        *,
        batches: tuple[int, int],
        since: datetime,
        any_touched: bool,
    ) -> list[UnitName]:
        """Note what the ``batches`` (after, until] brought, and which orders that were dated ahead

        have come true after ``since``; return what is due for everybody.
        """
        self._done = {}
        built_in = [each for each in definitions if find_kind(each.document)]
        if not built_in:
            return []
        after, until = batches
        news = computations_store.read_news(tx, after, until) if until > after else _NO_NEWS
        has_orders = news.has_orders or _has_come_true(evaluator, since)
        self._news = replace(news, has_touched=any_touched, has_orders=has_orders)
        self._schedule.note(built_in, self._news, evaluator.now)
        return self._schedule.list_due()

    def settle_plan(self, plan: list[Evaluation], due: Collection[UnitName]) -> list[Evaluation]:
        """Leave out what nothing has happened to; call the cause of the rest by its name."""
        settled: list[Evaluation] = []
        planned: set[UnitName] = set()
        for evaluation in plan:
            kind = find_kind(evaluation.definition.document)
            name = evaluation.definition.name
            if kind is not None:
                is_touched = is_news(kind, self._news) or bool(evaluation.dependencies & planned)
                if not evaluation.whole and not is_touched and not evaluation.crossings:
                    continue
                if name in due and evaluation.cause == "time" and is_touched:
                    evaluation = replace(evaluation, cause="event")
            settled.append(evaluation)
            planned.add(name)
        return settled

    def evaluate(self, evaluator: Evaluator, tx: Driver, evaluation: Evaluation) -> None:
        """Compute a built-in tag and settle what changed."""
        definition = evaluation.definition
        built_in = read_built_in(definition.document, ReadContext())
        if evaluation.whole:
            self._compute_whole(evaluator, tx, evaluation, built_in)
            return
        self._schedule.mark_stale(definition.name)
        last = computations_store.find_computation(tx, definition.key)
        if last is None or last.status != "ready" or last.version != definition.version:
            evaluator.settle_values(evaluation, no_values())
            return
        source = self._open_source(evaluator, built_in, evaluation)
        evaluator.settle_values(evaluation, compute(source, built_in, last.fitted).values)

    def _compute_whole(
        self, evaluator: Evaluator, tx: Driver, evaluation: Evaluation, built_in: BuiltIn
    ) -> None:
        definition = evaluation.definition
        started = time.monotonic()
        computed = compute(self._open_source(evaluator, built_in, evaluation), built_in, None)
        evaluator.settle_values(evaluation, computed.values)
        computations_store.write_computation(
            tx, definition.key, definition.version, computed, evaluator.now
        )
        self._done[definition.name] = time.monotonic() - started

    def finish(self, now: datetime) -> datetime | None:
        """Note what was computed; return when something is due next, if anything is."""
        for name, seconds in self._done.items():
            self._schedule.pay(name, seconds, now)
        self._done = {}
        wait = self._schedule.seconds_to_wait()
        return None if wait is None else now + max(_SHORTEST_WAIT, timedelta(seconds=wait))

    def _open_source(
        self, evaluator: Evaluator, built_in: BuiltIn, evaluation: Evaluation
    ) -> Source:
        def find_holders(document: Any) -> Whole:
            found = evaluator.find_holders(document, whole=evaluation.whole)
            return np.asarray(found["profile_no"].to_numpy(), dtype=np.int64)

        evaluator.apply_pending()
        as_of = built_in.as_of
        now, timezone = evaluator.now, evaluator.timezone
        return Source(
            duck=evaluator.duck,
            now=now,
            as_of=now if as_of is None else read_as_of(as_of, timezone),
            timezone=timezone,
            currency=self._currency,
            is_restricted=not evaluation.whole,
            find_holders=find_holders,
        )


def _has_come_true(evaluator: Evaluator, since: datetime) -> bool:
    """Whether there is an order of after ``since`` and not after now."""
    found = fetch(
        evaluator.duck,
        "SELECT 1 FROM core.orders WHERE placed_at > $since AND placed_at <= $now LIMIT 1",
        {"since": since, "now": evaluator.now},
    )
    return bool(found.num_rows)
