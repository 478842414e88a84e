"""Two years of the demo add up: what was posted, what the timeline holds, what people come to.

One start of the program (and the one after the restore) for all that may come between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cdp.demo.history import generate
from tests.support.program import Program, run_program

SEED, PEOPLE, DAYS = 7, 150, 730
TODAY = datetime.now(UTC).date()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with run_program(tmp_path) as running:
        yield running


def add_posted() -> dict[str, int]:
    """What the demo posts, added up from its calls alone; money in minor units of CNY."""
    midnight = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)
    calls = [call.document for life in generate(SEED, PEOPLE, DAYS, midnight) for call in life]
    totals: dict[str, int] = {}
    refunds: dict[str, int] = {}
    for call in calls:
        if call.get("event") not in ("Order Completed", "Order Refunded"):
            continue
        told = call["properties"]
        assert told["currency"] == "CNY"
        kind = totals if call["event"] == "Order Completed" else refunds
        kind[told["order_id"]] = round(told["total"] * 100)
    net = {order_id: total - refunds.get(order_id, 0) for order_id, total in totals.items()}
    return {
        "events": len({call["messageId"] for call in calls}),
        "orders": sum(1 for amount in net.values() if amount),
        "net": sum(net.values()),
    }


def add_people(program: Program) -> dict[str, int]:
    """The same from every profile that there is."""
    sums = {"events": 0, "orders": 0, "net": 0}
    cursor = None
    with program.client() as client:
        while True:
            asked: dict[str, Any] = {"limit": 1000, "fields": "events,orders,net_revenue"}
            if cursor is not None:
                asked["cursor"] = cursor
            answer = client.get("/v1/profiles", params=asked)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            for one in page["data"]:
                sums["events"] += one["events"]
                sums["orders"] += one["orders"]
                for money in one["net_revenue"]:
                    assert money["currency"] == "CNY"
                    sums["net"] += money["amount"]
            cursor = page["next"]
            if cursor is None:
                return sums


def add_timeline(program: Program) -> dict[str, int]:
    """The same from the tables for SQL."""
    sql = """SELECT (SELECT count(*) FROM events WHERE profile_id IS NOT NULL) AS events,
                    (SELECT count(*) FROM orders WHERE profile_id IS NOT NULL AND net <> 0)
                        AS orders,
                    (SELECT sum(net)::BIGINT FROM orders WHERE profile_id IS NOT NULL) AS net"""
    with program.client() as client:
        answer = client.post("/v1/query", json={"sql": sql})
    assert answer.status_code == 200, answer.text
    row: dict[str, int] = answer.json()["data"][0]
    return row


def check_sums(program: Program, posted: dict[str, int], when: str) -> None:
    """All three are equal at once in Postgres, and soon where analytics follows."""
    assert add_people(program) == posted, when
    deadline = time.monotonic() + 60
    while (found := add_timeline(program)) != posted:
        assert time.monotonic() < deadline, (when, found, posted)
        time.sleep(0.3)


def decide(program: Program, path: str, body: dict[str, Any]) -> dict[str, Any]:
    with program.client() as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def block_tablets(program: Program, folder: Path) -> None:
    """Change the rules so that the shared tablets of the stores tie nobody."""
    with program.client() as client:
        rules = client.get("/v1/identity/rules").json()
    for kind in ("anonymous_id", "device_id"):
        rules["types"][kind]["blocked_patterns"] = ["tablet-.*"]
    path = folder / "rules.json"
    path.write_text(json.dumps(rules))
    run(program, "identity", "rules", "put", f"@{path}", "--wait")


def run(program: Program, *command: str) -> None:
    done = program.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_people_timeline_and_what_was_posted_agree_whatever_is_done_to_them(
    program: Program, tmp_path: Path
) -> None:
    posted = add_posted()
    demo = ("demo", "--people", str(PEOPLE), "--days", str(DAYS), "--seed", str(SEED))
    run(program, *demo, "--end", TODAY.isoformat())
    check_sums(program, posted, "at first")

    with program.client() as client:
        people = client.get("/v1/profiles", params={"identifier.user_id^": "u", "limit": 2}).json()
    names = [{"type": "id", "value": one["id"]} for one in people["data"]]
    merge = {"identifiers": names, "reason": "twins", "allow_unique_conflict": True}
    merged = decide(program, "/v1/identity/merge", merge)
    check_sums(program, posted, "after a merge")
    decide(program, f"/v1/identity/undo/{merged['id']}", {"reason": "they are two"})
    check_sums(program, posted, "after its undoing")

    block_tablets(program, tmp_path)
    check_sums(program, posted, "after other rules")
    run(program, "identity", "check")

    run(program, "archive", "run", "--through", TODAY.isoformat())
    check_sums(program, posted, "after the archive has taken its copy")
    run(program, "rebuild", "analytics")
    check_sums(program, posted, "after analytics was fed anew")

    backup = tmp_path / "backup.tar"
    run(program, "backup", str(backup))
    assert program.stop() == 0
    run(program, "restore", str(backup), "--replace")
    program.start()
    check_sums(program, posted, "after a restore")
    again = program.run(*demo, "--end", TODAY.isoformat(), "--json")
    assert again.returncode in (0, 2), again.stderr
    check_sums(program, posted, "after the demo once more")
    assert json.loads((program.data_dir / "credentials.json").read_text())["token"]
