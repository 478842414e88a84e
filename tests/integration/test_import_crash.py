"""kill -9 at random rows: an import that is killed again and again ends as one that is not."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdp.storage.database import Database
from tests.support.import_desk import ImportDesk, run_desk

ROWS = 5_000


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[ImportDesk]:
    with run_desk(database, tmp_path) as running:
        yield running


def run_and_die(desk: ImportDesk, steps: int) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.support.import_and_die",
            desk.database.url, str(desk.uploads.folder.parent), str(steps),
        ],
        timeout=120, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def make_file(rng: random.Random) -> bytes:
    rows: list[dict[str, Any]] = []
    for number in range(ROWS):
        row = {"type": "track", "event": "Bought", "userId": f"u{number % 9}", "n": number}
        if rng.random() < 0.01:
            row["type"] = "dance"
        rows.append(row)
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_an_import_killed_at_random_rows_ends_as_one_that_was_not(desk: ImportDesk) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    content = make_file(rng)
    refused = [n for n, line in enumerate(content.splitlines(), 1) if b"dance" in line]
    import_id = desk.post(content).json()["id"]

    rows = [0]
    for _ in range(4):
        run_and_die(desk, rng.randrange(1, 8))
        rows.append(desk.show(import_id)["rows"])
        desk.work()
    desk.run_all()

    assert rows == sorted(rows), seed
    assert rows[-1] < ROWS
    done = desk.show(import_id)
    assert (done["status"], done["rows"]) == ("done", ROWS), seed
    assert (done["accepted"], done["rejected"]) == (ROWS - len(refused), len(refused)), seed
    assert [row["row"] for row in desk.rejected(import_id)] == refused, seed
    stored = desk.query("SELECT count(*), count(DISTINCT message_id) FROM events")
    assert stored == [(ROWS - len(refused), ROWS - len(refused))], seed
    assert desk.query("SELECT count(*) FROM rejected") == [(len(refused),)], seed
