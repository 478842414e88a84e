"""Posted orders against events, through the same worker: every order is new, as in an import."""

from __future__ import annotations

import json
import time
from typing import Any

from bench.payload import PEOPLE
from bench.ratios import compare, take_turns
from bench.worker import BATCH, Ours, open_database
from cdp.log.format import RequestLines, pack_record
from cdp.runtime.clock import format_time, now
from cdp.runtime.memory import collect_rarely

BATCHES = 3


def make_order(number: int) -> dict[str, Any]:
    """A paid order of two lines by somebody known."""
    return {
        "order_id": f"order-{number}",
        "placed_at": "2026-03-01T08:00:00.000Z",
        "updated_at": "2026-03-01T09:30:00.000Z",
        "identifiers": [{"type": "user_id", "value": f"user-{number % PEOPLE}"}],
        "status": "paid",
        "currency": "CNY",
        "total": 1299.00,
        "store": "sh-1",
        "channel": "store",
        "lines": [
            {"sku": "tea", "name": "绿茶", "category": "茶", "quantity": 2, "price": 500.00},
            {"sku": "cup", "name": "杯", "category": "茶具", "quantity": 1, "price": 299.00},
        ],
    }


class Orders:
    """Fresh orders for the worker that works off events too."""

    def __init__(self, ours: Ours) -> None:
        self._ours = ours
        self._number = 0

    def work_off(self, batches: int) -> float:
        """Return the seconds that ``BATCH`` orders take, of ``batches`` times as many."""
        numbers = range(self._number, self._number + BATCH * batches)
        self._number = numbers.stop
        lines = [json.dumps(make_order(n), ensure_ascii=False).encode() for n in numbers]
        at, source_id = format_time(now()), self._ours.source_id
        records = [
            pack_record(
                0,
                None,
                source_id,
                [RequestLines("req", at, None, lines[start : start + 100])],
                "orders",
            )
            for start in range(0, len(lines), 100)
        ]
        self._ours.log.append(records).result(timeout=60)
        started = time.perf_counter()
        while self._ours.worker.step(0):
            pass
        return (time.perf_counter() - started) / batches


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure how many orders go through in the time of one event."""
    collect_rarely()
    with open_database() as database:
        events = Ours(database)
        orders = Orders(events)
        events.work_off(2)
        orders.work_off(1)
        pairs = take_turns(
            7 if quick else 15,
            lambda: orders.work_off(BATCHES),
            lambda: events.work_off(BATCHES),
        )
        events.worker.close()
        events.log.close()
    return [
        compare(
            "-",
            "orders posted anew, to events, through the worker",
            [theirs / mine for mine, theirs in pairs],
            at_least=0.5,
            orders_per_second=[BATCH / mine for mine, _ in pairs],
        )
    ]
