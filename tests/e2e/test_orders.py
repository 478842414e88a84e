"""A back office's orders on the real program: from the post to the segment, the tag and SQL."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.runtime.clock import format_time
from tests.support.program import Program, run_program

BIG_TEA = {
    "all": [
        {"orders": {"where": [{"property": "line.category", "op": "eq", "value": "茶"}]}},
        {
            "orders": {},
            "within": {"last": "90d"},
            "aggregate": {"fn": "sum", "property": "total"},
            "op": "gte",
            "value": {"amount": 100_000, "currency": "CNY"},
        },
    ]
}
SPENT = {"orders": {}, "aggregate": {"fn": "sum", "property": "total"}}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with run_program(tmp_path_factory.mktemp("orders")) as running:
        yield running


def version(number: int, person: str | None, total: float, **fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    named = [] if person is None else [{"type": "email", "value": f"{person}@example.com"}]
    return {
        "order_id": f"R-{number}",
        "placed_at": format_time(now - timedelta(days=2)),
        "updated_at": format_time(now - timedelta(days=1)),
        "identifiers": named,
        "status": "paid",
        "currency": "CNY",
        "total": total,
        "lines": [{"sku": "tea", "category": "茶", "quantity": 2, "price": total / 2}],
        **fields,
    }


def members(program: Program) -> set[str]:
    with program.client() as client:
        page = client.get("/v1/segments/big_tea/members", params={"fields": "email"}).json()
    return {row["email"] for row in page["data"]}


def wait_for_members(program: Program, wanted: set[str]) -> None:
    deadline = time.monotonic() + 20
    while (found := members(program)) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def test_orders_reach_profile_segment_tag_and_sql_and_a_refund_takes_them_back(
    program: Program,
) -> None:
    with program.client() as client:
        made = client.post("/v1/segments", json={"key": "big_tea", "name": "Tea", "rule": BIG_TEA})
        assert made.status_code in (200, 201), made.text
        tag = {
            "key": "spent", "name": "Spent", "category": "value", "type": "number",
            "definition": {"aggregate": SPENT},
        }  # fmt: skip
        assert client.post("/v1/tags", json=tag).status_code in (200, 201)
        ann, bob = version(1, "ann", 1299.00), version(2, "bob", 99.90)
        answer = program.post(
            "/v1/orders", {"orders": [ann, bob, {"order_id": "R-9", "total": {}}]}
        )
        assert (answer["accepted"], [row["index"] for row in answer["rejected"]]) == (2, [2])
        program.wait_for(answer["receipt"])
        wait_for_members(program, {"ann@example.com"})

        shown = client.get("/v1/profiles/email:ann@example.com").json()
        assert shown["orders"] == 1
        assert shown["events"] == 0
        assert shown["net_revenue"] == [{"amount": 129_900, "currency": "CNY"}]
        orders = client.get("/v1/profiles/email:ann@example.com/orders").json()["data"]
        assert [order["order_id"] for order in orders] == ["R-1"]
        why = client.get("/v1/segments/big_tea/members/email:bob@example.com").json()
        assert why["member"] is False
        assert why["why"]["all"][1]["value"] == 99.9
        tags = client.get("/v1/profiles/email:bob@example.com/tags").json()["data"]
        assert [(row["key"], row["value"]) for row in tags] == [("spent", 99.9)]
        sql = "select order_id, total, net from orders order by order_id"
        rows = client.post("/v1/query", json={"sql": sql}).json()["data"]
        assert rows == [
            {"order_id": "R-1", "total": 129_900, "net": 129_900},
            {"order_id": "R-2", "total": 9_990, "net": 9_990},
        ]

        now = format_time(datetime.now(UTC))
        back = [{"refund_id": "1", "at": now, "amount": 400}]
        refunded = version(1, None, 1299.00, updated_at=now, refunds=back)
        # The correction, then once more the old version, late.
        answer = program.post("/v1/orders", {"orders": [refunded]})
        program.wait_for(answer["receipt"])
        late = program.post("/v1/orders", {"orders": [ann]})
        program.wait_for(late["receipt"])
        wait_for_members(program, set())
        changes = client.get("/v1/segments/big_tea/changes").json()["data"]
        assert [(row["change"], row["cause"]) for row in changes] == [
            ("entered", "event"), ("left", "event"),
        ]  # fmt: skip

        command = program.run("profile", "orders", "email:ann@example.com", "--json")
        assert command.returncode == 0, command.stderr
        assert json.loads(command.stdout)["data"][0]["net"] == {"amount": 89_900, "currency": "CNY"}

        assert "899.00 CNY" in program.run("profile", "orders", "email:ann@example.com").stdout

        (source,) = client.get("/v1/sources").json()["data"][:1]
        minutes = client.get(f"/v1/sources/{source['id']}/accounting").json()["data"]
        totals = {n: sum(m[n] for m in minutes) for n in ("stored", "duplicate", "rejected")}
        assert totals == {"stored": 3, "duplicate": 1, "rejected": 1}
        assert all(minute["balanced"] for minute in minutes)


def test_revenue_without_a_person_joins_when_a_later_version_names_one(program: Program) -> None:
    first = program.post("/v1/orders", {"orders": [version(7, None, 10.00)]})
    program.wait_for(first["receipt"])
    with program.client() as client:
        sql = "select profile_id from orders where order_id = 'R-7'"
        assert client.post("/v1/query", json={"sql": sql}).json()["data"] == [{"profile_id": None}]
        named = version(7, "cid", 10.00, updated_at=format_time(datetime.now(UTC)))
        second = program.post("/v1/orders", {"orders": [named]})
        program.wait_for(second["receipt"])
        profile = client.get("/v1/profiles/email:cid@example.com").json()
        rows = client.post("/v1/query", json={"sql": sql}).json()["data"]
        assert rows == [{"profile_id": profile["id"]}]
        assert profile["orders"] == 1


def test_a_key_of_a_web_page_cannot_post_orders(program: Program) -> None:
    with program.client() as client:
        page = client.post("/v1/sources", json={"name": "page", "type": "web"}).json()
        answer = client.post(
            "/v1/orders", json={"orders": [version(8, "eve", 1.00)]}, auth=(page["write_key"], "")
        )
    assert (answer.status_code, answer.json()["code"]) == (403, "public_key")
