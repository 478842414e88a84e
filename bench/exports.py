"""Exports of millions at flat memory: members of a segment and a table of events, as streams.

Both are pulled from a running server in every format, first of fifty thousand, then of five
million. What is compared is the most memory that the server had meanwhile. DuckDB is given its fill
of pages before, so that what it keeps of a larger file is not taken for what a larger answer costs.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import pyarrow.parquet as pa_parquet

from bench.population import open_duckdb, run_populated
from bench.ratios import compare
from cdp.analytics import catalogue
from tests.support.program import Program

SMALL, LARGE = 50_000, 5_000_000
FORMATS = ("ndjson", "csv", "parquet")
# What a pull of a hundred times as much may hold more than the small one, at its peak.
AT_MOST = 1.25

_FIELDS = "user_id,traits.country"
_NOBODY = {"event": "An Event That Nobody Has"}
_PULL_SECONDS = 1800.0
_SAMPLE_SECONDS = 0.05

_MEMBERS = """
INSERT INTO core.memberships
SELECT '{key}', profile_no, profile_id, now() - INTERVAL 1 DAY, 1
  FROM core.profiles WHERE profile_no <= {members};
"""
# Both sets of events in one table, under two names, as columns of the same kinds.
_EVENTS = """
UPDATE core.events SET event = CASE WHEN seq >= {seq} THEN 'Rare Event' ELSE 'Common Event' END;
INSERT INTO core.event_properties
SELECT event, property, kinds
  FROM (VALUES ('Rare Event'), ('Common Event')) e(event),
       (VALUES ('total', 4), ('currency', 1), ('sku', 1)) p(property, kinds);
"""
_SCAN = """
SELECT count(*), max(m.profile_id), max(e.message_id), max(e.properties::VARCHAR)
  FROM memberships m, events e
 WHERE m.profile_id = e.profile_id AND m.segment = 'everybody'
"""


@dataclass
class Memory:
    """The memory of a process while something happens, in bytes."""

    process: psutil.Process
    peak: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Look until told that it is over."""
        while not self._over.is_set():
            self.peak = max(self.peak, self.process.memory_info().rss)
            self._over.wait(_SAMPLE_SECONDS)

    def end(self) -> None:
        self._over.set()


@contextmanager
def watch_memory(process: psutil.Process) -> Iterator[Memory]:
    """Note the peak for the length of the block."""
    memory = Memory(process)
    thread = threading.Thread(target=memory.watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        memory.end()
        thread.join(5)


@dataclass(frozen=True, slots=True)
class Pulled:
    """One pull: how many rows and bytes came, in which time, and the server's peak."""

    rows: int
    bytes: int
    seconds: float
    peak: int


def pull(client: httpx.Client, server: psutil.Process, path: str, format: str) -> Pulled:
    """Read a stream to its end, keeping nothing of it but a Parquet file on the disk."""
    count = _count_parquet if format == "parquet" else _count_lines
    started = time.perf_counter()
    with (
        watch_memory(server) as memory,
        client.stream("GET", path, timeout=_PULL_SECONDS) as answer,
    ):
        answer.raise_for_status()
        rows, size = count(answer.iter_bytes(1 << 20))
    return Pulled(rows - (format == "csv"), size, time.perf_counter() - started, memory.peak)


def _count_lines(parts: Iterator[bytes]) -> tuple[int, int]:
    rows = size = 0
    for part in parts:
        rows += part.count(b"\n")
        size += len(part)
    return rows, size


def _count_parquet(parts: Iterator[bytes]) -> tuple[int, int]:
    with tempfile.NamedTemporaryFile(prefix="cdp-bench-", suffix=".parquet") as file:
        size = sum(file.write(part) for part in parts)
        file.flush()
        return pa_parquet.read_metadata(file.name).num_rows, size


def run(quick: bool) -> list[dict[str, Any]]:
    """Return, per format, what a hundred times the members and the events cost in memory."""
    if quick:
        name = f"exports of {LARGE:,} at flat memory: only at full size"
        return [{"goal": "export", "name": name, "skipped": True}]
    return measure(SMALL, LARGE)


def measure(small: int, large: int) -> list[dict[str, Any]]:
    """Pull ``small`` and ``large`` sets in every format from one server."""
    with run_populated(large, large + small) as program:
        _make_sets(program, small, large)
        with program.client() as client:
            server = program.find_child("serve")
            _fill_pages(client)
            sets: tuple[tuple[str, Callable[[bool], str]], ...] = (
                ("members", _name_members),
                ("events", _name_events),
            )
            return [
                _compare(client, server, what, name(False), name(True), format, (small, large))
                for what, name in sets
                for format in FORMATS
            ]


def _name_members(all_of_them: bool) -> str:
    return f"/v1/segments/{'everybody' if all_of_them else 'few'}/members?fields={_FIELDS}&"


def _name_events(all_of_them: bool) -> str:
    return f"/v1/export/{'common_event' if all_of_them else 'rare_event'}?"


def _compare(
    client: httpx.Client,
    server: psutil.Process,
    what: str,
    few: str,
    many: str,
    format: str,
    sizes: tuple[int, int],
) -> dict[str, Any]:
    before = server.memory_info().rss
    small = pull(client, server, f"{few}format={format}", format)
    large = pull(client, server, f"{many}format={format}", format)
    if large.rows != sizes[1] or small.rows != sizes[0]:
        raise AssertionError(f"{what} as {format}: {small.rows} and {large.rows} rows")
    row = compare(
        "export",
        f"peak memory, {large.rows:,} {what} as {format} / {small.rows:,}",
        [large.peak / small.peak],
        at_most=AT_MOST,
        before=before,
        small=vars_of(small),
        large=vars_of(large),
        rows_per_second=large.rows / large.seconds,
    )
    return {**row, "spread": None}


def vars_of(pulled: Pulled) -> dict[str, float]:
    """The figures of a pull, to be saved."""
    return {
        "rows": pulled.rows,
        "megabytes": round(pulled.bytes / 1e6, 1),
        "seconds": round(pulled.seconds, 2),
        "peak_megabytes": round(pulled.peak / 1e6, 1),
    }


def _make_sets(program: Program, small: int, large: int) -> None:
    """Give two segments their members, and one event name fifty thousand events."""
    with program.client() as client:
        for key in ("few", "everybody"):
            answer = client.post("/v1/segments", json={"key": key, "rule": _NOBODY}, timeout=120)
            assert answer.status_code == 201, answer.text
    program.stop()
    with open_duckdb(program) as duck:
        duck.execute(_MEMBERS.format(key="few", members=small))
        duck.execute(_MEMBERS.format(key="everybody", members=large))
        duck.execute(_EVENTS.format(seq=-1 - small // 1000))
        properties = {"total": 4, "currency": 1, "sku": 1}
        seen = {"Rare Event": properties, "Common Event": properties}
        catalogue.create_event_views(duck, seen, set(seen))
    program.start()


def _fill_pages(client: httpx.Client) -> None:
    """Let DuckDB read everything that pulls will read."""
    client.post("/v1/query", json={"sql": _SCAN}, timeout=120)
