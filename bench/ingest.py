"""The door for SDKs against a bare body read, and against the textbook endpoint: goals 1, 2, 3."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psutil

from bench.ingest_server import WRITE_KEY
from bench.load import make_request, run_load
from bench.payload import make_lines
from bench.ratios import compare, take_turns

# Many enough that waiting for company (the linger) never leaves the server idle.
_CONNECTIONS = {"single": 192, "batch": 48}


class Server:
    """One of the servers in a process of its own, with what it costs."""

    def __init__(self, kind: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.kind = kind
        self.port = port
        self._process = psutil.Process(process.pid)
        self.requests = 0.0
        self.cpu_seconds = 0.0

    def measure(self, shape: str, request: bytes, seconds: float) -> float:
        """Return requests per second under full load."""
        before = sum(self._process.cpu_times()[:2])
        rate = run_load(self.port, request, connections=_CONNECTIONS[shape], seconds=seconds)
        self.cpu_seconds += sum(self._process.cpu_times()[:2]) - before
        self.requests += rate * seconds
        return rate

    def take_cpu(self) -> float:
        """Return microseconds of CPU per request since the last call."""
        cost = self.cpu_seconds / self.requests * 1e6 if self.requests else 0.0
        self.requests = self.cpu_seconds = 0.0
        return round(cost, 1)


@contextlib.contextmanager
def run_servers(*kinds: str, kafka: Sequence[str] = ()) -> Iterator[dict[str, Server]]:
    """All servers at once, on one core; the load runs on another where there is one.

    ``kafka`` is bootstrap servers and topic, for those kinds that need them.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [-1]
    processes: list[subprocess.Popen[bytes]] = []
    servers: dict[str, Server] = {}
    try:
        for kind in kinds:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            arguments = [sys.executable, "-m", "bench.ingest_server", kind, str(port)]
            processes.append(subprocess.Popen([*arguments, str(cores[0]), *kafka]))
            servers[kind] = Server(kind, processes[-1], port)
        for server in servers.values():
            _wait_for(server.port)
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[-1]})
        yield servers
    finally:
        if len(cores) > 1:
            os.sched_setaffinity(0, cores)
        for process in processes:
            process.kill()
            process.wait()


def _wait_for(port: int) -> None:
    for _ in range(900):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError("a server did not start")


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of goals 1, 2 and 3."""
    rounds, seconds = (5, 1.0) if quick else (9, 3.0)
    lines = make_lines(100, 0)
    batch = b'{"batch":[' + b",".join(lines) + b'],"sentAt":"2026-03-01T08:00:01.000Z"}'
    single = make_request("/v1/track", lines[0], WRITE_KEY)
    together = make_request("/v1/batch", batch, WRITE_KEY)
    assert json.loads(batch)
    comparisons = (
        (1, "single event, checked / bare body read", "single", single, "bare", 0.60),
        (2, "batch of 100, each judged / bare body read", "batch", together, "bare", 0.30),
        (3, "batch of 100 / FastAPI with a pydantic model", "batch", together, "textbook", 4.0),
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    with run_servers("bare", "ours", "textbook") as servers:
        for goal, name, shape, request, opponent, target in comparisons:
            ours, theirs = servers["ours"], servers[opponent]
            for server in (ours, theirs):
                server.measure(shape, request, 0.3)
                server.take_cpu()
            pairs = take_turns(
                rounds,
                lambda: ours.measure(shape, request, seconds),  # noqa: B023
                lambda: theirs.measure(shape, request, seconds),  # noqa: B023
            )
            rows.append(
                compare(
                    goal,
                    name,
                    [mine / other for mine, other in pairs],
                    at_least=target,
                    rates=pairs,
                    cpu_us=ours.take_cpu(),
                    opponent_cpu_us=theirs.take_cpu(),
                )
            )
    return rows


if __name__ == "__main__":
    for row in run(quick=True):
        print(json.dumps(row, ensure_ascii=False))
