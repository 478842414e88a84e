"""A rule's preview, count and ten faces, through the running program over a whole population.

The limit is a second at the median and at the 95th percentile, with the memory that a small
installation gives DuckDB.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import httpx

from bench.end_to_end import percentile
from bench.population import run_populated
from bench.ratios import compare

PEOPLE, EVENTS = 50_000, 1_000_000
FULL_PEOPLE, FULL_EVENTS = 1_000_000, 20_000_000
ROUNDS, FULL_ROUNDS = 15, 30
LIMIT_SECONDS = 1.0

_FRENCH = {"trait": "country", "op": "eq", "value": "FR"}
_MONTH = {"last": "30d"}
_SHAPES: dict[str, dict[str, Any]] = {
    "ordered in 30 days and lives in FR": {
        "all": [{"event": "Order Completed", "within": _MONTH}, _FRENCH]
    },
    "saw 3 pages in 30 days": {
        "event": "Page Viewed",
        "within": _MONTH,
        "count": {"op": "gte", "value": 3},
    },
    "did not order in 30 days and lives in FR": {
        "all": [{"not": {"event": "Order Completed", "within": _MONTH}}, _FRENCH]
    },
    "saw 3 pages, ever": {"event": "Page Viewed", "count": {"op": "gte", "value": 3}},
    "spent 500 or more, ever": {
        "event": "Order Completed",
        "aggregate": {"fn": "sum", "property": "total"},
        "op": "gte",
        "value": 500,
    },
}


def run(quick: bool) -> list[dict[str, Any]]:
    """Return a row per shape of rule: the 95th percentile as a share of the limit."""
    people, events = (PEOPLE, EVENTS) if quick else (FULL_PEOPLE, FULL_EVENTS)
    rounds = ROUNDS if quick else FULL_ROUNDS
    taken: dict[str, list[float]] = {name: [] for name in _SHAPES}
    first: dict[str, float] = {}
    spent: dict[str, list[float]] = {name: [] for name in _SHAPES}
    counts: dict[str, int] = {}
    with run_populated(people, events) as program, program.client() as client:
        server = program.find_child("serve")
        for number in range(rounds + 1):
            # One after the other, so that none is asked while its pages are still at hand.
            for name, rule in _SHAPES.items():
                before = sum(server.cpu_times()[:2])
                seconds, counts[name] = _ask(client, rule)
                if number:
                    taken[name].append(seconds)
                    spent[name].append(sum(server.cpu_times()[:2]) - before)
                else:
                    first[name] = seconds
    return [
        {
            **compare("preview", "", [percentile(taken[name], 0.95) / LIMIT_SECONDS], at_most=1.0),
            "name": f"p95 of a preview over {people:,} people, of 1 s: {name}",
            "spread": None,
            "p50": percentile(taken[name], 0.5),
            "first": first[name],
            "count": counts[name],
            # What it costs whoever else is busy: where the machine is, the seconds tell of that.
            "cpu_seconds": statistics.median(spent[name]),
            "seconds": taken[name],
        }
        for name in _SHAPES
    ]


def _ask(client: httpx.Client, rule: dict[str, Any]) -> tuple[float, int]:
    started = time.perf_counter()
    answer = client.post("/v1/segments/preview", json={"rule": rule})
    seconds = time.perf_counter() - started
    answer.raise_for_status()
    found = answer.json()
    assert len(found["sample"]) == min(10, found["count"])
    return seconds, int(found["count"])
