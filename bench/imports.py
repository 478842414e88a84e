"""Reading, mapping and judging files against the worker, on the same events in one run.

An import must not be what a user waits for: per row it takes less time than the worker needs.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.payload import make_lines
from bench.ratios import compare, take_turns
from bench.worker import BATCH, Ours, open_database
from cdp.ingest.door import Door
from cdp.ingest.imports.mapping import Mapping, read_mapping
from cdp.ingest.imports.open_file import open_file
from cdp.ingest.imports.prepare import Origin
from cdp.ingest.imports.run_import import Defaults, cut_file, judge_chunk
from cdp.ingest.packing import pack
from cdp.model import Source
from cdp.runtime.memory import collect_rarely
from cdp.settings import Settings

FORMATS = ("ndjson", "ndjson without ids", "csv", "parquet")
TARGET = 0.6
_AT = "2026-03-01T08:00:00.000Z"


def write_files(folder: Path, rows: int) -> dict[str, Path]:
    """Write the same events in each format; return where they lie."""
    lines = make_lines(rows, 0)
    paths = {name: folder / name.replace(" ", "_") for name in FORMATS}
    paths["ndjson"].write_bytes(b"\n".join(lines) + b"\n")
    events = [json.loads(line) for line in lines]
    with paths["ndjson without ids"].open("w", encoding="utf-8") as file:
        for event in events:
            bare = {name: value for name, value in event.items() if name != "messageId"}
            file.write(json.dumps(bare, ensure_ascii=False) + "\n")
    flat = [flatten(event) for event in events]
    with paths["csv"].open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
    pq.write_table(pa.Table.from_pylist(flat), paths["parquet"])
    return paths


def flatten(event: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return an event with one column per value, as a table has it."""
    flat: dict[str, Any] = {}
    for name, value in event.items():
        if name == "messageId":
            continue
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


class Importer:
    """All that an import does with a file but the log's own append."""

    def __init__(self, log: Any, source: Source) -> None:
        self._door = Door(log, Settings(), ())
        self._source = source

    def read(self, path: Path, mapping: Mapping) -> float:
        """Return the seconds that a row takes."""
        origin = Origin("0" * 64, "0" * 32, _AT)
        started = time.perf_counter()
        rows = 0
        file = open_file(path, mapping)
        for chunk in cut_file(file, mapping, "events", origin, Defaults("UTC", "CNY"), 0):
            judged = judge_chunk(self._door, self._source, "events", chunk, lambda _: None)
            assert not judged.rejected, judged.rejected[0]
            pack([self._door.write(self._source, judged, request_id="import", received_at=_AT)])
            rows = chunk.end
        file.close()
        return (time.perf_counter() - started) / rows


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure each format; goal: imports of large files."""
    rounds, rows = (5, 20_000) if quick else (9, 1_000_000)
    collect_rarely()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="cdp-bench-") as folder, open_database() as database:
        paths = write_files(Path(folder), rows)
        ours = Ours(database)
        ours.work_off(2)
        importer = Importer(ours.log, Source(ours.source_id, 1, "bench", "server"))
        mapping = read_mapping({}, "events")
        for name, path in paths.items():

            def our_turn(path: Path = path) -> float:
                return importer.read(path, mapping)

            pairs = take_turns(rounds, our_turn, lambda: ours.work_off(2) / BATCH)
            found.append(
                compare(
                    "import",
                    f"import of {name}: rows/s read, mapped and judged, to the worker's events/s",
                    [worker / mine for mine, worker in pairs],
                    at_least=TARGET,
                    rows_per_second=[1 / mine for mine, _ in pairs],
                    worker_events_per_second=[1 / worker for _, worker in pairs],
                )
            )
        ours.worker.close()
        ours.log.close()
    return found
