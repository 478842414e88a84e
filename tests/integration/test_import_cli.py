"""``cdp import``: exit codes, what it prints, and that calling it again doubles nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdp.cli.import_commands import describe_progress
from cdp.storage.database import Database
from tests.support.import_desk import ImportDesk, run_desk

CSV = "订单,时间,金额\nA1,2026-03-01 08:00,￥12.50\nA2,bald,1\nA3,2026-03-02,3\n"
MAPPING = {
    "columns": {
        "订单": "order_id",
        "时间": {"to": "placed_at", "type": "time"},
        "金额": {"to": "total", "type": "money"},
    }
}


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[ImportDesk]:
    with run_desk(database, tmp_path / "data") as running:
        running.runner.start()
        yield running
        running.runner.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(CSV, encoding="utf-8")
    (tmp_path / "mapping.json").write_text(json.dumps(MAPPING), encoding="utf-8")
    return path


def run(desk: ImportDesk, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CDP_")}
    token = desk.client.headers["authorization"].removeprefix("Bearer ")
    environment |= {"CDP_URL": str(desk.client.base_url).rstrip("/"), "CDP_TOKEN": token}
    done = subprocess.run(
        [sys.executable, "-m", "cdp", "import", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_file_is_imported_once_however_often_it_is_asked_for(
    desk: ImportDesk, file: Path
) -> None:
    options = (file, "--kind", "orders", "--mapping", file.parent / "mapping.json", "--json")

    first = run(desk, *options)
    second = run(desk, *options)
    third = run(desk, *options, "--again")

    found: list[dict[str, Any]] = [json.loads(one.stdout) for one in (first, second, third)]
    assert [(f["status"], f["accepted"], f["rejected"]) for f in found] == [("done", 2, 1)] * 3
    assert found[1]["id"] == found[0]["id"] != found[2]["id"]
    assert "1 rows were refused" in first.stderr
    assert "imported before" in second.stderr
    desk.work()
    assert desk.query("SELECT order_id, total FROM orders ORDER BY 1") == [
        ("A1", 1250),
        ("A3", 300),
    ]


def test_a_dry_run_prints_rows_and_mistakes(desk: ImportDesk, file: Path) -> None:
    shown = run(desk, file, "--kind", "orders", "--mapping", json.dumps(MAPPING), "--dry-run")

    assert "A1" in shown.stdout
    assert "column 时间: not a time" in shown.stdout
    assert "nothing was written" in shown.stderr
    assert desk.query("SELECT count(*) FROM imports") == [(0,)]


def test_wrong_use_exits_2_and_a_refusal_1(desk: ImportDesk, file: Path) -> None:
    run(desk, file, code=2)
    run(desk, file, "--kind", "people", code=2)
    run(desk, file.parent / "none.csv", "--kind", "orders", code=2)
    run(desk, file, "--kind", "orders", "--mapping", "{", code=2)
    run(desk, file, "--kind", "orders", "--mapping", "none.json", code=2)
    refused = run(
        desk, file, "--kind", "orders", "--mapping", '{"columns": {"x": "total"}}', code=1
    )
    assert "/mapping/columns/x" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_progress_is_told_in_one_line() -> None:
    found = {
        "rows": 12_000, "rejected": 3, "rate": 4_000.4, "status": "running", "waiting": None,
        "eta": "2026-03-01T08:00:09.000Z",
    }  # fmt: skip

    assert describe_progress(found) == (
        "12,000 rows, 3 rejected, 4,000 rows/s, done at 08:00:09 UTC"
    )
