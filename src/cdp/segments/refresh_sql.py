"""Tags by SQL within refreshes: queries run beside them, what they gave is settled in the next.

A query reads what is committed, on a connection and in a thread of its own: events never wait for
it longer than a moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from cdp.runtime.logs import get_logger
from cdp.segments import tag_failures_store
from cdp.segments.definitions import Definition, UnitName
from cdp.segments.evaluation_engine import Evaluator
from cdp.segments.mirror_engine import fetch
from cdp.segments.refresh_plan import Evaluation
from cdp.segments.sql_tags import SqlClock, SqlFailed, SqlValues, TagQueries
from cdp.storage.database import Driver

_log = get_logger(__name__)

_SHORTEST_WAIT = timedelta(seconds=0.25)
_KEPT = """
SELECT v.profile_no, v.value::VARCHAR AS value
  FROM core.tag_values v SEMI JOIN scope USING (profile_no)
  SEMI JOIN core.profiles USING (profile_no)
 WHERE v.key = $key
"""


@dataclass(slots=True)
class _Run:
    """One query under way, and what it came to."""

    definition: Definition
    output: SqlValues
    seq: int
    change_no: int
    started_at: datetime
    done: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0
    values: pa.Table | None = None
    failure: SqlFailed | None = None


class SqlUnits:
    """Runs the queries of tags. ``note`` to ``finish`` are called within a refresh."""

    def __init__(
        self, queries: TagQueries | None, interval: timedelta, grace_seconds: float
    ) -> None:
        """``interval``: how often queries are run again that look at the clock.

        ``grace_seconds``: how long a refresh waits for one that it has begun.
        """
        self._grace_seconds = grace_seconds
        self._queries = queries
        self._interval = interval
        self._definitions: dict[UnitName, Definition] = {}
        self._types: dict[str, SqlValues] = {}
        self._clocks: dict[UnitName, SqlClock] = {}
        self._runs: dict[UnitName, _Run] = {}
        self._seen = (0, 0)

    def note(
        self,
        definitions: Iterable[Definition],
        types: dict[str, SqlValues],
        *,
        seq: int,
        change_no: int,
        awaited: Collection[UnitName],
    ) -> list[UnitName]:
        """Know the tags, their ``types`` by key, and how far everything is; return those whose

        query has given something. ``awaited`` are those in which somebody's hold is over.
        """
        # Whoever changed it may see more, or less, than whoever did before.
        others = {key for key, known in self._types.items() if types.get(key, known) != known}
        self._types = types
        self._seen = (seq, change_no)
        self._definitions = {
            each.name: each
            for each in definitions
            if each.kind == "tag" and isinstance(each.document, dict) and "sql" in each.document
        }
        clocks: dict[UnitName, SqlClock] = {}
        for name, definition in self._definitions.items():
            sql = definition.document["sql"]
            known = self._clocks.get(name)
            is_same = known is not None and known.sql == sql and name.key not in others
            clock = known if known is not None and is_same else SqlClock(sql)
            clocks[name] = replace(clock, is_awaited=True) if name in awaited else clock
        self._clocks = clocks
        self._runs = {
            name: run for name, run in self._runs.items()
            if name in clocks and run.definition.version == self._definitions[name].version
        }  # fmt: skip
        return sorted(name for name, run in self._runs.items() if run.done.is_set())

    def settle_plan(self, plan: list[Evaluation]) -> list[Evaluation]:
        """Let everybody's values be settled where a query has given them, else only who is gone."""
        settled = []
        for evaluation in plan:
            name = evaluation.definition.name
            if name in self._definitions:
                run = self._runs.get(name)
                is_whole = run is not None and run.values is not None and run.done.is_set()
                cause = evaluation.cause
                if cause == "time" and not self._clocks[name].is_awaited:
                    cause = "event"
                evaluation = replace(evaluation, whole=is_whole, cause=cause)
            settled.append(evaluation)
        return settled

    def evaluate(self, evaluator: Evaluator, tx: Driver, evaluation: Evaluation) -> None:
        """Settle what a query gave, or let those lose their value who are gone."""
        definition = evaluation.definition
        run = self._runs.get(definition.name)
        if run is not None and run.done.is_set():
            del self._runs[definition.name]
            self._note_run(definition.name, run)
            if run.failure is not None:
                tag_failures_store.write_failure(
                    tx, definition, run.failure.code, run.failure.message, evaluator.now
                )
            else:
                tag_failures_store.delete_failure(tx, definition.key)
        if evaluation.whole:
            assert run is not None
            evaluator.settle_texts(evaluation, run.values)
            return
        kept = fetch(evaluator.duck, _KEPT, {"key": definition.key})
        evaluator.settle_texts(evaluation, kept)

    def _note_run(self, name: UnitName, run: _Run) -> None:
        self._clocks[name] = self._clocks[name].note_run(
            seq=run.seq,
            change_no=run.change_no,
            now=run.started_at,
            seconds=run.seconds,
            has_failed=run.failure is not None,
        )

    def forget(self) -> None:
        """Nothing that was settled is certain to be kept: run every query again."""
        self._clocks = {
            name: replace(clock, is_awaited=True) for name, clock in self._clocks.items()
        }

    def start_due(self, now: datetime) -> bool:
        """Run what is out of date and rested, outside of any transaction; return whether

        something has ended within a moment.
        """
        started = [
            self._start(name, now) for name, clock in self._clocks.items()
            if name not in self._runs and self._is_due(clock, now)
        ]  # fmt: skip
        end = time.monotonic() + self._grace_seconds
        for run in started:
            run.done.wait(max(0.0, end - time.monotonic()))
        return any(run.done.is_set() for run in started)

    def find_next_due(self, now: datetime) -> datetime | None:
        """Return when there is something to run or to settle."""
        if self._runs:
            return now + _SHORTEST_WAIT
        times = []
        for clock in self._clocks.values():
            if clock.is_stale(*self._seen, now, self._interval):
                times.append(max(clock.rests_until or now, now + _SHORTEST_WAIT))
        return min(times, default=None)

    def _is_due(self, clock: SqlClock, now: datetime) -> bool:
        is_stale = clock.is_stale(*self._seen, now, self._interval)
        return is_stale and not clock.is_resting(now)

    def _start(self, name: UnitName, now: datetime) -> _Run:
        definition = self._definitions[name]
        run = _Run(definition, self._types.get(name.key, SqlValues()), *self._seen, now)
        self._runs[name] = run
        threading.Thread(
            target=self._work, args=(run,), name=f"tag-{name.key}", daemon=True
        ).start()
        return run

    def _work(self, run: _Run) -> None:
        began = time.monotonic()
        document: Any = run.definition.document
        try:
            if self._queries is None:
                raise SqlFailed("sql_refused", "this process runs no SQL")
            run.values = self._queries.run(document["sql"], run.output)
        except SqlFailed as failure:
            run.failure = failure
        except Exception as error:
            _log.error("tag_query_failed", key=run.definition.key, exc_info=error)
            run.failure = SqlFailed("sql_failed", type(error).__name__)
        run.seconds = time.monotonic() - began
        run.done.set()
