"""The embedded Postgres: starts from nothing, comes back from every kind of end, leaves nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from cdp.errors import SetupError
from cdp.runtime.embedded_postgres import EmbeddedPostgres


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a socket's path must fit into 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="cdp-pg-") as name:
        yield Path(name)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server that is not started yet and gone afterwards."""
    server = EmbeddedPostgres(folder / "postgres")
    yield server
    server.stop()


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if folder.resolve() in (Path(process.cwd()), *Path(process.cwd()).parents):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_starts_from_an_empty_folder_with_durable_tuned_settings(server: EmbeddedPostgres) -> None:
    url = server.start()

    assert ask(url, "SHOW fsync") == "on"
    assert ask(url, "SHOW synchronous_commit") == "on"
    assert ask(url, "SHOW shared_buffers") == "256MB"
    assert ask(url, "SHOW listen_addresses") == ""
    assert ask(url, "SELECT current_database()") == "cdp"


def test_a_clean_stop_leaves_no_process_and_the_data(
    server: EmbeddedPostgres, folder: Path
) -> None:
    ask(server.start(), "CREATE TABLE kept AS SELECT 7 AS n")

    server.stop()

    assert processes_in(folder) == []
    assert ask(server.start(), "SELECT n FROM kept") == 7


def test_comes_back_after_kill_9_of_the_postmaster(server: EmbeddedPostgres, folder: Path) -> None:
    url = server.start()
    ask(url, "CREATE TABLE kept AS SELECT 7 AS n")
    killed = server.pid
    assert killed is not None

    os.kill(killed, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(killed)] if psutil.pid_exists(killed) else [], timeout=5)

    assert not server.is_running()
    assert server.start() == url
    assert server.pid != killed
    assert ask(url, "SELECT n FROM kept") == 7


def test_comes_back_after_kill_9_of_every_process(server: EmbeddedPostgres, folder: Path) -> None:
    ask(server.start(), "CREATE TABLE kept AS SELECT 7 AS n")
    everyone = processes_in(folder)
    for process in everyone:
        # Whoever misses the first of them ends by itself.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(everyone, timeout=5)

    assert ask(server.start(), "SELECT n FROM kept") == 7


def test_a_lock_file_that_names_a_stranger_does_not_keep_it_from_starting(
    server: EmbeddedPostgres,
) -> None:
    server.start()
    server.stop()
    # The number of a live process that is no Postgres: this one.
    (server.folder / "postmaster.pid").write_text(f"{os.getpid()}\n{server.folder}\n")

    assert ask(server.start(), "SELECT 1") == 1


def test_an_interrupted_first_start_begins_again(server: EmbeddedPostgres, folder: Path) -> None:
    draft = folder / "postgres.draft"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")

    assert ask(server.start(), "SELECT 1") == 1
    assert not draft.exists()


def test_a_running_server_of_the_same_folder_is_adopted(server: EmbeddedPostgres) -> None:
    server.start()
    second = EmbeddedPostgres(server.folder)

    second.start()

    assert second.pid == server.pid
    second.stop()
    assert not server.is_running()


def test_a_path_too_long_for_a_socket_works_all_the_same(folder: Path) -> None:
    deep = folder / ("a" * 70) / ("b" * 70)
    server = EmbeddedPostgres(deep / "postgres")
    try:
        assert ask(server.start(), "SELECT 1") == 1
    finally:
        server.stop()


def test_files_of_somebody_else_are_not_touched(server: EmbeddedPostgres) -> None:
    server.folder.mkdir(parents=True)
    (server.folder / "diary.txt").write_text("mine")

    with pytest.raises(SetupError, match="no Postgres cluster"):
        server.start()

    assert (server.folder / "diary.txt").read_text() == "mine"


def test_data_of_another_postgres_version_is_refused(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.folder / "PG_VERSION").write_text("16\n")

    with pytest.raises(SetupError, match="Postgres 16"):
        server.start()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's")
def test_the_server_ends_when_the_process_that_started_it_is_killed(folder: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; "
        "from cdp.runtime.embedded_postgres import EmbeddedPostgres as E; "
        "s = E(Path(sys.argv[1])); s.start(); print(s.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(folder / "postgres")], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    server = psutil.Process(int(parent.stdout.readline()))

    parent.kill()
    parent.wait()
    parent.stdout.close()

    server.wait(30)
    assert not server.is_running()
