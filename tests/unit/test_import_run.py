"""A run of an import: it waits for the worker, and tells how fast it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from cdp.ingest.door import Door
from cdp.ingest.imports.imports_store import Import
from cdp.ingest.imports.progress_store import Checkpoint
from cdp.ingest.imports.run_import import Defaults, Run
from cdp.log.port import NewRecord
from cdp.model import Source
from cdp.runtime.clock import now
from cdp.settings import Settings


class Log:
    """A log in memory of one partition."""

    partitions = 1

    def __init__(self) -> None:
        self.end = 0

    def append(self, records: Sequence[NewRecord]) -> Future[list[int]]:
        done: Future[list[int]] = Future()
        done.set_result(list(range(self.end, self.end + len(records))))
        self.end += len(records)
        return done


class Watch:
    """What a run tells; the worker works off one record whenever the run waits."""

    def __init__(self, log: Log, *, is_worker_there: bool = True) -> None:
        self.checkpoints: list[Checkpoint] = []
        self.waits: list[str] = []
        self.furthest = 0
        self._log, self._position, self._is_there = log, 0, is_worker_there

    def checkpoint(self, done: Checkpoint) -> None:
        self.checkpoints.append(done)
        self.furthest = max(self.furthest, self._log.end - self._position)

    def wait(self, reason: str, seconds: float) -> None:
        self.waits.append(reason)
        if not self._is_there and len(self.waits) > 5:
            raise InterruptedError
        self._position += self._is_there

    def read_positions(self) -> Mapping[int, int]:
        return {0: self._position}


def make_import(**more: Any) -> Import:
    fields = dict.fromkeys(Import.__slots__)
    fields |= {
        "import_id": "imp_1", "kind": "events", "mapping": {}, "digest": "d" * 64, "rows": 0,
        "accepted": 0, "said_at": now(),
    }  # fmt: skip
    return Import(**{**fields, **more})  # type: ignore[arg-type]


def make_run(log: Log, watch: Watch, one: Import) -> Run:
    door = Door(log, Settings(), ())  # type: ignore[arg-type]
    source = Source("src_1", 1, "s", "server")
    return Run(one, source, door, Defaults("UTC", "CNY"), watch, most_in_flight=8_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    line = json.dumps({"type": "track", "event": "E", "userId": "u"}) + "\n"
    (tmp_path / "file").write_text(line * 40_000)
    return tmp_path / "file"


def test_it_never_runs_further_ahead_of_the_worker_than_its_limit(path: Path) -> None:
    log = Log()
    watch = Watch(log)

    make_run(log, watch, make_import()).go(path)

    assert watch.checkpoints[-1].rows == 40_000
    assert sum(done.accepted for done in watch.checkpoints) == 40_000
    assert any("worker" in reason for reason in watch.waits)
    # Chunks of 4,000 rows: two may fly before one more is sent.
    assert watch.furthest <= 3


def test_it_waits_for_a_worker_that_is_away(path: Path) -> None:
    log = Log()
    watch = Watch(log, is_worker_there=False)

    with pytest.raises(InterruptedError):
        make_run(log, watch, make_import()).go(path)

    assert watch.checkpoints[-1].rows == 12_000


def test_it_begins_behind_the_rows_that_were_counted(path: Path) -> None:
    log = Log()
    watch = Watch(log)

    make_run(log, watch, make_import(rows=39_990, accepted=39_990)).go(path)

    assert [(done.rows_before, done.rows) for done in watch.checkpoints] == [(39_990, 40_000)]
    assert watch.checkpoints[0].rate is not None
