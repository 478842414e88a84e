"""The plan in memory, compiled: the door asks nobody about it, and goes on while Postgres is down.

Follows the versions; counts what the checks find.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdp.errors import Unavailable
from cdp.model import EventCheck, Source, Verdict
from cdp.plan.check import CheckedPlan, PlanMode, make_check, prepare_plan
from cdp.plan.plan import Document, plan_for
from cdp.plan.plan_store import PLAN_CHANNEL, read_plan, read_version
from cdp.storage.database import Database, driver
from cdp.storage.listening import DATABASE_ERRORS, ChannelFollower

_OBSERVE = (None, "observe")


@dataclass(frozen=True, slots=True)
class _Held:
    """One version, compiled."""

    document: Document
    general: CheckedPlan
    own: Mapping[str, CheckedPlan]
    """By source, where it has a part of its own."""
    checks: dict[tuple[str, str], EventCheck | None] = field(default_factory=dict)


def _hold(document: Document) -> _Held:
    """Compile ``document`` whole, so that no request waits for it."""
    own = {name: prepare_plan(document, name) for name in document.get("sources", {})}
    return _Held(document, prepare_plan(document, ""), own)


class PlanBook:
    """Knows the plan that holds. Thread-safe.

    ``start`` keeps it fresh: a new version holds here within a second. Without ``start`` it is as
    of the last ``refresh``.
    """

    def __init__(self, database: Database) -> None:
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        """What the checks found, by source, event, reason and mode."""
        self._database = database
        self._held: _Held | None = None
        self._lock = threading.Lock()
        self._follower = ChannelFollower(database, PLAN_CHANNEL, "plan", self.refresh)

    def start(self) -> None:
        """Load the plan and follow it; tolerates that Postgres is away."""
        self._follower.start()

    def close(self) -> None:
        """Stop following."""
        self._follower.close()

    def refresh(self) -> None:
        """Read the plan now if it is another. Blocks."""
        with self._lock, self._database.transaction() as connection:
            held = self._held
            if held is None or held.document["version"] != read_version(driver(connection)):
                # Replaced as a whole: readers hold no lock.
                self._held = _hold(read_plan(driver(connection)))

    def look(self) -> None:
        """Read the plan now, if that can be done: it was changed here."""
        with suppress(*DATABASE_ERRORS):
            self.refresh()

    @property
    def version(self) -> int | None:
        """The version that holds here; ``None`` before it could be read."""
        return None if self._held is None else int(self._held.document["version"])

    def find_check(self, source: Source) -> EventCheck | None:
        """Return what checks the events of ``source``; ``None`` when nothing does.

        Never blocks. Raises ``Unavailable`` when the plan could not be read yet: to take events
        unchecked then would break what the mode promises.
        """
        mode = source.settings.get("plan_mode")
        if mode in _OBSERVE:
            return None
        held = self._held
        if held is None:
            raise Unavailable(
                "plan_unavailable", "the tracking plan cannot be read yet", retry_after=5
            )
        key = (source.source_id, mode)
        if key not in held.checks:
            held.checks[key] = self._make_check(held, *key)
        return held.checks[key]

    def list_tracked(self, source: Source) -> dict[str, Any]:
        """Return ``plan.track`` as browsers read it from their settings.

        Only where the door blocks, it names what a browser need not send.
        """
        everything = {"__default": {"enabled": True}}
        held = self._held
        if source.settings.get("plan_mode") != "block" or held is None or not self.version:
            return everything
        events = plan_for(held.document, source.source_id)["events"]
        planned = {
            name: {"enabled": event.get("enabled", True), "integrations": {}}
            for name, event in events.items()
        }
        return {"__default": {"enabled": False, "integrations": {}}, **planned}

    def _make_check(self, held: _Held, source_id: str, mode: str) -> EventCheck | None:
        plan = held.own.get(source_id, held.general)
        check = make_check(plan, cast(PlanMode, mode))
        return None if check is None else self._count(check, plan, source_id, mode)

    def _count(self, check: EventCheck, plan: CheckedPlan, source_id: str, mode: str) -> EventCheck:
        counts = self.counts

        def check_and_count(event: dict[str, Any]) -> Verdict | None:
            verdict = check(event)
            if verdict is not None:
                reasons = verdict.flags if verdict.code is None else (verdict.code,)
                for reason in reasons:
                    counts[source_id, _name_for_count(event, plan), reason, mode] += 1
            return verdict

        return check_and_count


def _name_for_count(event: dict[str, Any], plan: CheckedPlan) -> str:
    """Return a planned event's name, or the type of the call: others could be anything."""
    name = event.get("event")
    if event.get("type") == "track":
        return name if isinstance(name, str) and name in plan.events else ""
    return str(event.get("type"))


class PlanCollector(Collector):
    """Shows what a ``PlanBook`` counted, at the moment of the scrape."""

    def __init__(self, book: PlanBook) -> None:
        self._book = book

    def collect(self) -> Iterator[Metric]:
        """Yield the plan's version and the findings so far."""
        version = self._book.version
        if version is not None:
            text = "The version of the tracking plan that holds here."
            yield GaugeMetricFamily("cdp_plan_version", text, value=version)
        findings = CounterMetricFamily(
            "cdp_plan_findings",
            "Events that do not follow the tracking plan; unplanned ones have no event label.",
            labels=["source_id", "event", "reason", "mode"],
        )
        for labels, number in self._book.counts.copy().items():
            findings.add_metric(list(labels), number)
        yield findings
