"""Statements that take all memory cost neither the process nor the writer anything."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.query import run_query
from cdp.errors import Unprocessable
from cdp.segments.sql_tags import SqlFailed, SqlValues
from cdp.tag_queries import TagQueriesOnDuckDb

# Holds most of the memory, and never ends by itself.
SQUATTER = """
with held as materialized (select list(n) as l from range(3000000) t(n))
select 'nobody' as profile_id, count(*) as value
  from range(1000000000000) t(n), held where hash(n) = len(l)
"""
SOME = "CREATE OR REPLACE TEMP TABLE wanted AS SELECT list(n) AS l FROM range(5000000) t(n)"


Ask = Callable[[Engine], tuple[str, str]]
"""Has a statement that never ends run; returns the code and the message of its failure."""


def _query(engine: Engine) -> tuple[str, str]:
    with pytest.raises(Unprocessable) as failed:
        run_query(engine, SQUATTER, None, schema="main", limit=10, timeout=600)
    return failed.value.code, failed.value.message


def _compute_tag(engine: Engine) -> tuple[str, str]:
    with pytest.raises(SqlFailed) as failed:
        TagQueriesOnDuckDb(engine, 600).run(SQUATTER, SqlValues("number"))
    return failed.value.code, failed.value.message


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


@pytest.mark.parametrize("ask", [_query, _compute_tag])
def test_the_writer_that_lacks_memory_gets_that_of_peoples_statements(
    engine: Engine, ask: Ask
) -> None:
    told: list[tuple[str, str]] = []
    asking = threading.Thread(target=lambda: told.append(ask(engine)))
    asking.start()
    while asking.is_alive() and _held(engine) < 50_000_000:
        pass
    with pytest.raises(duckdb.OutOfMemoryException), engine.write() as duck:
        duck.execute(SOME)
    asking.join()
    code, message = told[0]
    assert code == ("sql_error" if ask is _query else "sql_memory")
    assert "memory ran out" in message
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


def _held(engine: Engine) -> int:
    found = engine.read("SELECT sum(memory_usage_bytes)::BIGINT AS n FROM duckdb_memory()")
    return int(found["n"][0].as_py())
