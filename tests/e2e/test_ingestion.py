"""Ingestion as its users meet it: the real program, asked by HTTP and the command line alone.

Each test is a promise of the published contract; all share one start of the program.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.program import Program, run_program

SOURCE_ROUTES = (
    ("GET", "/v1/sources"),
    ("POST", "/v1/sources"),
    ("PATCH", "/v1/sources/none"),
    ("POST", "/v1/sources/none/keys"),
    ("DELETE", "/v1/sources/none/keys/none"),
    ("GET", "/v1/sources/none/accounting"),
    ("GET", "/v1/sources/none/live"),
    ("GET", "/v1/rejected"),
    ("POST", "/v1/rejected/replay"),
    ("POST", "/v1/imports"),
    ("GET", "/v1/imports/none"),
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with run_program(tmp_path_factory.mktemp("ingestion")) as running:
        yield running


@pytest.fixture
def api(program: Program) -> Iterator[httpx.Client]:
    with program.client() as client:
        yield client


def add_source(api: httpx.Client, kind: str = "server", **settings: Any) -> dict[str, Any]:
    answer = api.post("/v1/sources", json={"name": kind, "type": kind, "settings": settings})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert {"id", "name", "type", "write_key"} <= made.keys()
    return made


def post(program: Program, path: str, body: Any, key: str, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(program.url + path, content=content, auth=(key, ""), headers=headers)


def list_orders(api: httpx.Client, person: str) -> dict[str, Any]:
    rows = api.get(f"/v1/profiles/{person}/orders", params={"limit": 1000}).json()["data"]
    return {row["order_id"]: row for row in rows}


def upload(api: httpx.Client, data: bytes, kind: str, mapping: str = "{}") -> dict[str, Any]:
    answer = api.post(
        "/v1/imports", files={"file": ("file", data)}, data={"kind": kind, "mapping": mapping}
    )
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        shown: dict[str, Any] = api.get(f"/v1/imports/{answer.json()['id']}").json()
        if shown["status"] in ("done", "failed"):
            return shown
        time.sleep(0.05)
    raise AssertionError(shown)


def test_authentication_and_scope_come_before_body_and_existence(
    program: Program, api: httpx.Client
) -> None:
    reader = api.post("/v1/tokens", json={"name": "reader", "scopes": ["profiles:read"]}).json()
    for method, path in SOURCE_ROUTES:
        body = b"" if method == "GET" else b"{bad"
        url = program.url + path
        assert httpx.request(method, url, content=body).status_code == 401, path
        headers = {"Authorization": f"Bearer {reader['token']}"}
        refused = httpx.request(method, url, content=body, headers=headers)
        assert refused.status_code == 403, path
        assert refused.json().keys() == {"code", "message", "details"}
        assert "sources:write" in refused.text
    assert post(program, "/v1/batch", b"{bad", "no such key").status_code == 401


def test_a_bad_element_rejects_only_itself(program: Program, api: httpx.Client) -> None:
    source = add_source(api)
    track = {"type": "track", "event": "Seen", "userId": "batch"}
    elements = [
        track,
        {**track, "type": "dance", "messageId": "m1"},
        {"type": "track", "event": "Seen"},
        *({**track, "userId": odd} for odd in (1.5, [1], {"a": 1})),
        {**track, "properties": {"text": "x" * 33_000}},
        7,
        track,
    ]
    raw = json.dumps({"batch": elements}).encode()
    answer = post(program, "/v1/batch", gzip.compress(raw), source["write_key"]).json()
    assert (answer["success"], answer["accepted"]) == (True, 2)
    assert [row["index"] for row in answer["rejected"]] == [1, 2, 3, 4, 5, 6, 7]
    assert answer["rejected"][0]["messageId"] == "m1"
    program.wait_for(answer["receipt"], "profiles")
    rejected = api.get("/v1/rejected", params={"source": source["id"]}).json()["data"]
    assert len(rejected) == 7
    names = {"id", "source_id", "messageId", "code", "message", "received_at", "raw"}
    assert all(names <= row.keys() for row in rejected)
    single = post(program, "/v1/track", {"event": "Nobody"}, source["write_key"])
    assert (single.status_code, len(single.json()["rejected"])) == (200, 1)
    for body, status in ((b"{", 400), (raw[:-9], 400), (gzip.compress(raw)[:-9], 400)):
        assert post(program, "/v1/batch", body, source["write_key"]).status_code == status
    bomb = gzip.compress(b" " * 50_000_000)
    assert post(program, "/v1/batch", bomb, source["write_key"]).status_code == 413


def test_what_no_json_holds_is_null_and_flagged(program: Program, api: httpx.Client) -> None:
    source = add_source(api)
    values = '{"nan": NaN, "big": 1e400, "int": 123456789012345678901234567890, "half": "\\ud800"}'
    event = f'{{"type": "track", "event": "Odd", "userId": "odd", "properties": {values}}}'
    body = f'{{"batch": [{event}]}}'.encode()
    answer = post(program, "/v1/batch", body, source["write_key"]).json()
    assert answer["accepted"] == 1
    account = b'{"accounts": [{"account_id": "odd", "traits": {"seats": NaN, "plan": "pro"}}]}'
    told = post(program, "/v1/accounts", account, source["write_key"]).json()
    assert told["rejected"] == []
    program.wait_for(answer["receipt"], "profiles")
    program.wait_for(told["receipt"], "profiles")
    (stored,) = api.get("/v1/profiles/user_id:odd/events").json()["data"]
    assert stored["properties"] == {
        "nan": None, "big": None, "int": "123456789012345678901234567890", "half": None,
    }  # fmt: skip
    assert {"non_finite_number", "big_integer"} <= set(stored["context"]["cdp"]["flags"])
    assert api.get("/v1/accounts/odd").json()["traits"]["plan"] == "pro"


def test_the_newest_version_of_an_order_counts_once_in_its_currency(
    program: Program, api: httpx.Client
) -> None:
    erp, shop, page = add_source(api, "erp"), add_source(api), add_source(api, "web")
    ann = [{"type": "user_id", "value": "buyer"}]

    def tell(*orders: dict[str, Any]) -> dict[str, Any]:
        told = [{"currency": "CNY", "identifiers": ann, **order} for order in orders]
        answer = post(program, "/v1/orders", {"orders": told}, erp["write_key"]).json()
        program.wait_for(answer["receipt"], "profiles")
        result: dict[str, Any] = answer
        return result

    completed = {
        "type": "track", "event": "Order Completed", "userId": "buyer",
        "properties": {"order_id": "1001", "total": 50, "currency": "CNY"},
    }  # fmt: skip
    told = post(program, "/v1/track", completed, shop["write_key"]).json()
    program.wait_for(told["receipt"], "profiles")
    day = {n: f"2026-03-0{n}T00:00:00Z" for n in range(1, 6)}
    refund = {"refund_id": "r", "at": day[4], "amount": "23.45"}
    tell(
        {"order_id": "1001", "updated_at": day[3], "total": 123.45, "refunds": [refund]},
        {"order_id": "1001", "updated_at": day[1], "total": 999},
        {"order_id": "yen", "updated_at": 1772409600, "total": 1000, "currency": "JPY"},
        {"order_id": "dinar", "updated_at": day[1], "total": "1.234", "currency": "KWD"},
        {"order_id": "untimed", "total": 1},
        {"order_id": "untimed", "total": 2},
        {"order_id": "return", "status": "returned", "total": 0, "refunds": [refund]},
    )
    again = tell({"order_id": "1001", "updated_at": day[2], "total": 1}, {"total": 1}, {})
    assert [row["index"] for row in again["rejected"]] == [1, 2]
    orders = list_orders(api, "user_id:buyer")
    assert orders["1001"]["net"] == {"amount": 10000, "currency": "CNY"}
    assert orders["yen"]["total"] == {"amount": 1000, "currency": "JPY"}
    assert orders["dinar"]["total"] == {"amount": 1234, "currency": "KWD"}
    assert orders["untimed"]["total"]["amount"] == 200
    profile = api.get("/v1/profiles/user_id:buyer").json()
    assert profile["orders"] == 4
    revenue = {money["currency"]: money["amount"] for money in profile["net_revenue"]}
    assert revenue == {"CNY": 10000 + 200 - 2345, "JPY": 1000, "KWD": 1234}
    refused = post(program, "/v1/orders", b"{bad", page["write_key"])
    assert (refused.status_code, refused.json()["code"]) == (403, "public_key")


def test_members_of_an_account_are_shown_and_a_group_call_joins_one(
    program: Program, api: httpx.Client
) -> None:
    crm = add_source(api, "crm")
    member = {"identifier": {"type": "email", "value": "ann@example.com"}, "role": "buyer"}
    account = {"account_id": "acme", "type": "company", "traits": {"name": "Acme"}}
    line = json.dumps({**account, "members": [member]}).encode()
    first = post(
        program, "/v1/accounts", line, crm["write_key"], **{"Content-Type": "application/x-ndjson"}
    ).json()
    group = {"userId": "bob", "groupId": "acme", "traits": {"plan": "pro"}}
    second = post(program, "/v1/group", group, crm["write_key"]).json()
    for told in (first, second):
        program.wait_for(told["receipt"], "profiles")
    shown = api.get("/v1/accounts/acme").json()
    assert shown["traits"] == {"name": "Acme", "plan": "pro"}
    assert [one["role"] for one in shown["members"]] == ["buyer", None]
    ann = api.get("/v1/profiles/email:ann@example.com").json()
    assert ann["accounts"] == [{"account_id": "acme", "role": "buyer"}]


def test_a_custom_hook_is_taken_once_with_its_signature_only(
    program: Program, api: httpx.Client
) -> None:
    mapping = {"event": "name", "userId": "who", "properties.sum": "sum"}
    settings = {"preset": "custom", "mapping": mapping, "signature_header": "X-Signed"}
    unsigned = add_source(api, "shop", **settings)
    shop = add_source(api, "shop", secret="s3cret", **settings)
    body = b'{"name": "Hooked", "who": "hooked", "sum": 5}'
    signature = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()

    def deliver(source: dict[str, Any], signed: str) -> httpx.Response:
        url = f"{program.url}/v1/hooks/{source['id']}"
        return httpx.post(url, content=body, headers={"X-Signed": signed})

    assert deliver(shop, signature[::-1]).status_code == 401
    assert deliver(unsigned, signature).status_code == 403
    receipts = [deliver(shop, signature).json()["receipt"] for _ in range(2)]
    for receipt in receipts:
        program.wait_for(receipt, "profiles")
    (event,) = api.get("/v1/profiles/user_id:hooked/events").json()["data"]
    assert (event["event"], event["properties"]) == ("Hooked", {"sum": 5})


def test_files_of_each_form_are_imported_once_with_their_bad_rows_by_number(
    program: Program, api: httpx.Client, tmp_path: Path
) -> None:
    rows = [{"type": "track", "event": "Visit", "userId": "filed"} for _ in range(3)]
    lines = [json.dumps({**row, "timestamp": f"2025-01-0{n + 1}"}) for n, row in enumerate(rows)]
    wire = "\n".join([*lines, '{"type": "dance", "userId": "x"}', "{bad"]).encode()
    file = gzip.compress(wire)
    done = upload(api, file, "events")
    assert (done["status"], done["rows"], done["accepted"], done["rejected"]) == ("done", 5, 3, 2)
    refused = api.get(f"/v1/imports/{done['id']}/rejected").json()["data"]
    assert [row["row"] for row in refused] == [4, 5]
    path = tmp_path / "visits.ndjson"
    path.write_text("\n".join(lines))
    assert program.run("import", str(path), "--kind", "events", "--dry-run").returncode == 0
    table = "mail,city\nfiled@example.com,上海\n".encode()
    mapping = {"mail": "identifiers.email", "city": "traits.city"}
    people = upload(api, table, "profiles", json.dumps(mapping))
    packed = io.BytesIO()
    column = ["filed-1", "filed-2"]
    pq.write_table(pa.table({"account_id": column}), packed, compression="zstd")
    accounts = upload(api, packed.getvalue(), "accounts")
    assert (people["accepted"], accounts["accepted"]) == (1, 2)
    for one in (done, people, accounts):
        program.wait_for(one["receipt"], "profiles")
    again = upload(api, file, "events")
    assert again["id"] == done["id"]
    assert api.get("/v1/profiles/user_id:filed").json()["events"] == 3
    city = api.get("/v1/profiles/email:filed@example.com").json()["traits"]["city"]
    assert city == "上海"
    assert api.get("/v1/accounts/filed-2").status_code == 200
    wrong = api.post("/v1/imports", files={"file": ("f", b"x")}, data={"kind": "zebras"})
    assert (wrong.status_code, wrong.json()["details"]["path"]) == (422, "/kind")


def test_a_key_changes_over_and_a_rate_is_kept(program: Program, api: httpx.Client) -> None:
    source = add_source(api, rate_limit={"events_per_second": 1, "burst": 2})
    event = {"event": "Seen", "userId": "rate"}
    keys = f"/v1/sources/{source['id']}/keys"
    old = api.get(keys).json()["data"][0]
    new = api.post(keys).json()
    assert {"id", "write_key"} <= new.keys()
    assert post(program, "/v1/track", event, old["write_key"]).status_code == 200
    assert api.delete(f"{keys}/{old['id']}").status_code == 204
    assert post(program, "/v1/track", event, old["write_key"]).status_code == 401
    answers = [post(program, "/v1/track", event, new["write_key"]) for _ in range(20)]
    late = next(answer for answer in answers if answer.status_code == 429)
    assert late.json()["code"] == "rate_limited"
    assert int(late.headers["retry-after"]) >= 1
    taken = [answer.json()["receipt"] for answer in answers if answer.status_code == 200]
    for receipt in taken:
        program.wait_for(receipt, "profiles")
    minutes = api.get(f"/v1/sources/{source['id']}/accounting").json()["data"]
    assert all(
        minute.keys()
        == {"minute", "received", "stored", "duplicate", "rejected", "in_flight", "balanced"}
        for minute in minutes
    )
    assert sum(minute["stored"] for minute in minutes) == len(taken) + 1


def test_an_unplanned_event_is_refused_only_by_a_source_that_blocks(
    program: Program, api: httpx.Client
) -> None:
    version = api.get("/v1/plan").json()["version"]
    plan = {"version": version, "events": {"Planned": {}}}
    assert api.put("/v1/plan", json=plan).status_code == 200
    assert api.put("/v1/plan", json=plan).status_code == 409
    batch = [{"type": "track", "event": e, "userId": "p"} for e in ("Planned", "Other")]
    for mode, accepted in (("observe", 2), ("flag", 2), ("block", 1)):
        key = add_source(api, plan_mode=mode)["write_key"]
        answer = post(program, "/v1/batch", {"batch": batch}, key).json()
        assert answer["accepted"] == accepted, mode
    assert answer["rejected"][0]["code"] == "unplanned_event"
