"""``cdp up`` as a whole: back after every kill, gone when told to stop."""

from __future__ import annotations

import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from cdp.runtime.embedded_postgres import EmbeddedPostgres
from cdp.runtime.run_folder import wait_for_end
from tests.support.program import Program, run_program


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One run for the tests that leave it running."""
    with run_program(tmp_path_factory.mktemp("up")) as program:
        yield program


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A run of the test's own."""
    with run_program(tmp_path) as program:
        yield program


def wait_until(holds: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


def see_person(program: Program, user_id: str) -> None:
    answer = program.post("/v1/identify", {"userId": user_id, "traits": {"name": user_id}})
    program.wait_for(answer["receipt"], "profiles")
    assert knows(program, user_id)


def knows(program: Program, user_id: str) -> bool:
    with program.client() as client:
        found = client.get(f"/v1/profiles/user_id:{user_id}")
    return found.status_code == 200 and found.json()["traits"] == {"name": user_id}


def test_keys_are_printed_and_kept_in_a_private_file(shared: Program) -> None:
    wait_until(lambda: "cdp is ready" in shared.output)

    kept = shared.credentials
    assert stat.S_IMODE((shared.data_dir / "credentials.json").stat().st_mode) == 0o600
    for name in ("url", "write_key", "token"):
        assert kept[name] in shared.output


def test_only_this_account_may_read_what_is_known_of_people(shared: Program) -> None:
    see_person(shared, "private")
    kept = [path for path in shared.data_dir.iterdir() if path.name != "run.lock"]
    assert {"analytics.duckdb", "analytics.duckdb.wal", "postgres"} <= {path.name for path in kept}
    assert [path.name for path in kept if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_the_first_source_is_a_server_and_the_example_page_has_a_web_source(
    shared: Program,
) -> None:
    with shared.client() as client:
        sources = client.get("/v1/sources").json()["data"]

    assert [(source["name"], source["type"]) for source in sources[:2]] == [
        ("default", "server"),
        ("example page", "web"),
    ]


def test_the_example_page_carries_the_web_key_and_no_token(shared: Program) -> None:
    with shared.client() as client:
        page = client.get("/example").text

    assert shared.credentials["web_write_key"] in page
    assert shared.credentials["token"] not in page


@pytest.mark.parametrize(
    ("name", "word"), [("worker", "worker"), ("server", "serve"), ("Postgres", "-D")]
)
def test_whatever_is_killed_comes_back_unaided(shared: Program, name: str, word: str) -> None:
    killed = shared.find_child(word)
    said_before = len(shared.output)

    killed.kill()

    wait_until(lambda: "everything is ready again" in shared.output[said_before:])
    assert f"{name} " in shared.output[said_before:]
    assert "it starts again in" in shared.output[said_before:]
    shared.wait_until_ready()
    assert shared.find_child(word) != killed
    see_person(shared, f"after-{name}")


def test_after_kill_9_of_the_supervisor_nothing_is_left_and_the_next_run_goes_on(
    program: Program,
) -> None:
    see_person(program, "early")
    children = program.children()
    assert program.process is not None

    program.process.kill()
    program.process.wait()
    # Right away, while the others are still on their way out.
    program.start()

    assert wait_for_end(children, seconds=1) == []
    assert knows(program, "early")


def test_ctrl_c_ends_every_process(program: Program) -> None:
    children = program.children()
    assert program.process is not None
    assert len(children) > 3

    program.process.send_signal(signal.SIGINT)

    assert program.process.wait(30) == 0
    assert wait_for_end(children, seconds=1) == []
    assert not (program.data_dir / "run.json").exists()


def test_a_folder_of_a_newer_program_is_one_line(tmp_path: Path) -> None:
    with run_program(tmp_path) as program:
        program.stop()
        statement = "UPDATE alembic_version SET version_num = '9999_from_the_future'"
        change_database(program, statement)

        again = program.run("up")

    assert again.returncode == 1
    assert "newer" in again.stderr
    assert "Traceback" not in again.stderr


def change_database(program: Program, statement: str) -> None:
    """Start the stopped run's Postgres alone for one statement."""
    server = EmbeddedPostgres(program.data_dir / "postgres")
    try:
        with psycopg.connect(server.start(), autocommit=True) as connection:
            connection.execute(statement)
    finally:
        server.stop()
