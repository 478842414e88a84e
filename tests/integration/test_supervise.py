"""A real supervisor over real children: what is killed comes back, what is stopped is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the supervisor program on ``tmp_path``; ended with all its children afterwards."""
    started: list[subprocess.Popen[str]] = []

    def begin(*names: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.supervised", str(tmp_path), *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    for record in tmp_path.glob("*.pid"):
        if psutil.pid_exists(pid := int(record.read_text())):
            psutil.Process(pid).kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} was never said, but:\n{seen}")


def child_of(folder: Path, name: str) -> psutil.Process:
    return psutil.Process(int((folder / f"{name}.pid").read_text()))


def test_a_killed_child_is_started_again_and_said_so(start: Start, tmp_path: Path) -> None:
    supervisor = start("server", "worker")
    read_until(supervisor, "ready")
    killed = child_of(tmp_path, "worker")

    killed.kill()

    said = read_until(supervisor, "ready again")
    assert "worker was ended by SIGKILL; it starts again in 0.5 s" in said
    assert child_of(tmp_path, "worker") != killed


def test_sigterm_ends_every_process(start: Start, tmp_path: Path) -> None:
    supervisor = start("server", "worker")
    read_until(supervisor, "ready")
    children = [child_of(tmp_path, name) for name in ("server", "worker")]

    supervisor.send_signal(signal.SIGTERM)

    assert supervisor.wait(30) == 0
    assert [child for child in children if child.is_running()] == []


def test_a_child_that_ignores_sigterm_is_ended_by_force(start: Start, tmp_path: Path) -> None:
    supervisor = start("stubborn")
    read_until(supervisor, "ready")
    child = child_of(tmp_path, "stubborn")

    supervisor.send_signal(signal.SIGINT)

    assert supervisor.wait(30) == 0
    assert not child.is_running()


def test_children_end_when_the_supervisor_is_killed(start: Start, tmp_path: Path) -> None:
    supervisor = start("server", "worker")
    read_until(supervisor, "ready")
    children = [child_of(tmp_path, name) for name in ("server", "worker")]

    supervisor.kill()

    gone, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert len(gone) == 2


def test_a_killed_runs_leftovers_are_ended_by_the_next(start: Start, tmp_path: Path) -> None:
    # A child that outlived its supervisor, as where no kernel ends it.
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as leftover:
        first = start("worker")
        read_until(first, "ready")
        started = psutil.Process(leftover.pid).create_time()
        record = f'{{"children": [{{"name": "x", "pid": {leftover.pid}, "started": {started}}}]}}'
        first.kill()
        first.wait()
        (tmp_path / "run.json").write_text(record)

        second = start("worker")

        assert "ended x" in read_until(second, "ready")
        assert leftover.wait(10) == -signal.SIGTERM


def test_a_child_that_gives_up_before_it_was_ready_ends_the_run(start: Start) -> None:
    supervisor = start("refuses")

    assert supervisor.wait(30) == 1
    assert supervisor.stdout is not None
    said = supervisor.stdout.read()
    assert "the moon is missing" in said
    assert "refuses could not start" in said


def test_a_second_supervisor_is_refused(start: Start, tmp_path: Path) -> None:
    first = start("worker")
    read_until(first, "ready")

    second = start("worker")

    assert second.wait(30) == 1
    assert second.stdout is not None
    assert f"process {first.pid}" in second.stdout.read()
    assert os.path.exists(tmp_path / "run.json")
