"""Watching a source with the real program: the command line, refused events, the end of it all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from tests.support.accounting import check_accounting
from tests.support.program import Program, run_program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with run_program(tmp_path_factory.mktemp("watching")) as running:
        yield running


@pytest.fixture(scope="module")
def source_id(program: Program) -> str:
    with program.client() as client:
        found: str = client.get("/v1/sources").json()["data"][0]["id"]
    return found


def make_event(message_id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Viewed", "messageId": message_id, "userId": "a", **fields}


def start_tail(program: Program, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cdp", "source", "tail", *arguments],
        env={**program.full_environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it runs in the background ignore Ctrl-C, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def test_the_tail_prints_a_line_per_outcome_and_ends_well(program: Program, source_id: str) -> None:
    people = start_tail(program, source_id)
    machines = start_tail(program, source_id, "--json", "--limit", "3")
    assert people.stderr is not None
    assert people.stdout is not None
    assert people.stderr.readline().startswith("listening")
    stopped = threading.Event()

    def post_until_seen() -> None:
        # The second one says nothing when it listens.
        number = 0
        while not stopped.wait(0.3):
            number += 1
            bad = {"type": "dance", "messageId": f"bad-{number}"}
            program.post("/v1/batch", {"batch": [make_event(f"tail-{number}"), bad]})

    poster = threading.Thread(target=post_until_seen)
    poster.start()
    try:
        printed = [people.stdout.readline() for _ in range(4)]
        output, _ = machines.communicate(timeout=30)
    finally:
        stopped.set()
        poster.join()
        people.send_signal(signal.SIGINT)
    assert people.wait(20) == 0
    assert machines.returncode == 0
    assert any("stored" in line and "Viewed" in line and "prf_" in line for line in printed)
    assert any("rejected" in line and "unknown_type: " in line for line in printed)
    states = {json.loads(line)["state"] for line in output.splitlines()}
    assert {"received", "stored"} <= states


def test_refused_events_are_counted_and_replayed_from_the_command_line(
    program: Program, source_id: str
) -> None:
    big = make_event("too-large", properties={"text": "x" * 40_000})
    program.wait_for(program.post("/v1/batch", {"batch": [big]})["receipt"], "profiles")
    counts = json.loads(program.run("rejected", "counts", "--json").stdout)
    assert {"event_too_large"} <= {row["code"] for row in counts}
    rows = json.loads(program.run("rejected", "list", "--code", "event_too_large", "--json").stdout)
    assert [row["messageId"] for row in rows] == ["too-large"]
    with program.client() as client:
        settings = {"max_event_bytes": 100_000}
        client.patch(f"/v1/sources/{source_id}", json={"settings": settings})
    replay = program.run("rejected", "replay", "--code", "event_too_large", "--json")
    done = json.loads(replay.stdout)
    assert (done["replayed"], done["still_rejected"]) == (1, 0)
    program.wait_for(done["receipt"], "profiles")
    again = program.run("rejected", "replay", rows[0]["id"])
    assert "already_replayed" in again.stdout
    with program.client() as client:
        events = client.get("/v1/profiles/user_id:a/events", params={"limit": 1000}).json()["data"]
    assert sum(row["message_id"] == "too-large" for row in events) == 1


def test_accounting_is_a_table_whose_exit_code_is_an_alarm(
    program: Program, source_id: str
) -> None:
    shown = program.run("source", "accounting", source_id)
    assert shown.returncode == 0, shown.stderr
    assert "in_flight" in shown.stdout
    rows = json.loads(program.run("source", "accounting", source_id, "--json").stdout)
    assert all(row["balanced"] for row in rows)
    assert program.run("source", "accounting", "src_unknown").returncode == 1


def test_the_server_stops_in_order_while_somebody_watches(program: Program, source_id: str) -> None:
    # The last one: nothing runs after it.
    with program.client() as client:
        check_accounting(client)
        with client.stream("GET", f"/v1/sources/{source_id}/live") as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": listening"
            stopping = threading.Thread(target=program.stop)
            stopping.start()
            rest = [line for line in lines if line.startswith("data: ")]
            stopping.join(40)
        assert rest == ['data: {"state":"ended"}']
        assert program.process is not None
        assert program.process.poll() == 0
        with pytest.raises(httpx.HTTPError):
            client.get("/health/live")
