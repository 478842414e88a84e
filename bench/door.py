"""The door over a real Kafka: goal 5 (rate), 6 (latency at half load) and 13 (CPU per event).

Goal 13 asks what an accepted event costs server and broker together, against the FastAPI endpoint
that everybody writes first, over the same broker with the same promises. A Rust server that does
the same job was measured so, beside that endpoint, at 0.204 of it in batches and 0.081 for singles.
The budget per step is what each server costs more than the one that does a step less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil

from bench.ingest import Server, run_servers
from bench.ingest_server import WRITE_KEY
from bench.load import make_request
from bench.paced_load import measure_latencies
from bench.payload import make_lines
from bench.ratios import compare, take_turns
from cdp.settings import Settings
from tests.support.kafka_broker import GIVEN_SERVERS, KafkaBroker

_RUST = {"batch": 18.6 / 91, "single": 71 / 876}
_EVENTS = {"batch": 100, "single": 1}
_KINDS = ("bare", "ours", "durable", "textbook_durable")
_LATENCY_CONNECTIONS = 64


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of goals 5, 6 and 13."""
    rounds, seconds = (5, 1.5) if quick else (9, 4.0)
    lines = make_lines(100, 0)
    batch = b'{"batch":[' + b",".join(lines) + b'],"sentAt":"2026-03-01T08:00:01.000Z"}'
    requests = {
        "batch": make_request("/v1/batch", batch, WRITE_KEY),
        "single": make_request("/v1/track", lines[0], WRITE_KEY),
    }
    if GIVEN_SERVERS:
        raise RuntimeError("the broker's CPU counts too, so it must be one of our own")
    broker = KafkaBroker(heap="1g", quick_start=False)
    try:
        broker.start()
        assert broker._process is not None
        store = psutil.Process(broker._process.pid)
        kafka = (broker.servers, f"bench.{time.time_ns()}")
        with run_servers(*_KINDS, kafka=kafka) as servers:
            rows = [_measure_rate(servers, requests["batch"], rounds, seconds)]
            for shape, request in requests.items():
                rows.append(_measure_cpu(servers, store, shape, request, rounds, seconds))
            for shape, request in requests.items():
                rows += _measure_latency(servers, shape, request, rounds, seconds)
    finally:
        broker.close()
    return rows


def _measure_rate(
    servers: dict[str, Server], request: bytes, rounds: int, seconds: float
) -> dict[str, Any]:
    durable, stubbed = servers["durable"], servers["ours"]
    for server in (durable, stubbed):
        server.measure("batch", request, 0.5)
    pairs = take_turns(
        rounds,
        lambda: durable.measure("batch", request, seconds),
        lambda: stubbed.measure("batch", request, seconds),
    )
    name = "batch of 100, acknowledged by Kafka / by a log that does nothing"
    ratios = [real / stub for real, stub in pairs]
    return compare(5, name, ratios, at_least=0.35, rates=pairs)


def _measure_cpu(
    servers: dict[str, Server],
    store: psutil.Process,
    shape: str,
    request: bytes,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """Return goal 13's row for one shape of traffic; costs are microseconds of CPU per event."""
    costs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _KINDS}

    def measure(kind: str) -> tuple[float, float]:
        server = servers[kind]
        server.take_cpu()
        before = sum(store.cpu_times()[:2])
        rate = server.measure(shape, request, seconds)
        broker = (sum(store.cpu_times()[:2]) - before) / (rate * seconds) * 1e6
        return server.take_cpu() / _EVENTS[shape], broker / _EVENTS[shape]

    for kind in _KINDS:
        measure(kind)
    for number in range(rounds):
        for kind in _KINDS if number % 2 else reversed(_KINDS):
            costs[kind].append(measure(kind))
    ratios = [
        sum(mine) / sum(theirs)
        for mine, theirs in zip(costs["durable"], costs["textbook_durable"], strict=True)
    ]
    alone = {kind: statistics.median(one for one, _ in costs[kind]) for kind in _KINDS}
    broker = statistics.median(one for _, one in costs["durable"])
    total = alone["durable"] + broker
    theirs = statistics.median(map(sum, costs["textbook_durable"]))
    budget = {
        "read_and_answer": alone["bare"],
        "cut_judge_pack": alone["ours"] - alone["bare"],
        "produce": alone["durable"] - alone["ours"],
        "broker": broker,
    }
    steps = ", ".join(f"{step} {cost:.1f}" for step, cost in budget.items())
    name = f"CPU per event, {shape}: {total:.1f} µs ({steps}) / textbook {theirs:.0f} µs"
    return compare(13, name, ratios, at_most=_RUST[shape], budget_us=budget, total_us=total)


def _measure_latency(
    servers: dict[str, Server], shape: str, request: bytes, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    durable, bare = servers["durable"], servers["bare"]
    half = durable.measure(shape, request, seconds) / 2

    def measure(server: Server) -> Callable[[], float]:
        return lambda: _find_p99(
            measure_latencies(
                server.port, request, per_second=half, seconds=seconds,
                connections=_LATENCY_CONNECTIONS,
            )
        )  # fmt: skip

    pairs = take_turns(rounds, measure(durable), measure(bare))
    allowed = Settings().linger_ms / 1000 + 0.010
    shown = statistics.median(mine for mine, _ in pairs) * 1000
    return [
        compare(
            6,
            f"p99 at half load, {shape}: {shown:.1f} ms / bare body read at the same rate",
            [mine / theirs for mine, theirs in pairs],
            at_most=4,
            per_second=half,
            seconds=pairs,
        ),
        compare(
            6,
            f"p99 at half load, {shape} / linger + 10 ms",
            [mine / allowed for mine, _ in pairs],
            at_most=1,
        ),
    ]


def _find_p99(latencies: list[float]) -> float:
    return statistics.quantiles(latencies, n=100)[98]


if __name__ == "__main__":
    for row in run(quick=True):
        print({name: row[name] for name in ("goal", "name", "ratio", "spread", "target", "met")})
