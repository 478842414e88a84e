"""What a newcomer does in the first minutes, on the real program, over both logs."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.runtime.clock import format_time
from tests.support.program import Program, run_program

PAID_TWICE = {
    "all": [
        {
            "event": "Order Completed",
            "within": {"last": "30d"},
            "count": {"op": "gte", "value": 2},
        },
        {"event": "Order Refunded", "count": {"op": "eq", "value": 0}},
        {"consent": "marketing", "op": "granted"},
    ]
}


@pytest.fixture(scope="module", params=["postgres", pytest.param("kafka", marks=pytest.mark.kafka)])
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """``cdp up`` on the embedded log, and on Kafka."""
    environment = {}
    if request.param == "kafka":
        environment["CDP_KAFKA_BOOTSTRAP_SERVERS"] = request.getfixturevalue("kafka_servers")
        environment["CDP_KAFKA_TOPIC"] = "newcomer"
    with run_program(tmp_path_factory.mktemp(request.param), environment) as running:
        yield running


def order(person: str, number: int, days_ago: float = 1) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Order Completed",
        "messageId": f"order-{person}-{number}",
        "userId": person,
        "timestamp": format_time(datetime.now(UTC) - timedelta(days=days_ago)),
        "properties": {"order_id": f"{person}-{number}", "revenue": 1299.00, "currency": "CNY"},
    }


def identify(person: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "identify",
        "messageId": f"identify-{person}",
        "userId": person,
        "traits": {"email": f"{person}@example.com", "name": "安妮", "city": "上海"},
        "context": {"consent": {"categoryPreferences": {"marketing": True}}},
        **fields,
    }


def test_the_printed_curl_line_is_accepted_and_the_person_can_be_shown(program: Program) -> None:
    answer = program.post("/v1/identify", identify("newcomer", anonymousId="anon-newcomer"))
    assert answer["success"] is True
    assert answer["accepted"] == 1
    assert answer["rejected"] == []
    program.wait_for(answer["receipt"], "profiles")
    shown = program.run("profile", "show", "email:newcomer@example.com", "--json")
    assert shown.returncode == 0, shown.stderr
    profile = json.loads(shown.stdout)
    assert profile["traits"]["name"] == "安妮"
    assert {(i["type"], i["value"]) for i in profile["identifiers"]} == {
        ("user_id", "newcomer"),
        ("anonymous_id", "anon-newcomer"),
        ("email", "newcomer@example.com"),
    }


def test_anonymous_clicks_become_part_of_the_person_after_identify(program: Program) -> None:
    clicks = [
        {
            "type": "track",
            "event": "Product Viewed",
            "messageId": f"click-{number}",
            "anonymousId": "anon-clicker",
        }
        for number in range(3)
    ]
    first = program.post("/v1/batch", {"batch": clicks})
    program.wait_for(first["receipt"], "profiles")
    with program.client() as client:
        before = client.get("/v1/profiles/anonymous_id:anon-clicker").json()
        second = program.post("/v1/identify", identify("clicker", anonymousId="anon-clicker"))
        program.wait_for(second["receipt"], "profiles")
        after = client.get("/v1/profiles/user_id:clicker").json()
        assert after["events"] == 4
        old = client.get(f"/v1/profiles/id:{before['id']}").json()
        assert old["id"] == after["id"]
        events = client.get("/v1/profiles/user_id:clicker/events").json()["data"]
    assert [e["event"] for e in events].count("Product Viewed") == 3


def test_one_more_order_lets_a_person_enter_the_segment_and_its_changes(program: Program) -> None:
    people = [f"buyer{number}" for number in range(5)]
    batch = [identify(person) for person in people]
    batch += [order(person, 1) for person in people]
    batch += [order(person, 2) for person in people[:3]]
    batch.append(
        {
            "type": "track",
            "event": "Order Refunded",
            "messageId": "refund-buyer0",
            "userId": "buyer0",
            "properties": {"order_id": "buyer0-1"},
        }
    )
    answer = program.post("/v1/batch", {"batch": batch})
    program.wait_for(answer["receipt"])
    with program.client() as client:
        preview = client.post("/v1/segments/preview", json={"rule": PAID_TWICE}).json()
        assert preview["count"] == 2, preview
        made = client.post(
            "/v1/segments", json={"key": "loyal", "name": "Paid twice", "rule": PAID_TWICE}
        )
        assert made.status_code in (200, 201), made.text
        table = wait_for_members(program, "loyal", 2)
        assert {row["email"] for row in table} == {"buyer1@example.com", "buyer2@example.com"}
        assert {row["traits.city"] for row in table} == {"上海"}

        changes = client.get("/v1/segments/loyal/changes").json()
        assert [row["change"] for row in changes["data"]] == ["entered", "entered"]
        program.post("/v1/track", order("buyer3", 2))
        new = wait_for_changes(program, "loyal", changes["next"], 1)
        assert new[0]["change"] == "entered"
        assert new[0]["cause"] == "event"
        entered = client.get(f"/v1/profiles/id:{new[0]['profile_id']}").json()
        assert ("user_id", "buyer3") in {(i["type"], i["value"]) for i in entered["identifiers"]}


def wait_for_members(program: Program, key: str, count: int) -> list[dict[str, str]]:
    table: list[dict[str, str]] = []
    deadline = time.monotonic() + 20
    with program.client() as client:
        while time.monotonic() < deadline:
            text = client.get(
                f"/v1/segments/{key}/members",
                params={"format": "csv", "fields": "email,traits.city"},
            ).text
            table = list(csv.DictReader(io.StringIO(text)))
            if len(table) == count:
                return table
            time.sleep(0.2)
    raise AssertionError(f"{len(table)} members, not {count}")


def wait_for_changes(program: Program, key: str, since: str, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20
    rows: list[dict[str, Any]] = []
    with program.client() as client:
        while time.monotonic() < deadline and len(rows) < count:
            page = client.get(f"/v1/segments/{key}/changes", params={"since": since}).json()
            rows += page["data"]
            since = page["next"]
            time.sleep(0.1)
    assert len(rows) == count
    return rows


def test_sql_is_answered_on_the_command_line(program: Program) -> None:
    answer = program.post("/v1/track", order("sql-person", 1))
    program.wait_for(answer["receipt"])
    asked = program.run(
        "sql", "select count(*) as n from events where event = 'Order Completed'", "--json"
    )
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["data"][0]["n"] >= 1


def test_everything_received_is_stored_duplicate_or_rejected(program: Program) -> None:
    with program.client() as client:
        made = client.post("/v1/sources", json={"name": "books", "type": "server"}).json()
        good = [order(f"books{number}", 1) for number in range(10)]
        bad = [{"type": "track", "event": "Nobody"}, {"type": "dance", "userId": "books1"}]
        key = made["write_key"]
        first = program.post("/v1/batch", {"batch": [*good, *bad]}, write_key=key)
        assert first["accepted"] == 10
        assert [row["index"] for row in first["rejected"]] == [10, 11]
        second = program.post("/v1/batch", {"batch": good[:4]}, write_key=key)
        assert second["accepted"] == 4
        program.wait_for(second["receipt"])
        program.wait_for(first["receipt"])
        minutes = client.get(f"/v1/sources/{made['id']}/accounting").json()["data"]
    totals = {
        name: sum(minute[name] for minute in minutes)
        for name in ("received", "stored", "duplicate", "rejected", "in_flight")
    }
    assert totals == {
        "received": 16,
        "stored": 10,
        "duplicate": 4,
        "rejected": 2,
        "in_flight": 0,
    }
    assert all(minute["balanced"] for minute in minutes)


def test_a_second_run_on_the_same_folder_says_who_runs(program: Program, tmp_path: Path) -> None:
    second = program.run("up", seconds=30)
    assert second.returncode == 1
    assert "Traceback" not in second.stdout + second.stderr
    assert program.url in second.stdout + second.stderr
