"""A deletion by the whole program: no byte of the data folder tells of the person afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from tests.support.program import Program, run_program

LAST_MONTH = "2026-01-02T10:00:"
# Everything that Ann ever sent has one of these in it.
WORDS = [
    "ann-Qx7user",
    "ann.qx7@example.com",
    "anon-Qx7browser",
    "安妮Qx7",
    "+8613812349876",
    "138 1234 9876",
    "Qx7street",
    "Qx7order",
    "Qx7note",
    "Qx7refused",
    "Qx7till",
    "qx7message",
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with run_program(tmp_path_factory.mktemp("privacy")) as started:
        yield started


def make_ann(again: str = "") -> list[dict[str, Any]]:
    traits = {
        "email": "Ann.Qx7@Example.com",
        "name": "安妮Qx7",
        "phone": "138 1234 9876",
        "address": {"street": "Qx7street"},
    }
    calls: list[dict[str, Any]] = [
        {"type": "page", "anonymousId": "anon-Qx7browser", "properties": {"url": "/Qx7note"}},
        {
            "type": "identify",
            "userId": "ann-Qx7user",
            "anonymousId": "anon-Qx7browser",
            "traits": traits,
        },
        *(
            {
                "type": "track",
                "userId": "ann-Qx7user",
                "event": "Order Completed",
                "properties": {"order_id": f"Qx7order{n}", "total": 10.5, "currency": "CNY"},
            }
            for n in range(20)
        ),
        {"type": "nonsense", "userId": "ann-Qx7user", "properties": {"x": "Qx7refused"}},
        {
            "type": "track",
            "event": "Tap",
            "userId": "ann-Qx7user",
            "anonymousId": "till",
            "properties": {"x": "Qx7till"},
        },
    ]
    return [
        {**call, "messageId": f"qx7message-{n}{again}", "timestamp": f"{LAST_MONTH}{n:02}Z"}
        for n, call in enumerate(calls)
    ]


def make_others() -> list[dict[str, Any]]:
    calls = [
        {
            "type": "track",
            "event": "Order Completed",
            "userId": f"other-{n % 10}",
            "properties": {"order_id": f"other{n}", "total": 1, "currency": "CNY", "note": "WORD9"},
        }
        for n in range(200)
    ]
    till = {"type": "track", "event": "Tap", "userId": "other-1", "anonymousId": "till"}
    return [
        {**call, "messageId": f"m{n}", "timestamp": "2026-01-03T10:00:00Z"}
        for n, call in enumerate([*calls, till])
    ]


def find_bytes(folder: Path, words: list[str]) -> dict[str, list[str]]:
    """The files in which a word stands, in any spelling in which a file may hold it."""
    found: dict[str, list[str]] = {}
    spellings = {
        word: {
            form
            for text in (word, word.lower(), word.upper(), json.dumps(word)[1:-1])
            for form in (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"))
        }
        for word in words
    }
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            # What is compressed is looked into.
            rows = pq.ParquetFile(path).read().to_pylist()
            content += json.dumps(rows, ensure_ascii=False, default=str).encode()
        for word, forms in spellings.items():
            if any(form in content for form in forms):
                found.setdefault(word, []).append(str(path.relative_to(folder)))
    return found


def wait_until_done(client: httpx.Client, job_id: str, seconds: float = 170) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while True:
        job: dict[str, Any] = client.get(f"/v1/privacy/{job_id}").json()
        if job["status"] == "done":
            return job
        assert time.monotonic() < end, job
        time.sleep(0.2)


def ask_sql(client: httpx.Client, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.post("/v1/query", json={"sql": sql}).json()["data"]
    return rows


def test_no_byte_of_a_deleted_person_is_left_and_nobody_else_changes(program: Program) -> None:
    with program.client() as client:
        rule = {"event": "Order Completed"}
        client.post("/v1/segments", json={"key": "buyers", "name": "Buyers", "rule": rule})
        answer = program.post("/v1/batch", {"batch": [*make_ann(), *make_others()]})
        program.wait_for(answer["receipt"])
        assert find_bytes(program.data_dir, WORDS).keys() == set(WORDS)
        today = datetime.now(UTC).date().isoformat()
        assert client.post("/v1/archive/run", json={"through": today}).json()["rows"] == 224
        assert find_bytes(program.data_dir / "archive", WORDS) != {}
        ann = client.get("/v1/profiles/user_id:ann-Qx7user").json()
        other = client.get("/v1/profiles/user_id:other-1").json()

        body = {"identifier": {"type": "email", "value": "ann.qx7@example.com"}}
        export = client.post("/v1/privacy/export", json=body).json()
        archive = wait_until_done(client, export["id"])["archive"]
        assert client.get(archive).content[:2] == b"PK"
        reason = "Ann Qx7note wrote from ann.qx7@example.com"
        asked = client.post("/v1/privacy/delete", json={**body, "reason": reason})
        assert asked.status_code == 202
        job = wait_until_done(client, asked.json()["id"])

        assert find_bytes(program.data_dir, WORDS) == {}
        assert find_bytes(program.data_dir, ["WORD9"]) != {}
        removed = {one["store"]: one["count"] for one in job["removed"]}
        assert (removed["events"], removed["archive"]) == (23, 23)
        assert removed["orders"] == 20
        assert removed["rejected"] == 1
        assert removed["exports"] == 1
        assert job["disk"]["write_ahead_log"]["state"] == "removed"
        assert client.get(archive).status_code == 404
        for name in ("email:ann.qx7@example.com", "phone:13812349876", f"id:{ann['id']}"):
            assert client.get(f"/v1/profiles/{name}").status_code == 404
        assert client.get("/v1/profiles/user_id:other-1").json() == other
        counted = ask_sql(client, "SELECT count(*) AS n, sum(net) AS net FROM orders")
        assert counted == [{"n": 200, "net": 20_000}]
        # The others, and the till's own.
        assert ask_sql(client, "SELECT count(*) AS n FROM profiles") == [{"n": 11}]
        changes = client.get("/v1/segments/buyers/changes").json()["data"]
        left = [row for row in changes if row["change"] == "left"]
        assert [(row["profile_id"], row["cause"]) for row in left] == [(ann["id"], "privacy")]


def test_who_was_deleted_returns_as_somebody_without_a_past(program: Program) -> None:
    with program.client() as client:
        answer = program.post("/v1/batch", {"batch": make_ann(again="again")})
        program.wait_for(answer["receipt"])
        assert client.get("/v1/profiles/user_id:ann-Qx7user").status_code == 404
        back = {"type": "track", "event": "Back", "userId": "ann-Qx7user", "messageId": "back"}
        program.wait_for(program.post("/v1/batch", {"batch": [back]})["receipt"])
        found = client.get("/v1/profiles/user_id:ann-Qx7user").json()
        assert (found["events"], found["orders"], found["traits"]) == (1, 0, {})


def test_the_command_line_deletes_and_shows_the_receipt(program: Program) -> None:
    done = program.run("privacy", "delete", "user_id:other-9", "--reason", "asked", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert job["status"] == "done"
    shown = program.run("privacy", "show", job["id"])
    assert "write_ahead_log" in shown.stdout
    assert job["id"] in program.run("privacy", "list").stdout


def test_a_program_that_is_killed_during_a_deletion_ends_it_when_it_is_started_again(
    program: Program,
) -> None:
    body = {"identifier": {"type": "user_id", "value": "other-8"}, "reason": "asked"}
    with program.client() as client:
        job_id = client.post("/v1/privacy/delete", json=body).json()["id"]
    program.kill_everything()
    program.start()
    program.wait_until_ready()
    with program.client() as client:
        job = wait_until_done(client, job_id)
        assert {one["store"]: one["count"] for one in job["removed"]}["events"] == 20
        assert client.get("/v1/profiles/user_id:other-8").status_code == 404
    assert find_bytes(program.data_dir, ["other-8"]) == {}
