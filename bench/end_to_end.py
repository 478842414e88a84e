"""The whole program, ``cdp up``, from the wire to the profile and to the segment.

Opponents are its own stages alone: what ingest takes when nobody works it off, and what the worker
works off when nobody posts. Latencies are taken at half of the sustained rate.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.payload import make_track
from bench.ratios import compare
from cdp.settings import Settings
from tests.support.program import Program, run_program

PER_REQUEST = 100


@contextmanager
def pause(process: psutil.Process) -> Iterator[None]:
    """Hold a process still for the length of the block."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


class Wire:
    """A backend with one kept-alive connection that posts batches of fresh events."""

    def __init__(self, program: Program) -> None:
        self._client = httpx.Client(
            base_url=program.url, auth=(program.credentials["write_key"], ""), timeout=30
        )
        self._number = int(time.time()) * 1_000_000

    def make_body(self, count: int = PER_REQUEST) -> bytes:
        """A batch of fresh events as JSON."""
        first, self._number = self._number, self._number + count
        batch = [make_track(number % 1000, number) for number in range(first, first + count)]
        return json.dumps({"batch": batch}, ensure_ascii=False).encode()

    def post(self, body: bytes) -> str:
        """Post and return the receipt."""
        answer = self._client.post(
            "/v1/batch", content=body, headers={"Content-Type": "application/json"}
        )
        answer.raise_for_status()
        receipt: str = answer.json()["receipt"]
        return receipt


def wait_for(program: Program, receipt: str, what: str) -> None:
    """Wait until the receipt is good for ``what``."""
    with program.client() as client:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            answer = client.get(f"/v1/receipts/{receipt}", params={"wait": "10s"})
            if answer.json()[what]:
                return
    raise AssertionError(f"not in {what} after two minutes")


def post_all(wire: Wire, bodies: list[bytes]) -> tuple[float, str]:
    """Post ``bodies`` one after the other; seconds taken and the last receipt."""
    started = time.perf_counter()
    receipt = ""
    for body in bodies:
        receipt = wire.post(body)
    return time.perf_counter() - started, receipt


def measure_throughput(program: Program, rounds: int, requests: int) -> list[float]:
    """Per round: the whole program's rate as a share of the slower of its two stages alone."""
    wire = Wire(program)
    worker = program.find_child("worker")
    ratios = []
    for _ in range(rounds):
        bodies = [wire.make_body() for _ in range(requests)]
        with pause(worker):
            alone, receipt = post_all(wire, bodies)
        started = time.perf_counter()
        wait_for(program, receipt, "profiles")
        working = time.perf_counter() - started
        bodies = [wire.make_body() for _ in range(requests)]
        started = time.perf_counter()
        _, receipt = post_all(wire, bodies)
        wait_for(program, receipt, "profiles")
        together = time.perf_counter() - started
        ratios.append(max(alone, working) / together)
    return ratios


def measure_lag(program: Program, per_second: float, seconds: float, what: str) -> list[float]:
    """Post single events at a steady background rate; seconds from 200 to visible, per probe."""
    ended = threading.Event()
    background = Wire(program)

    def keep_busy() -> None:
        while not ended.is_set():
            background.post(background.make_body())
            ended.wait(PER_REQUEST / per_second)

    thread = threading.Thread(target=keep_busy, daemon=True)
    thread.start()
    probe = Wire(program)
    lags = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        receipt = probe.post(probe.make_body(1))
        started = time.perf_counter()
        wait_for(program, receipt, what)
        lags.append(time.perf_counter() - started)
        time.sleep(0.1)
    ended.set()
    thread.join(10)
    return lags


def measure_segment_lag(program: Program, per_second: float, probes: int) -> list[float]:
    """Seconds from the answer to an event until the person shows in the segment's changes."""
    rule = {"event": "Probe", "count": {"op": "gte", "value": 1}}
    ended = threading.Event()
    background = Wire(program)

    def keep_busy() -> None:
        while not ended.is_set():
            background.post(background.make_body())
            ended.wait(PER_REQUEST / per_second)

    lags = []
    with program.client() as client:
        client.post("/v1/segments", json={"key": "probe", "name": "Probe", "rule": rule})
        cursor = client.get("/v1/segments/probe/changes").json()["next"]
        thread = threading.Thread(target=keep_busy, daemon=True)
        thread.start()
        for number in range(probes):
            event = {"event": "Probe", "userId": f"probe-{number}", "messageId": f"probe-{number}"}
            program.post("/v1/track", event)
            started = time.perf_counter()
            while True:
                page = client.get("/v1/segments/probe/changes", params={"since": cursor}).json()
                cursor = page["next"]
                if page["data"]:
                    break
                if time.perf_counter() - started > 60:
                    raise AssertionError("the change never came")
                time.sleep(0.02)
            lags.append(time.perf_counter() - started)
        ended.set()
        thread.join(10)
    return lags


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of the values lie."""
    return statistics.quantiles(values, n=100)[round(share * 100) - 1]


def report_lag(
    goal: int | str, name: str, lags: list[float], limit: float, at_most: float = 1.0
) -> dict[str, Any]:
    """A row for a latency: its p95 as a share of the limit."""
    row = compare(goal, name, [percentile(lags, 0.95) / limit], at_most=at_most)
    return {**row, "spread": None, "p50": statistics.median(lags), "probes": len(lags)}


def report_memory(program: Program) -> list[dict[str, Any]]:
    """A row per process: idle memory after the demo as a share of 400 MB."""
    rows = []
    for word in ("serve", "worker"):
        resident = program.find_child(word).memory_info().rss
        row = compare(
            "mem",
            f"memory of {word}, idle after the demo, of 400 MB",
            [resident / 400e6],
            at_most=1.0,
        )
        rows.append({**row, "spread": None})
    return rows


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure goals 11 and 14, event to segment change, and memory."""
    with (
        tempfile.TemporaryDirectory(prefix="cdp-bench-") as folder,
        run_program(Path(folder)) as program,
    ):
        wire = Wire(program)
        _, receipt = post_all(wire, [wire.make_body() for _ in range(20)])
        wait_for(program, receipt, "analytics")
        ratios = measure_throughput(program, 5, 100 if quick else 500)
        started = time.perf_counter()
        _, receipt = post_all(wire, [wire.make_body() for _ in range(100)])
        wait_for(program, receipt, "profiles")
        half = 0.5 * 100 * PER_REQUEST / (time.perf_counter() - started)
        seconds = 15 if quick else 120
        lags = measure_lag(program, half, seconds, "profiles")
        changes = measure_segment_lag(program, half, 25 if quick else 200)
        program.run("demo", seconds=600)
        time.sleep(5)
        memory = report_memory(program)
    # What an event waits for where nothing is busy: company in the door, then the worker's look.
    settings = Settings()
    waits = settings.linger_ms / 1000 + settings.worker_poll_seconds
    return [
        compare(
            11,
            "event to visible profile, sustained, to the slower of ingest and worker alone",
            ratios,
            at_least=0.70,
        ),
        report_lag(14, "p95 from 200 to visible profile at half load, of 1 s", lags, 1.0),
        report_lag(
            14, f"the same, of the waits that are set ({waits:.3f} s)", lags, waits, at_most=1.5
        ),
        report_lag("seg", "p95 from 200 to segment change at half load, of 5 s", changes, 5.0),
        *memory,
    ]
