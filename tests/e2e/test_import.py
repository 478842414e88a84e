"""The real program and command line: an import that outlives its server."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from tests.support.program import Program, run_program

ROWS = 30_000


def write_file(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("type,event,user_id,timestamp,properties.total\n")
        for number in range(ROWS):
            kind = "dance" if number == 17_000 else "track"
            file.write(f"{kind},Bought,u{number % 500},2026-03-01 08:00:00,{number}.5\n")


def wait_for_rows(program: Program, rows: int) -> None:
    """Wait until an import has come so far."""
    deadline = time.monotonic() + 60
    with program.client() as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                data = client.get("/v1/imports").json()["data"]
                if data and data[0]["rows"] >= rows:
                    return
            time.sleep(0.01)
    raise AssertionError("the import did not begin")


def test_an_import_outlives_its_server_and_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    write_file(path)
    with run_program(tmp_path) as program:
        command = [sys.executable, "-m", "cdp", "import", str(path), "--kind", "events", "--json"]
        following = subprocess.Popen(
            command, env=program.full_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        wait_for_rows(program, 1)
        with contextlib.suppress(psutil.NoSuchProcess):
            program.find_child("serve").kill()
        output, errors = following.communicate(timeout=120)

        assert following.returncode == 0, errors.decode()
        done = json.loads(output)
        assert (done["status"], done["rows"], done["rejected"]) == ("done", ROWS, 1)
        program.wait_for(done["receipt"], seconds=60)
        again = json.loads(program.run("import", str(path), "--kind", "events", "--json").stdout)
        assert again["id"] == done["id"]
        with program.client() as client:
            sql = 'select count(*) as n, sum(total) as s from "Bought"'
            (row,) = client.post("/v1/query", json={"sql": sql}).json()["data"]
            minutes = client.get(f"/v1/sources/{done['source_id']}/accounting").json()["data"]
            refused = client.get("/v1/rejected").json()["data"]
    assert row == {"n": ROWS - 1, "s": sum(n + 0.5 for n in range(ROWS) if n != 17_000)}
    assert sum(minute["stored"] for minute in minutes) == ROWS - 1
    assert all(minute["balanced"] for minute in minutes)
    assert [one["code"] for one in refused] == ["unknown_type"]
