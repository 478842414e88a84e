"""``cdp up`` as a whole: ready from nothing, back after every kill, gone when told to stop."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.running import READY, Running


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cdp-up-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    program = Running(folder)
    try:
        program.wait_for(READY)
        yield program
    finally:
        program.close()


def wait_until(holds: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


def see_person(running: Running, user_id: str) -> None:
    receipt = running.post({"userId": user_id, "traits": {"name": user_id}})["receipt"]
    seen = running.get(f"/v1/profiles/user_id:{user_id}", after=receipt, wait="20s")
    assert seen.json()["traits"]["name"] == user_id


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CDP_")}
    return subprocess.run(
        [sys.executable, "-m", "cdp", *arguments],
        env={**kept, "CDP_DATA_DIR": str(folder), "CDP_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_newcomer_gets_keys_in_a_private_file_and_a_first_person(running: Running) -> None:
    kept = running.credentials

    assert stat.S_IMODE((running.folder / "credentials.json").stat().st_mode) == 0o600
    said = "".join(running.output)
    assert kept["url"] in said
    assert kept["write_key"] in said
    assert kept["token"] in said
    curl = next(line for line in said.splitlines() if line.strip().startswith("curl"))
    answer = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True).stdout
    assert '"accepted":1' in answer.replace(" ", "")
    wait_until(lambda: running.get("/v1/profiles/email:ann@example.com").status_code == 200)
    shown = run(running.folder, "profile", "show", "email:ann@example.com")
    assert shown.returncode == 0
    assert "Ann" in shown.stdout


def test_the_first_source_is_a_server_and_the_example_page_has_a_web_source(
    running: Running,
) -> None:
    sources = running.get("/v1/sources").json()["data"]

    assert [(source["name"], source["type"]) for source in sources[:2]] == [
        ("default", "server"),
        ("example page", "web"),
    ]


def test_the_example_page_carries_the_web_key_and_no_token(running: Running) -> None:
    page = running.get("/example").text

    assert running.credentials["web_write_key"] in page
    assert running.credentials["token"] not in page


def test_a_second_run_says_who_runs(running: Running) -> None:
    second = run(running.folder, "up")

    assert second.returncode == 1
    assert str(running.process.pid) in second.stderr
    assert running.credentials["url"] in second.stderr
    assert len(second.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["worker", "server", "postgres"])
def test_whatever_is_killed_comes_back_unaided(running: Running, name: str) -> None:
    killed = running.child(name)

    killed.kill()

    running.wait_for("it starts again")
    running.wait_for("everything is ready again")
    wait_until(running.is_ready)
    assert running.child(name) != killed
    assert running.process.poll() is None
    see_person(running, f"after-{name}")


def test_after_kill_9_of_everything_the_next_run_goes_on() -> None:
    with tempfile.TemporaryDirectory(prefix="cdp-up-", ignore_cleanup_errors=True) as name:
        first = Running(Path(name))
        first.wait_for(READY)
        see_person(first, "early")
        before = first.credentials
        family = first.family()
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=20)
        first.process.wait()

        second = Running(Path(name))
        try:
            second.wait_for(READY)
            assert second.credentials | {"url": ""} == before | {"url": ""}
            assert second.get("/v1/profiles/user_id:early").status_code == 200
            see_person(second, "late")
        finally:
            second.close()


def test_after_kill_9_of_the_supervisor_nothing_is_left_and_the_next_run_goes_on() -> None:
    with tempfile.TemporaryDirectory(prefix="cdp-up-", ignore_cleanup_errors=True) as name:
        first = Running(Path(name))
        first.wait_for(READY)
        see_person(first, "early")

        first.process.kill()
        # Right away, while the others are still on their way out.
        second = Running(Path(name))
        try:
            second.wait_for(READY)
            assert second.get("/v1/profiles/user_id:early").status_code == 200
        finally:
            second.close()
            first.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_every_process_ends(number: signal.Signals) -> None:
    with tempfile.TemporaryDirectory(prefix="cdp-up-", ignore_cleanup_errors=True) as name:
        program = Running(Path(name))
        program.wait_for(READY)
        family = program.family()

        program.process.send_signal(number)

        assert program.process.wait(30) == 0
        _, alive = psutil.wait_procs(family, timeout=1)
        assert alive == []
        assert not (Path(name) / "run.json").exists()
