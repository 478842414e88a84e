"""Prometheus metrics of this process, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from fastapi import APIRouter, Depends, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import PlainTextResponse

from cdp.access.guard import public
from cdp.log.port import Log
from cdp.runtime.clock import now
from cdp.runtime.progress_store import Counts, read_counts
from cdp.runtime.request_tally import RequestTally
from cdp.storage.database import Database, driver

_OUTCOMES = ("stored", "duplicate", "rejected")


class Follows(Protocol):
    """What metrics ask of the analytics engine."""

    def as_of(self) -> datetime | None: ...
    def lag_ms(self, now: datetime) -> int | None: ...
    def applied_positions(self, log: str) -> dict[int, int]: ...


class Metrics:
    """Counts requests, and reads how far the stages have come when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = RequestTally()
        self.registry.register(self._requests)
        self._refused = Counter(
            "cdp_ingest_refused",
            "Requests with events that were answered with an error, by its code.",
            ["reason"],
            registry=self.registry,
        )

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request. ``route`` is a template, never a path, which could be anything."""
        self._requests.count((route, method, status), seconds)

    def count_refusal(self, code: str) -> None:
        """Count one request that ingest answered with an error; ``code`` is the error's."""
        self._refused.labels(code).inc()

    def watch_ingest(self, read_buffered: Callable[[], int], is_closed: Callable[[], bool]) -> None:
        """Add what waits in this process, and whether ingest is closed since workers lag."""
        buffered = Gauge(
            "cdp_ingest_buffered_bytes",
            "Bytes that wait for the log's acknowledgement.",
            registry=self.registry,
        )
        buffered.set_function(read_buffered)
        closed = Gauge(
            "cdp_ingest_closed",
            "Whether events are refused because the workers are too far behind.",
            registry=self.registry,
        )
        closed.set_function(is_closed)

    def watch(self, database: Database, log: Log, engine: Follows | None) -> None:
        """Add the stages to what is shown."""
        self.registry.register(_StageCollector(database, log, engine))

    def render(self) -> bytes:
        """Return everything in Prometheus' text format. Blocks on Postgres and the log."""
        return generate_latest(self.registry)


class _StageCollector(Collector):
    """Reads positions and counts at the moment of the scrape; what cannot be read is left out."""

    def __init__(self, database: Database, log: Log, engine: Follows | None) -> None:
        self._database = database
        self._log = log
        self._engine = engine

    def describe(self) -> Iterator[Metric]:
        """Nothing: the registry must not ask Postgres for names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        ends: dict[int, int] | None = None
        counts: Counts | None = None
        with suppress(Exception):
            ends = self._log.end_positions()
        with suppress(Exception), self._database.transaction() as connection:
            counts = read_counts(driver(connection), self._log.name)
        yield _gauge("cdp_log_up", "Whether the log answers.", float(ends is not None))
        yield _gauge("cdp_postgres_up", "Whether Postgres answers.", float(counts is not None))
        if ends is not None:
            text = "The position after the newest record."
            yield _by_partition("cdp_log_end_position", text, ends)
        if counts is not None:
            yield from _show_counts(counts)
        if counts is not None and ends is not None:
            lag = {p: max(0, end - counts.positions.get(p, 0)) for p, end in ends.items()}
            text = "Records that wait for a stage."
            yield _by_partition("cdp_lag_records", text, lag, stage="worker")
        if self._engine is not None:
            with suppress(Exception):
                yield from list(_show_feed(self._engine, self._log.name, counts))


def _show_counts(counts: Counts) -> Iterator[Metric]:
    text = "The position up to which the workers have come."
    yield _by_partition("cdp_worker_position", text, counts.positions)
    yield CounterMetricFamily("cdp_batches", "Batches committed.", value=counts.batches)
    yield GaugeMetricFamily(
        "cdp_dead_letters", "Set aside as unprocessable, and open.", value=counts.dead_letters
    )
    clashes = CounterMetricFamily(
        "cdp_worker_clashes",
        "Batches that broke a rule of the schema: passed when tried again, or set aside.",
        labels=["rule", "outcome"],
    )
    for rule, outcome, number in counts.clashes:
        clashes.add_metric([rule, outcome], number)
    yield clashes
    events = CounterMetricFamily(
        "cdp_events", "What became of the events, by source.", labels=["source_id", "outcome"]
    )
    unbalanced = GaugeMetricFamily(
        "cdp_accounting_unbalanced",
        "Minutes in which received is not stored + duplicate + rejected, by source.",
        labels=["source_id"],
    )
    received = CounterMetricFamily(
        "cdp_received", "Elements that were delivered and worked off.", labels=["source_id"]
    )
    for source_id, number_received, *numbers in counts.accounting:
        received.add_metric([source_id], number_received)
        for outcome, number in zip(_OUTCOMES, numbers, strict=True):
            events.add_metric([source_id, outcome], number)
        unbalanced.add_metric([source_id], counts.unbalanced.get(source_id, 0))
    yield received
    yield events
    yield unbalanced


def _show_feed(engine: Follows, log: str, counts: Counts | None) -> Iterator[Metric]:
    applied = engine.applied_positions(log)
    yield _by_partition("cdp_feed_position", "The position that analytics has come to.", applied)
    lag_ms = engine.lag_ms(now())
    if lag_ms is not None:
        yield _gauge("cdp_feed_lag_seconds", "How old the newest unseen change is.", lag_ms / 1000)
    if counts is not None:
        lag = {p: max(0, end - applied.get(p, 0)) for p, end in counts.positions.items()}
        text = "Records that wait for analytics."
        yield _by_partition("cdp_feed_lag_records", text, lag)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _by_partition(name: str, text: str, values: dict[int, int], **labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[*labels, "partition"])
    for partition, value in sorted(values.items()):
        family.add_metric([*labels.values(), str(partition)], value)
    return family


def create_router(metrics: Metrics) -> APIRouter:
    """Return the route that Prometheus scrapes; anybody may ask."""
    router = APIRouter(tags=["health"], dependencies=[Depends(public)])

    @router.get("/metrics", response_class=PlainTextResponse)
    def get_metrics() -> Response:
        """Show the metrics in Prometheus' text format."""
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router
