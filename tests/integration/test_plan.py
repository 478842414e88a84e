"""The tracking plan over HTTP and at the door of the whole serving process."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from cdp.access import tokens_store
from cdp.app import build_app
from cdp.errors import Unavailable
from cdp.ingest.sources_store import create_source
from cdp.log.format import unpack_record
from cdp.model import Source
from cdp.plan.plan_book import PlanBook
from cdp.serving import Serving
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.committed import committing

pytestmark = pytest.mark.anyio

ORDER = {
    "type": "object",
    "required": ["order_id"],
    "properties": {"order_id": {"type": "string"}, "total": {"type": "number"}},
}
PLAN = {"events": {"Order Completed": {"properties": ORDER}, "Old": {"enabled": False}}}


@pytest.fixture
async def served(
    database: Database, database_url: str, tmp_path: Path
) -> AsyncIterator[tuple[Serving, httpx.AsyncClient]]:
    """Both roles in one process; a client that may plan, without ``pii:read``."""
    with database.transaction() as connection:
        _, token = tokens_store.create_token(driver(connection), "test", ("sources:write",))
    app = build_app(
        Settings(database_url=database_url, data_dir=tmp_path), frozenset({"ingest", "api"})
    )
    assert isinstance(app, Serving)
    await app.services.start()
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://cdp", headers=headers
    ) as client:
        yield app, client
    await app.services.stop()


async def put_plan(client: httpx.AsyncClient, plan: dict[str, Any]) -> dict[str, Any]:
    version = (await client.get("/v1/plan")).json()["version"]
    answer = await client.put("/v1/plan", json={"version": version, **plan})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def make_source(client: httpx.AsyncClient, mode: str, kind: str = "server") -> dict[str, Any]:
    body = {"name": mode, "type": kind, "settings": {"plan_mode": mode}}
    answer = await client.post("/v1/sources", json=body)
    assert answer.status_code == 201, answer.text
    source: dict[str, Any] = answer.json()
    return source


async def post(client: httpx.AsyncClient, source: dict[str, Any], *events: Any) -> dict[str, Any]:
    answer = await client.post(
        "/v1/batch", json={"batch": list(events)}, auth=(source["write_key"], "")
    )
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def read_log(app: Serving, source: dict[str, Any], kind: str = "events") -> list[Any]:
    log = app.services.log
    positions = dict.fromkeys(range(log.partitions), 0)
    lines: list[Any] = []
    while any(positions[p] < end for p, end in log.end_positions().items()):
        for record in log.read(positions, max_bytes=1 << 22, wait_seconds=1):
            positions[record.partition] = record.offset + 1
            found, unpacked = unpack_record(record)
            lines += unpacked if found == kind else []
    return [json.loads(line.line) for line in lines if line.source_id == source["id"]]


def track(name: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": name, "userId": "u", "properties": properties}


async def test_the_plan_is_put_whole_under_a_new_version_and_all_versions_are_kept(
    served: tuple[Serving, httpx.AsyncClient],
) -> None:
    _, client = served
    assert (await client.get("/v1/plan")).json() == {"version": 0, "events": {}}
    first = await put_plan(client, PLAN)
    assert first == {**PLAN, "version": 1}
    assert list(first["events"]) == list(PLAN["events"])
    assert await put_plan(client, PLAN) == first
    second = await put_plan(client, {"events": {}})
    assert (await client.get("/v1/plan")).json() == second == {"version": 2, "events": {}}
    versions = (await client.get("/v1/plan/versions", params={"limit": 1})).json()
    assert [row["version"] for row in versions["data"]] == [2]
    more = {"cursor": versions["next"]}
    versions = (await client.get("/v1/plan/versions", params=more)).json()
    assert [(row["version"], row["events"]) for row in versions["data"]] == [(1, 2)]
    assert (await client.get("/v1/plan/versions/1")).json()["plan"] == first
    assert (await client.get("/v1/plan/versions/7")).status_code == 404

    late = await client.put("/v1/plan", json={**PLAN, "version": 1})
    assert (late.status_code, late.json()["details"]) == (409, {"version": 2})
    wrong = {"version": 2, "events": {"A": {"properties": {"properties": {"a": {"type": "x"}}}}}}
    refused = await client.put("/v1/plan", json=wrong)
    assert refused.status_code == 422
    path = "/events/A/properties/properties/a/type"
    assert (refused.json()["code"], refused.json()["details"]["path"]) == ("invalid_plan", path)


async def test_each_mode_does_at_the_door_what_it_says(
    served: tuple[Serving, httpx.AsyncClient],
) -> None:
    app, client = served
    await put_plan(client, PLAN)
    good = track("Order Completed", order_id="1", total=3)
    bad = track("Order Completed", order_id="1", total="3", coupon="X")
    unheard = track("Unheard of", a=1)
    sources = {mode: await make_source(client, mode) for mode in ("observe", "flag", "omit")}
    for mode, source in sources.items():
        answer = await post(client, source, good, bad, unheard)
        assert (answer["accepted"], answer["rejected"]) == (3, []), mode
    assert read_log(app, sources["observe"]) == [good, bad, unheard]
    flagged = read_log(app, sources["flag"])
    assert [event["properties"] for event in flagged] == [
        event["properties"] for event in (good, bad, unheard)
    ]
    assert "context" not in flagged[0]
    assert [event["context"]["cdp"]["flags"] for event in flagged[1:]] == [
        ["plan_violation", "unplanned_property"],
        ["unplanned_event"],
    ]
    omitted = read_log(app, sources["omit"])
    assert [event["properties"] for event in omitted] == [
        {"order_id": "1", "total": 3},
        {"order_id": "1"},
        {"a": 1},
    ]

    block = await make_source(client, "block")
    answer = await post(client, block, bad, good, unheard)
    assert answer["accepted"] == 1
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [
        (0, "plan_violation"),
        (2, "unplanned_event"),
    ]
    assert read_log(app, block) == [good]
    assert len(read_log(app, block, "rejected")) == 2
    metrics = (await client.get("/metrics")).text
    labels = f'event="",mode="block",reason="unplanned_event",source_id="{block["id"]}"'
    assert f"cdp_plan_findings_total{{{labels}}} 1.0" in metrics
    assert "cdp_plan_version 1.0" in metrics


async def test_a_mode_and_a_plan_hold_at_once_where_they_were_set(
    served: tuple[Serving, httpx.AsyncClient],
) -> None:
    _, client = served
    source = await make_source(client, "block")
    unheard = track("Unheard of")
    # Before there is a plan nothing is checked.
    assert (await post(client, source, unheard))["accepted"] == 1
    await put_plan(client, PLAN)
    assert (await post(client, source, unheard))["accepted"] == 0
    await client.patch(f"/v1/sources/{source['id']}", json={"settings": {"plan_mode": "flag"}})
    assert (await post(client, source, unheard))["accepted"] == 1
    refused = await client.patch(
        f"/v1/sources/{source['id']}", json={"settings": {"plan_mode": "strict"}}
    )
    assert refused.status_code == 422


async def test_browsers_are_told_what_is_planned_where_the_door_blocks(
    served: tuple[Serving, httpx.AsyncClient],
) -> None:
    _, client = served
    await put_plan(client, PLAN)
    for mode, expected in (
        ("flag", {"__default": {"enabled": True}}),
        (
            "block",
            {
                "__default": {"enabled": False, "integrations": {}},
                "Order Completed": {"enabled": True, "integrations": {}},
                "Old": {"enabled": False, "integrations": {}},
            },
        ),
    ):
        source = await make_source(client, mode, "web")
        answer = await client.get(f"/v1/projects/{source['write_key']}/settings")
        assert answer.json()["plan"]["track"] == expected


async def test_what_was_observed_can_be_learned_and_put(
    served: tuple[Serving, httpx.AsyncClient], database: Database
) -> None:
    _, client = served
    with database.transaction() as connection:
        source, _ = create_source(driver(connection), "web", "web", {})
    with committing(database) as batch:
        ann = batch.add_person("ann")
        for number in range(12):
            properties = {"order_id": str(number), "total": number + 0.5, "email": "ann@x.com"}
            batch.add_event(ann, "Order Completed", properties, source=source.number)
        batch.add_event(ann, "Seen", {"path": "/"}, source=source.number)
    observed = await wait_for_observed(client, 2)
    ordered = observed["data"][0]
    assert (ordered["event"], ordered["count"], ordered["planned"]) == ("Order Completed", 12, None)
    assert ordered["sources"] == [source.source_id]
    by_path = {one["path"]: one for one in ordered["properties"]}
    assert by_path["/email"]["examples"] == ["a***"]
    assert (by_path["/total"]["types"], by_path["/total"]["share"]) == ({"number": 12}, 1)
    only = await client.get("/v1/plan/observed", params={"source": source.source_id, "limit": 1})
    assert [row["event"] for row in only.json()["data"]] == ["Order Completed"]
    following = {"source": source.source_id, "cursor": only.json()["next"]}
    rest = await client.get("/v1/plan/observed", params=following)
    assert [row["event"] for row in rest.json()["data"]] == ["Seen"]
    nothing = await client.get("/v1/plan/observed", params={"source": "src_other"})
    assert nothing.json()["data"] == []

    proposal = (await client.post("/v1/plan/learn", json={})).json()["plan"]
    assert proposal["events"]["Order Completed"]["properties"]["required"] == [
        "email", "order_id", "total",
    ]  # fmt: skip
    assert "required" not in proposal["events"]["Seen"]["properties"]
    assert (await client.get("/v1/plan")).json()["version"] == 0
    plan = await put_plan(client, proposal)
    assert (await wait_for_observed(client, 2))["data"][0]["planned"] is True
    diff = (await client.post("/v1/plan/diff", json={"from": "observed", "to": "current"})).json()
    assert diff == {"breaking": False, "added": 0, "removed": 0, "changed": 0, "changes": []}
    del plan["events"]["Seen"]
    diff = (await client.post("/v1/plan/diff", json={"to": plan})).json()
    assert (diff["breaking"], diff["removed"]) == (True, 1)
    diff = await client.post("/v1/plan/diff", json={"to": {"events": {"A": 1}}})
    assert (diff.status_code, diff.json()["details"]["path"]) == (422, "/to/events/A")


async def wait_for_observed(client: httpx.AsyncClient, events: int) -> dict[str, Any]:
    for _ in range(200):
        answer: dict[str, Any] = (await client.get("/v1/plan/observed")).json()
        if len(answer["data"]) >= events:
            return answer
        await anyio.sleep(0.05)
    raise AssertionError("nothing was learned")


async def test_marks_of_stored_events_are_counted(
    served: tuple[Serving, httpx.AsyncClient], database: Database
) -> None:
    _, client = served
    mark = {"cdp": {"flags": ["plan_violation"], "plan": {"version": 1}}}
    with committing(database) as batch:
        ann = batch.add_person("ann")
        batch.add_event(ann, "Seen", {})
        batch.add_event(ann, "Seen", {})
        batch.tx.execute(
            "UPDATE events SET context = %s WHERE ordinal = 1", (json.dumps(mark, indent=None),)
        )
    (row,) = (await wait_for_observed(client, 1))["data"]
    assert row["findings"] == {"plan_violation": 1}


async def test_a_new_version_arrives_by_itself_and_outlives_postgres(
    database: Database, database_url: str
) -> None:
    source = Source("src_1", 1, "web", "web", {"plan_mode": "block"})
    book = PlanBook(Database("postgresql://127.0.0.1:1/nowhere"))
    book.start()
    try:
        with pytest.raises(Unavailable):
            book.find_check(source)
        assert book.find_check(Source("src_2", 2, "web", "web")) is None
    finally:
        book.close()
    book = PlanBook(database)
    book.start()
    try:
        assert book.version == 0
        with database.transaction() as connection:
            from cdp.plan.plan_store import change_plan

            change_plan(driver(connection), {**PLAN, "version": 0}, "test")
        deadline = time.monotonic() + 10
        while book.version != 1:
            assert time.monotonic() < deadline
            await anyio.sleep(0.02)
        check = book.find_check(source)
        assert check is not None
        verdict = check(track("Unheard of"))
        assert verdict is not None
        assert verdict.code == "unplanned_event"
    finally:
        book.close()
