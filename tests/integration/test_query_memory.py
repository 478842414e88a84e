"""Statements that take all memory cost neither the process nor the writer anything."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.query import run_query
from cdp.errors import Unprocessable

# Holds most of the memory, and never ends by itself.
SQUATTER = """
with held as materialized (select list(n) as l from range(3000000) t(n))
select count(*) from range(1000000000000) t(n), held where hash(n) = len(l)
"""
SOME = "CREATE OR REPLACE TEMP TABLE wanted AS SELECT list(n) AS l FROM range(5000000) t(n)"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "analytics.duckdb", "128MB", 2)
    yield opened
    opened.close()


def test_a_process_in_which_memory_runs_out_again_and_again_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.bombed_engine", str(tmp_path), "3"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found == {"codes": ["sql_error"], "is_whole": True, "is_lost": False}


def test_the_writer_that_lacks_memory_gets_that_of_peoples_statements(engine: Engine) -> None:
    told: list[Unprocessable] = []
    asking = threading.Thread(target=_ask, args=(engine, told))
    asking.start()
    while asking.is_alive() and _held(engine) < 50_000_000:
        pass
    with pytest.raises(duckdb.OutOfMemoryException), engine.write() as duck:
        duck.execute(SOME)
    asking.join()
    assert told[0].code == "sql_error"
    assert "memory ran out" in told[0].message
    with engine.write() as duck:
        duck.execute(SOME)


def test_the_memory_limit_is_what_it_was_after_statements_were_stopped(engine: Engine) -> None:
    setting = "SELECT current_setting('memory_limit') AS m"
    before = engine.read(setting).to_pylist()
    with pytest.raises(Unprocessable):
        run_query(
            engine,
            "select list(n) from range(100000000) t(n)",
            None,
            schema="main",
            limit=10,
            timeout=600,
        )
    assert engine.read(setting).to_pylist() == before


def _ask(engine: Engine, told: list[Unprocessable]) -> None:
    try:
        run_query(engine, SQUATTER, None, schema="main", limit=10, timeout=600)
    except Unprocessable as error:
        told.append(error)


def _held(engine: Engine) -> int:
    found = engine.read("SELECT sum(memory_usage_bytes)::BIGINT AS n FROM duckdb_memory()")
    return int(found["n"][0].as_py())
