"""The examples of the page on imports, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from cdp.storage.database import Database
from tests.support.import_desk import run_desk

PAGE = Path(__file__).parents[2] / "docs" / "imports.md"


def test_the_examples_do_what_the_page_says(database: Database, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    script = f'set -e\ncdp() {{ "{sys.executable}" -m cdp "$@"; }}\n' + "\n".join(blocks)
    with run_desk(database, tmp_path / "data") as desk:
        desk.runner.start()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CDP_")}
        environment |= {
            "CDP_URL": str(desk.client.base_url).rstrip("/"),
            "CDP_TOKEN": desk.client.headers["authorization"].removeprefix("Bearer "),
        }
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        desk.runner.close()
        desk.work()

        assert done.returncode == 0, done.stdout + done.stderr
        assert "column 注册时间: not a time" in done.stdout
        traits = desk.query("SELECT name, value FROM traits")
        assert ("registered_at", "2024-03-01T00:30:00.000Z") in traits
        # An object is kept in its parts.
        assert ("balance", {"amount": 129_900}) in traits
        assert ("balance", {"currency": "CNY"}) in traits
        assert ("level", "gold") in traits
        assert ("phone", "+8613800138000") in desk.query("SELECT type, value FROM nodes")
        orders = desk.query("SELECT order_id, total FROM orders ORDER BY 1")
        assert orders == [("A1", 119_700), ("A2", 19_900)]
        assert desk.query("SELECT count(*) FROM imports") == [(3,)]
