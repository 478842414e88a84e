"""The plug is pulled: processes die at any moment, and ``cdp up`` goes on without hands."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.program import Program, run_program


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with run_program(tmp_path) as running:
        yield running


class Poster(threading.Thread):
    """A backend that posts numbered events and sends each batch again until it is accepted."""

    def __init__(self, program: Program) -> None:
        super().__init__(daemon=True)
        self._program = program
        self._key = program.credentials["write_key"]
        self._ended = threading.Event()
        self.acknowledged: list[str] = []

    def run(self) -> None:
        number = 0
        with httpx.Client(base_url=self._program.url, auth=(self._key, ""), timeout=10) as client:
            while not self._ended.is_set():
                batch = [self.make_event(n) for n in range(number, number + 20)]
                if self.deliver(client, batch):
                    self.acknowledged += [event["messageId"] for event in batch]
                    number += 20

    @staticmethod
    def make_event(number: int) -> dict[str, Any]:
        return {
            "type": "track",
            "event": "Tick",
            "messageId": f"tick-{number}",
            "userId": f"u{number % 50}",
            "properties": {"number": number},
        }

    def deliver(self, client: httpx.Client, batch: list[dict[str, Any]]) -> bool:
        while not self._ended.is_set():
            with contextlib.suppress(httpx.HTTPError):
                if client.post("/v1/batch", json={"batch": batch}).status_code == 200:
                    return True
            time.sleep(0.1)
        return False

    def end(self) -> None:
        self._ended.set()
        self.join(20)


def count_ticks(program: Program) -> tuple[int, int]:
    """How many ticks analytics knows, and how many different ones."""
    with program.client() as client:
        answer = client.post(
            "/v1/query",
            json={
                "sql": "select count(*) as n, count(distinct message_id) as d"
                " from events where event = 'Tick'"
            },
        )
    assert answer.status_code == 200, answer.text
    row = answer.json()["data"][0]
    return row["n"], row["d"]


def settle(program: Program, at_least: int) -> tuple[int, int]:
    deadline = time.monotonic() + 60
    counts = (0, 0)
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            counts = count_ticks(program)
            if counts[1] >= at_least:
                break
        time.sleep(0.3)
    return counts


@pytest.mark.parametrize("victim", ["worker", "serve", "postgres"])
def test_a_process_that_is_killed_comes_back_and_nothing_is_lost_or_doubled(
    program: Program, victim: str
) -> None:
    poster = Poster(program)
    poster.start()
    time.sleep(1)
    find_victim(program, victim).kill()
    time.sleep(2)
    program.wait_until_ready()
    time.sleep(1)
    poster.end()
    assert program.process is not None
    assert program.process.poll() is None
    total, different = settle(program, len(poster.acknowledged))
    assert total == different
    # What was cut off before its answer may have landed all the same, at most one batch of it.
    assert len(poster.acknowledged) <= different <= len(poster.acknowledged) + 20


def find_victim(program: Program, name: str) -> Any:
    if name != "postgres":
        return program.find_child(name)
    import psutil

    pid = int((program.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    return psutil.Process(pid)


def test_after_a_power_cut_of_everything_the_next_start_goes_on(program: Program) -> None:
    poster = Poster(program)
    poster.start()
    time.sleep(2)
    program.kill_everything()
    poster.end()
    program.start()
    total, different = settle(program, len(poster.acknowledged))
    assert total == different
    assert len(poster.acknowledged) <= different <= len(poster.acknowledged) + 20


def test_a_clean_stop_leaves_no_process_behind(program: Program) -> None:
    children = program.children()
    assert program.stop() == 0
    assert [child for child in children if child.is_running() and child.status() != "zombie"] == []
