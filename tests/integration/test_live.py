"""Watching a source: what arrives now and what becomes of it, over both logs."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from cdp.ingest.live import listener as live_listener
from cdp.ingest.live.listener import Listener
from cdp.ingest.live.routes import create_router
from cdp.ingest.live.tail import MOST_LISTENERS, LiveTail
from cdp.live_lines import make_name_record
from cdp.log.port import NewRecord
from cdp.pipeline import STEPS, Work
from cdp.serving import AnswerHeads
from cdp.storage.database import Database, Driver
from tests.contract.conftest import KINDS, make_place
from tests.support.ingest_server import serve, wait_until
from tests.support.outcome_stack import OutcomeStack


@dataclass
class Watching:
    """A stack whose source can be watched over a real socket."""

    stack: OutcomeStack
    tail: LiveTail
    url: str

    @property
    def path(self) -> str:
        return f"{self.url}/v1/sources/{self.stack.source.source_id}/live"

    def headers(self, *scopes: str) -> dict[str, str]:
        token = self.stack.make_token(*(scopes or ("sources:write", "pii:read")))
        return {"Authorization": f"Bearer {token}"}

    @contextlib.contextmanager
    def watch(self, *scopes: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The messages of one connection, once it is open."""
        with httpx.stream("GET", self.path, headers=self.headers(*scopes), timeout=20) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(lines) == ": listening"
            yield (json.loads(line[6:]) for line in lines if line.startswith("data: "))


@contextlib.contextmanager
def serving(stack: OutcomeStack, place: Any) -> Iterator[Watching]:
    tail = LiveTail(stack.database, place.open, stack.directory.by_id, make_name_record("CNY"))
    app = AnswerHeads(stack.build_api(create_router(stack.database, tail)))
    try:
        with serve(app) as url:
            yield Watching(stack, tail, url)
            tail.end()
    finally:
        tail.close()


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest, database: Database) -> Iterator[Watching]:
    servers = request.getfixturevalue("kafka_servers") if request.param == "kafka" else None
    place = make_place(database, servers)
    try:
        with serving(OutcomeStack(database, place.open()), place) as watching:
            yield watching
    finally:
        place.close()


@pytest.fixture
def watching(database: Database) -> Iterator[Watching]:
    place = make_place(database, None)
    try:
        with serving(OutcomeStack(database, place.open()), place) as watching:
            yield watching
    finally:
        place.close()


def take(messages: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [next(messages) for _ in range(count)]


def event(message_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "track", "event": "Viewed", "messageId": message_id, "userId": "ann", **fields
    }  # fmt: skip


def post(stack: OutcomeStack, *events: dict[str, Any]) -> None:
    stack.post("batch", json.dumps({"batch": events}).encode())


def test_every_element_is_seen_to_arrive_and_then_what_became_of_it(either: Watching) -> None:
    stack = either.stack
    post(stack, event("before"))
    with either.watch() as messages:
        post(stack, event("a"), event("a"), event("before"), {"type": "dance", "messageId": "d"})
        arrived = take(messages, 4)
        assert {one["state"] for one in arrived} == {"received"}
        stack.work()
        became = take(messages, 4)
        post(stack, event("a"))
        again = take(messages, 1)
        stack.work()
        again += take(messages, 1)
    outcomes = sorted((one["messageId"], one["state"], one.get("code")) for one in became)
    assert outcomes == [
        ("a", "duplicate", None),
        ("a", "stored", None),
        ("before", "duplicate", None),
        ("d", "rejected", "unknown_type"),
    ]
    assert [one["state"] for one in again] == ["received", "duplicate"]
    stored = next(one for one in became if one["state"] == "stored")
    assert stored["profile_id"].startswith("prf_")
    assert (stored["type"], stored["event"], stored["kind"]) == ("track", "Viewed", "events")
    refused = next(one for one in became if one["state"] == "rejected")
    kept = stack.client().get(f"/v1/rejected/{refused['rejected_id']}").json()
    assert kept["code"] == "unknown_type"
    assert "dance" in kept["raw"]


def test_records_are_watched_like_events(watching: Watching) -> None:
    stack = watching.stack
    order = {"order_id": "1", "updated_at": "2026-01-01T00:00:00Z", "total": 5, "currency": "CNY"}
    with watching.watch() as messages:
        for total in (5, 5, "a lot"):
            stack.post_records("orders", [json.dumps({**order, "total": total}).encode()])
        take(messages, 3)
        stack.work()
        became = take(messages, 3)
    assert sorted(one["state"] for one in became) == ["duplicate", "rejected", "stored"]
    assert {one["kind"] for one in became} == {"orders"}
    assert {one["order_id"] for one in became} == {"1"}


def test_what_cannot_be_processed_ends_as_rejected_with_its_reason(watching: Watching) -> None:
    def refuse_poison(_: Driver, work: Work) -> None:
        if any(one.message_id == "poison" for one in work.fresh):
            raise ValueError("this cannot be stored")

    with watching.watch() as messages:
        post(watching.stack, event("good"), event("poison"))
        take(messages, 2)
        watching.stack.work((*STEPS[:2], refuse_poison, *STEPS[2:]))
        became = {one["messageId"]: one for one in take(messages, 2)}
    assert became["good"]["state"] == "stored"
    assert (became["poison"]["state"], became["poison"]["code"]) == ("rejected", "unprocessable")


def test_other_sources_and_personal_values_stay_unseen(watching: Watching) -> None:
    stack = watching.stack
    mine, other = stack.source, stack.make_source("other", "server")
    with watching.watch("sources:write") as masked, watching.watch() as plain:
        stack.source = other
        post(stack, event("theirs"))
        stack.source = mine
        post(stack, event("m", type="identify", traits={"email": "ann@example.com", "plan": "x"}))
        (hidden,), (shown,) = take(masked, 1), take(plain, 1)
    assert (hidden["messageId"], shown["messageId"]) == ("m", "m")
    assert "ann@example.com" in shown["raw"]
    assert "ann@example.com" not in hidden["raw"]
    assert json.loads(hidden["raw"])["traits"]["plan"] == "x"


def test_a_record_that_nobody_can_read_is_told_and_stops_nothing(watching: Watching) -> None:
    with watching.watch() as messages:
        headers = {"cdp-source": watching.stack.source.source_id, "cdp-format": "99"}
        watching.stack.log.append([NewRecord(0, None, headers, b"?")]).result(30)
        post(watching.stack, event("a"))
        first, second = take(messages, 2)
    assert (first["state"], first["code"]) == ("rejected", "unknown_format")
    assert second["messageId"] == "a"


def test_nothing_runs_while_nobody_watches(watching: Watching) -> None:
    def is_running() -> bool:
        return any(thread.name == "live-tail" for thread in threading.enumerate())

    assert not is_running()
    with watching.watch(), watching.watch():
        assert is_running()
    wait_until(lambda: not is_running())
    with watching.watch() as messages:
        post(watching.stack, event("a"))
        assert next(messages)["messageId"] == "a"
    wait_until(lambda: not is_running())


def test_streams_end_when_the_server_stops(watching: Watching) -> None:
    with watching.watch() as messages:
        watching.tail.end()
        assert list(messages) == [{"state": "ended"}]
    answer = httpx.get(watching.path, headers=watching.headers())
    assert (answer.status_code, answer.json()["code"]) == (503, "stopping")
    assert answer.headers["retry-after"]


def test_a_head_request_is_answered_and_not_held(watching: Watching) -> None:
    answer = httpx.head(watching.path, headers=watching.headers(), timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    wait_until(lambda: not watching.tail._listeners)


def test_only_so_many_may_watch_at_once(watching: Watching) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_LISTENERS):
            stack.enter_context(watching.watch())
        answer = httpx.get(watching.path, headers=watching.headers())
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_listeners")
    wait_until(lambda: not watching.tail._listeners)
    with watching.watch():
        pass


def test_watching_needs_the_scope_and_a_source(watching: Watching) -> None:
    assert httpx.get(watching.path, headers=watching.headers("profiles:read")).status_code == 403
    assert httpx.get(watching.path).status_code == 401
    unknown = f"{watching.url}/v1/sources/src_x/live"
    assert httpx.get(unknown, headers=watching.headers()).json()["code"] == "source_not_found"


def test_a_slow_listener_is_told_what_it_missed_and_holds_nothing_up() -> None:
    import asyncio

    async def listen() -> bytes:
        slow = Listener("src_1", sees_personal=True)
        for number in range(live_listener.MOST_WAITING + 30):
            slow.put(b"%d\n" % number)
        slow.skip(12)
        slow.end()
        return b"".join([frame async for frame in slow.frames()])

    sent = asyncio.run(listen())
    assert sent.count(b"\n") < live_listener.MOST_WAITING + 20
    assert b'data: {"state":"skipped","count":42}' in sent
    assert sent.endswith(b'data: {"state":"ended"}\n\n')


def test_an_idle_stream_says_that_it_is_still_there(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_listener, "HEARTBEAT_SECONDS", 0.05)
    with httpx.stream("GET", watching.path, headers=watching.headers(), timeout=20) as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert [next(lines) for _ in range(3)] == [": listening", *[": still here"] * 2]


def test_a_flood_is_passed_over_in_part_and_the_count_is_whole(watching: Watching) -> None:
    with watching.watch() as messages:
        post(watching.stack, *[event(f"m{number}") for number in range(900)])
        seen = skipped = 0
        while seen + skipped < 900:
            message = next(messages)
            if message["state"] == "skipped":
                skipped += message["count"]
            else:
                seen += 1
    assert seen + skipped == 900
    assert seen >= 400
