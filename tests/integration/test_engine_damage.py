"""Damage in DuckDB's file that opening it does not show."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from cdp.analytics.engine import Engine

_BLOCK = 256 * 1024
_HEADERS = 3 * 4096
_TABLES = ("core.segments", "core.applied", "core.nodes", "core.stamp")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "analytics.duckdb"
    engine = Engine(path, "256MB", 2)
    with engine.write() as duck:
        duck.execute("INSERT INTO core.segments (key) SELECT md5(n::VARCHAR) FROM range(9000) t(n)")
    engine.close()
    return path


def _read_everything(path: Path) -> int:
    engine = Engine(path, "256MB", 2)
    try:
        with engine.write() as duck:
            try:
                for table in _TABLES:
                    duck.sql(f"FROM {table}").to_arrow_table()
            finally:
                # Tidying up fails too in a transaction that has failed.
                duck.execute("SELECT 1").fetchall()
        return int(engine.read("SELECT count(*) AS n FROM core.segments")["n"][0].as_py())
    finally:
        engine.close()


def test_whichever_block_is_damaged_the_next_start_has_a_file_that_works(
    filled: Path, tmp_path: Path
) -> None:
    size = filled.stat().st_size
    assert size > _HEADERS + 2 * _BLOCK
    found_in_use = 0
    for start in range(_HEADERS, size, _BLOCK):
        path = tmp_path / f"{start}.duckdb"
        shutil.copy(filled, path)
        with path.open("r+b") as file:
            file.seek(start + 1000)
            file.write(b"\x5a" * 3000)
        try:
            _read_everything(path)
        except duckdb.Error:
            found_in_use += 1
            assert _read_everything(path) == 0
        assert not list(tmp_path.glob("*.damaged"))
    assert found_in_use


def test_words_that_a_statement_chooses_condemn_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "analytics.duckdb", "256MB", 2)
    with pytest.raises(duckdb.Error, match="Corrupt"):
        engine.read("SELECT error('Corrupt database file: could not read enough bytes')")
    assert not engine.is_lost
    engine.close()
