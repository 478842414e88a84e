"""Refused events are judged again: over both logs, once in effect, whatever fails in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cdp.errors import Unavailable
from cdp.ingest.rejected_store import RejectedFilter
from cdp.log.port import NewRecord
from cdp.log.postgres_log import PostgresLog
from cdp.pipeline import STEPS, Work
from cdp.settings import Settings
from cdp.storage.database import Database, Driver, driver
from tests.contract.conftest import KINDS, make_place
from tests.support.outcome_stack import OutcomeStack

REPLAY = "/v1/rejected/replay"


@pytest.fixture
def stack(database: Database) -> Iterator[OutcomeStack]:
    log = PostgresLog(database, 2)
    yield OutcomeStack(database, log, Settings(max_event_bytes=1000))
    log.close()


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest, database: Database) -> Iterator[OutcomeStack]:
    servers = request.getfixturevalue("kafka_servers") if request.param == "kafka" else None
    place = make_place(database, servers)
    try:
        yield OutcomeStack(database, place.open(), Settings(max_event_bytes=1000))
    finally:
        place.close()


def large(message_id: str | None = "big", **fields: Any) -> bytes:
    """An event that is refused while the source takes 1,000 bytes."""
    event = {
        "type": "track", "event": "Viewed", "userId": "ann",
        "properties": {"text": "x" * 1200}, **fields,
    }  # fmt: skip
    return json.dumps({**event, "messageId": message_id} if message_id else event).encode()


def allow(stack: OutcomeStack, size: int = 10_000) -> None:
    """The fix: the source takes larger events from now on."""
    path = f"/v1/sources/{stack.source.source_id}"
    answer = stack.client().patch(path, json={"settings": {"max_event_bytes": size}})
    assert answer.status_code == 200, answer.text


def replay(stack: OutcomeStack, **body: Any) -> dict[str, Any]:
    answer = stack.client().post(REPLAY, json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def test_after_a_fix_refused_events_are_stored_once_however_often_they_are_replayed(
    either: OutcomeStack,
) -> None:
    either.post("batch", b'{"batch": [%s, %s]}' % (large("a"), large("b")))
    either.work()
    still = replay(either, code="event_too_large")
    assert (still["replayed"], still["still_rejected"]) == (0, 2)
    assert still["reasons"] == [{"code": "event_too_large", "count": 2}]
    assert still["receipt"] is None
    allow(either)
    first = replay(either, source=either.source.source_id)
    again = replay(either, source=either.source.source_id)
    either.work()
    assert (first["replayed"], first["still_rejected"], first["already_replayed"]) == (2, 0, 0)
    assert first["receipt"]
    assert (again["replayed"], again["still_rejected"], again["already_replayed"]) == (0, 0, 2)
    assert either.ask("SELECT message_id FROM events ORDER BY 1") == [("a",), ("b",)]
    assert either.read_balance() == {
        "received": 4, "stored": 2, "duplicate": 0, "rejected": 2, "in_flight": 0,
    }  # fmt: skip


def test_a_replay_that_dies_before_it_is_written_down_doubles_nothing(
    either: OutcomeStack,
) -> None:
    either.post("track", large(None))
    either.post("track", large(None, timestamp="2026-01-01T00:00:00Z"))
    either.post("batch", b'{"batch": [%s]}' % large("own"))
    either.work()
    allow(either)
    with either.database.engine.connect() as connection:
        tx = driver(connection)
        lost = either.replayer.replay(tx, RejectedFilter(), after=0, until=99, limit=10)
        connection.rollback()
    assert len(lost.replayed) == 3
    assert replay(either)["replayed"] == 3
    either.work()
    balance = either.read_balance()
    assert (balance["stored"], balance["duplicate"]) == (3, 3)
    ids = {message_id for (message_id,) in either.ask("SELECT message_id FROM events")}
    kinds = {message_id.partition("-")[0] for message_id in ids}
    assert (len(ids), kinds) == (3, {"own", "rejected", "cdp"})


def test_two_replays_at_once_do_the_work_of_one(stack: OutcomeStack) -> None:
    for number in range(20):
        stack.post("track", large(f"m{number}"))
    stack.work()
    allow(stack)
    client, counts = stack.client(), []
    threads = [
        threading.Thread(target=lambda: counts.append(client.post(REPLAY, json={}).json()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(one["replayed"] for one in counts) == 20
    assert sum(one["already_replayed"] for one in counts) == 40
    stack.work()
    assert stack.read_balance()["duplicate"] == 0
    assert stack.ask("SELECT count(*) FROM events") == [(20,)]


def test_a_replayed_event_keeps_its_route_its_batch_and_its_time_of_receipt(
    stack: OutcomeStack,
) -> None:
    event = json.loads(large("single"))
    del event["type"]
    stack.post("track", json.dumps(event).encode())
    batch = {"batch": [json.loads(large("shared"))], "context": {"campaign": {"name": "spring"}}}
    stack.post("batch", json.dumps(batch).encode())
    stack.work()
    stack.ask("UPDATE rejected SET received_at = received_at - interval '40 days' RETURNING 1")
    allow(stack)
    assert replay(stack)["replayed"] == 2
    stack.work()
    rows = stack.ask(
        "SELECT message_id, type, context -> 'campaign' ->> 'name',"
        " now() - received_at > interval '39 days', at = received_at FROM events ORDER BY 1"
    )
    assert rows == [
        ("shared", "track", "spring", True, True),
        ("single", "track", None, True, True),
    ]


def test_orders_are_replayed_as_orders_once(stack: OutcomeStack) -> None:
    order = {"order_id": "1001", "currency": "CNY", "total": "x" * 10, "lines": []}
    stack.post_records("orders", [json.dumps(order).encode()])
    stack.work()
    (row,) = stack.client().get("/v1/rejected").json()["data"]
    assert (row["kind"], row["messageId"], row["place"], row["status"]) == (
        "orders", "1001", 0, "open",
    )  # fmt: skip
    assert replay(stack)["reasons"] == [{"code": row["code"], "count": 1}]
    order["total"] = "12.50"
    with stack.database.transaction() as connection:
        # Stands for a fix of the rules.
        driver(connection).execute("UPDATE rejected SET raw = %s", (json.dumps(order).encode(),))
    with stack.database.engine.connect() as connection:
        stack.replayer.replay(driver(connection), RejectedFilter(), after=0, until=9, limit=1)
        connection.rollback()
    assert replay(stack, ids=[row["id"]])["replayed"] == 1
    stack.work()
    assert stack.ask("SELECT order_id, total FROM orders") == [("1001", 1250)]
    assert stack.read_balance()["duplicate"] == 1


def test_what_was_cut_is_not_replayed_and_says_so(stack: OutcomeStack) -> None:
    stack.post("batch", b'{"batch": [%s]}' % large("cut", properties={"text": "x" * 700_000}))
    stack.work()
    allow(stack, 4_000_000)
    (row,) = stack.client().get("/v1/rejected").json()["data"]
    assert row["truncated"] is True
    result = replay(stack, ids=[row["id"]])
    assert result["data"][0]["code"] == "truncated"
    assert result["still_rejected"] == 1


def test_a_large_selection_is_worked_through_in_pieces_that_never_meet_their_own_refusals(
    stack: OutcomeStack,
) -> None:
    def refuse_poison(_: Driver, work: Work) -> None:
        if work.fresh:
            raise ValueError("this cannot be stored")

    broken = (*STEPS[:2], refuse_poison, *STEPS[2:])
    for number in range(5):
        stack.post("track", b'{"userId": "ann", "event": "Viewed", "messageId": "m%d"}' % number)
    stack.work(broken)
    cursor, pieces = None, []
    while True:
        result = replay(stack, code="unprocessable", limit=2, cursor=cursor)
        pieces.append(result["replayed"])
        stack.work(broken)
        cursor = result["next"]
        if cursor is None:
            break
    assert pieces == [2, 2, 1]
    assert replay(stack, code="unprocessable")["replayed"] == 5
    stack.work()
    assert stack.ask("SELECT count(*) FROM events") == [(5,)]
    assert stack.read_balance()["in_flight"] == 0


def test_nothing_is_marked_when_the_log_does_not_take_it(
    stack: OutcomeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.post("track", large("a"))
    stack.work()
    allow(stack)

    def refuse(_: object) -> None:
        raise Unavailable("log_unavailable", "the log does not acknowledge", retry_after=5)

    monkeypatch.setattr(stack.door, "append", refuse)
    assert stack.client().post(REPLAY, json={}).status_code == 503
    monkeypatch.undo()
    assert replay(stack)["replayed"] == 1


def test_refused_events_are_counted_by_source_and_reason(stack: OutcomeStack) -> None:
    stack.post("track", large("a"))
    stack.post("batch", b'{"batch": [{"type": "track"}, {"type": "track"}, {"type": "dance"}]}')
    stack.work()
    counts = stack.client().get("/v1/rejected/counts").json()["data"]
    assert [(row["code"], row["count"], row["replayed"]) for row in counts] == [
        ("no_identifier", 2, 0),
        ("event_too_large", 1, 0),
        ("unknown_type", 1, 0),
    ]
    assert {row["source_id"] for row in counts} == {stack.source.source_id}
    only = stack.client().get("/v1/rejected/counts", params={"code": "unknown_type"})
    assert [row["count"] for row in only.json()["data"]] == [1]


def test_one_refused_event_is_found_by_its_id(stack: OutcomeStack) -> None:
    stack.post("batch", b'{"batch": [{"type": "track", "messageId": "m"}]}')
    stack.work()
    client = stack.client()
    (row,) = client.get("/v1/rejected").json()["data"]
    assert client.get(f"/v1/rejected/{row['id']}").json() == row
    assert row["request_id"].startswith("req_")
    for unknown in ("999", "abc", "-1", "9" * 30):
        assert client.get(f"/v1/rejected/{unknown}").status_code == 404


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"ids": []}, "/ids"),
        ({"ids": ["x"]}, "/ids/0"),
        ({"ids": ["1"], "code": "no_identifier"}, ""),
        ({"limit": 0}, "/limit"),
        ({"what": 1}, "/what"),
        ({"cursor": "!"}, "/cursor"),
    ],
)
def test_a_mistake_in_a_replay_is_named_by_its_place(
    stack: OutcomeStack, body: dict[str, Any], path: str
) -> None:
    answer = stack.client().post(REPLAY, json=body)
    assert answer.status_code == 422
    assert answer.json()["details"]["path"] == path


def test_replays_need_their_scope_and_are_audited(stack: OutcomeStack) -> None:
    assert stack.client("profiles:read").post(REPLAY, json={}).status_code == 403
    assert stack.client("profiles:read").get("/v1/dead-letters").status_code == 403
    stack.post("track", large("a"))
    stack.work()
    allow(stack)
    replay(stack, code="event_too_large")
    ((details,),) = stack.ask("SELECT details FROM audit WHERE action = 'rejected_replayed'")
    assert details == {"replayed": 1, "filter": {"code": "event_too_large"}}


def test_a_dead_letter_is_replayed_after_a_fix_or_discarded_and_the_sum_holds(
    stack: OutcomeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdp.log import format as log_format

    stack.post("track", b'{"userId": "ann", "event": "Viewed", "messageId": "m"}')
    monkeypatch.setattr(log_format, "FORMAT", "0")
    stack.work()
    monkeypatch.undo()
    stack.log.append([NewRecord(0, None, {"made-by": "somebody"}, b"?")]).result(30)
    stack.work()
    client = stack.client()
    foreign, letter = client.get("/v1/dead-letters").json()["data"]
    assert (letter["lines"], letter["status"], letter["source_id"]) == (
        1, "open", stack.source.source_id,
    )  # fmt: skip
    assert stack.read_balance()["rejected"] == 1
    path = f"/v1/dead-letters/{letter['id']}"
    assert client.post(f"{path}/replay").json()["status"] == "replayed"
    assert client.post(f"{path}/replay").status_code == 409
    assert client.post(f"/v1/dead-letters/{foreign['id']}/discard").status_code == 200
    assert client.post("/v1/dead-letters/99/discard").status_code == 404
    stack.work()
    assert stack.ask("SELECT message_id FROM events") == [("m",)]
    assert stack.read_balance() == {
        "received": 2, "stored": 1, "duplicate": 0, "rejected": 1, "in_flight": 0,
    }  # fmt: skip
    assert client.get("/v1/dead-letters", params={"open": True}).json()["data"] == []


def test_records_that_were_gone_before_they_were_read_raise_the_alarm(
    stack: OutcomeStack,
) -> None:
    for number in range(3):
        stack.post("track", b'{"userId": "ann", "event": "Viewed", "messageId": "m%d"}' % number)
    stack.ask("DELETE FROM log_records WHERE record_offset < 2 RETURNING 1")
    stack.work()
    assert stack.ask("SELECT message_id FROM events") == [("m2",)]
    client = stack.client()
    (letter,) = client.get("/v1/dead-letters").json()["data"]
    assert letter["reason"].startswith("gone: 2 records")
    path = f"/v1/dead-letters/{letter['id']}"
    assert client.post(f"{path}/replay").json()["code"] == "nothing_left"
    assert client.post(f"{path}/discard").status_code == 200
