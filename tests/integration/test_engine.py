"""The DuckDB file: one owner, many readers, one writer, and nothing lost that Postgres has not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from cdp.analytics.engine import Engine, QueryTimeout
from cdp.errors import SetupError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "analytics.duckdb"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    opened = Engine(path, "128MB", 2)
    yield opened
    opened.close()


def _add_segment(engine: Engine, key: str) -> None:
    with engine.write() as duck:
        duck.execute("INSERT INTO core.segments (key) VALUES (?)", [key])


def _segments(engine: Engine) -> list[str]:
    keys: list[str] = engine.read("SELECT key FROM segments ORDER BY key")["key"].to_pylist()
    return keys


def test_a_write_is_there_for_everybody_or_for_nobody(engine: Engine) -> None:
    _add_segment(engine, "kept")
    seen_meanwhile: list[list[str]] = []

    def write_and_fail() -> None:
        with engine.write() as duck:
            duck.execute("INSERT INTO core.segments (key) VALUES ('lost')")
            seen_meanwhile.append(_segments(engine))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert seen_meanwhile == [["kept"]]
    assert _segments(engine) == ["kept"]


def test_readers_do_not_wait_for_the_writer(engine: Engine) -> None:
    with engine.write() as duck:
        duck.execute("INSERT INTO core.segments (key) VALUES ('new')")
        found: list[list[str]] = []
        reader = threading.Thread(target=lambda: found.append(_segments(engine)))
        reader.start()
        reader.join(20)
        assert found == [[]]


def test_writers_take_turns(engine: Engine) -> None:
    threads = [threading.Thread(target=_add_segment, args=(engine, str(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _segments(engine) == [str(n) for n in range(8)]


def test_parameters_go_by_name_and_by_place(engine: Engine) -> None:
    assert engine.read("SELECT $a + $b AS n", {"a": 1, "b": 2})["n"].to_pylist() == [3]
    assert engine.read("SELECT ? || ? AS t", ["a", "b"])["t"].to_pylist() == ["ab"]


def test_a_statement_is_stopped_when_its_time_is_over(engine: Engine) -> None:
    endless = "SELECT count(*) FROM range(1000000000000) t(n) WHERE hash(n) % 7 = 8"
    with pytest.raises(QueryTimeout):
        engine.read(endless, timeout=0.1)
    assert _segments(engine) == []


@pytest.mark.parametrize(
    "statement",
    [
        "FROM read_csv('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/x'",
        "ATTACH '/tmp/x.db'",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET temp_directory = '/tmp/x'",
        "SET lock_configuration = false",
    ],
)
def test_nothing_reaches_outside_and_no_setting_changes(engine: Engine, statement: str) -> None:
    with engine.cursor() as duck, pytest.raises(duckdb.Error):
        duck.execute(statement).fetchall()


def test_variables_of_the_program_are_no_tables(engine: Engine) -> None:
    secret = engine.read("SELECT 1 AS n")
    with pytest.raises(duckdb.CatalogException):
        engine.read("FROM secret")
    assert secret.num_rows == 1


def test_times_are_in_utc(engine: Engine) -> None:
    assert engine.read("SELECT TIMESTAMPTZ '2026-03-01 12:00:00'::VARCHAR AS t")[
        "t"
    ].to_pylist() == ["2026-03-01 12:00:00+00"]


_HOLD = """
import sys
from cdp.analytics.engine import Engine
engine = Engine(sys.argv[1])
with engine.write() as duck:
    duck.execute("INSERT INTO core.segments (key) VALUES ('committed')")
with engine.write() as duck:
    duck.execute("INSERT INTO core.segments (key) VALUES ('open')")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_in_one_line_and_kill_9_frees_the_file(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(SetupError, match="in use by another process") as refusal:
            Engine(path)
        assert "\n" not in str(refusal.value)
        os.kill(owner.pid, signal.SIGKILL)
    engine = Engine(path)
    assert _segments(engine) == ["committed"]
    engine.close()


def _spoil_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * 64)


def _spoil_block(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 9000)


@pytest.mark.parametrize(
    "spoil",
    [
        _spoil_header,
        _spoil_block,
        lambda path: path.write_bytes(b"not a database"),
        lambda path: path.write_bytes(b""),
        lambda path: os.truncate(path, 5000),
    ],
)
def test_a_spoiled_file_is_made_anew(path: Path, spoil: object) -> None:
    engine = Engine(path)
    _add_segment(engine, "old")
    engine.close()
    assert callable(spoil)
    spoil(path)
    engine = Engine(path)
    assert (_segments(engine), engine.applied_seq()) == ([], 0)
    engine.close()


def test_a_file_of_another_version_is_made_anew(path: Path) -> None:
    engine = Engine(path)
    with engine.write() as duck:
        duck.execute("UPDATE core.stamp SET version = version + 1")
    _add_segment(engine, "old")
    engine.close()
    engine = Engine(path)
    assert _segments(engine) == []
    engine.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder.duckdb"
    folder.mkdir()
    with pytest.raises(SetupError, match=r"folder\.duckdb"):
        Engine(folder)


def test_a_reset_leaves_an_empty_file_with_every_table(engine: Engine) -> None:
    _add_segment(engine, "old")
    with engine.write() as duck:
        duck.execute('UPDATE core.applied SET seq = 7, positions = \'{"log": {"0": 3}}\'')
    engine.recall()
    engine.note_as_of(NOON)
    engine.reset()
    assert (_segments(engine), engine.applied_seq()) == ([], 0)
    assert (engine.applied_positions("log"), engine.as_of()) == ({}, None)


def test_freshness_never_moves_back(engine: Engine) -> None:
    assert (engine.as_of(), engine.lag_ms(NOON)) == (None, None)
    engine.note_as_of(NOON)
    engine.note_as_of(NOON - timedelta(hours=1))
    assert engine.as_of() == NOON
    assert engine.lag_ms(NOON + timedelta(milliseconds=1500)) == 1500
    assert engine.lag_ms(NOON - timedelta(seconds=1)) == 0


def test_a_checkpoint_empties_a_grown_log(engine: Engine, path: Path) -> None:
    with engine.write() as duck:
        duck.execute(
            "INSERT INTO core.segments (key) SELECT md5(n::VARCHAR) FROM range(60000) t(n)"
        )
    wal = Path(f"{path}.wal")
    assert wal.stat().st_size > 1024 * 1024
    engine.checkpoint()
    assert not wal.exists() or wal.stat().st_size < 1024 * 1024
    assert len(_segments(engine)) == 60_000


def test_a_place_that_cannot_be_is_said_in_one_line() -> None:
    with pytest.raises(SetupError, match="CDP_DATA_DIR"):
        Engine(Path("/proc/nowhere/analytics.duckdb"), "256MB", 1)
