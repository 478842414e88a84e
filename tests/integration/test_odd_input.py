"""Whatever arrives has a defined answer, and neither fails the server nor costs its neighbours."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import httpx
import pytest

from cdp.storage.database import driver
from tests.support.ingest_server import wait_until
from tests.support.odd_input import CASES, RECEIPT, Case
from tests.support.small_stack import Sender, SmallStack


class Sent(NamedTuple):
    """A case that was sent: by whom, and how the door answered."""

    case: Case
    sender: Sender
    answer: httpx.Response


@pytest.fixture(scope="module")
def sent(stack: SmallStack) -> dict[str, Sent]:
    """Every case, sent by a source of its own between two neighbours."""
    sent: dict[str, Sent] = {}
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        for number, case in enumerate(CASES):
            sender = stack.add_source(case.source_type)
            line = case.line.replace(b"@", b"case-%03d" % number)
            neighbour = b'{"type":"page","anonymousId":"n","messageId":"%s"}'
            body = b'{"batch":[%s,%s,%s]}' % (neighbour % b"before", line, neighbour % b"behind")
            sent[case.name] = Sent(case, sender, _post(client, sender, body))
    return sent


def _post(
    client: httpx.Client, sender: Sender, body: bytes, path: str = "/v1/batch", **more: Any
) -> httpx.Response:
    return client.post(path, content=body, auth=(sender.key, ""), **more)


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_odd_input_has_a_defined_answer_and_costs_itself_alone(
    stack: SmallStack, sent: dict[str, Sent], name: str
) -> None:
    case, sender, answer = sent[name]
    assert answer.status_code == 200, answer.text
    codes = [one["code"] for one in answer.json()["rejected"]]
    assert codes == ([case.code] if case.code else [])
    account = stack.wait_for(sender, 3)
    assert (account.stored, account.rejected, account.balanced) == (
        3 - len(codes),
        len(codes),
        True,
    )
    rows = stack.read_events(sender)
    assert {"before", "behind"} <= {row["message_id"] for row in rows}
    found = [row for row in rows if row["message_id"] not in ("before", "behind")]
    if case.code:
        assert found == []
        assert _read_refused(stack, sender) == [(case.code, _as_sent(case))]
    else:
        (row,) = found
        _compare(stack, case, row)


def _compare(stack: SmallStack, case: Case, row: dict[str, Any]) -> None:
    expected = dict(case.properties)
    assert {
        k: ... if expected.get(k) is ... else v for k, v in row["properties"].items()
    } == expected
    mark = row["context"].get("cdp", {})
    assert tuple(mark.get("flags", ())) == case.flags
    assert mark.get("odd", {}) == case.odd
    assert mark.get("fields", {}) == case.fields
    assert _read_node(stack, row["node_id"]) == case.node
    assert row["original_at"] == case.original_at
    if case.at == RECEIPT:
        assert row["at"] == row["received_at"]
    elif case.at is not None:
        assert row["at"] == case.at
    for column, value in case.columns.items():
        assert row[column] == value


def _read_node(stack: SmallStack, node_id: int | None) -> tuple[str, str] | None:
    with stack.database.transaction() as connection:
        tx = driver(connection)
        return tx.execute("SELECT type, value FROM nodes WHERE node_id = %s", (node_id,)).fetchone()


def _read_refused(stack: SmallStack, sender: Sender) -> list[tuple[str, bytes]]:
    with stack.database.transaction() as connection:
        tx = driver(connection)
        return tx.execute(
            "SELECT code, raw FROM rejected WHERE source_id = %s", (sender.source_id,)
        ).fetchall()


def _as_sent(case: Case) -> bytes:
    return case.line.replace(b"@", b"case-%03d" % CASES.index(case))


# ── Whole bodies ────────────────────────────────────────────────────────────────────────────────

GOOD = b'{"batch":[{"type":"track","event":"A","userId":"u","messageId":"good"}]}'
ZIPPED = {"Content-Encoding": "gzip"}
BOMB = gzip.compress(b'{"batch":[' + b" " * 50_000_000 + b"]}")


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (BOMB, ZIPPED, 413, "body_too_large"),
        (gzip.compress(BOMB), ZIPPED, 400, "invalid_json"),
        (gzip.compress(GOOD)[:-9], ZIPPED, 400, "corrupt_gzip"),
        (gzip.compress(GOOD) + b"rest", ZIPPED, 400, "corrupt_gzip"),
        (GOOD, ZIPPED, 400, "corrupt_gzip"),
        (GOOD, {"Content-Encoding": "br"}, 400, "unsupported_encoding"),
        (b'{"batch":[]}', {}, 400, "empty_batch"),
        (b"", {}, 400, "invalid_json"),
        (b'{"batch":[{"type":"track","userId":"u"}', {}, 400, "invalid_json"),
        (b"[" * 10_000 + b"]" * 10_000, {}, 400, "no_batch"),
        (b'{"batch":7}', {}, 400, "no_batch"),
        (b" " * (5 * 1024 * 1024) + GOOD, {}, 413, "body_too_large"),
        # 150,000 small events, each to get the batch's context of 30 KB.
        (
            b'{"context":{"x":"%s"},"batch":[%s]}'
            % (b"x" * 30_000, b",".join([b'{"type":"page","userId":"u"}'] * 150_000)),
            {},
            413,
            "body_too_large",
        ),
    ],
    ids=[
        "bomb", "bomb in a bomb", "truncated gzip", "more behind gzip", "no gzip at all",
        "another encoding", "batch of 0", "empty", "truncated", "10,000 levels", "no list",
        "too large", "context times events",
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_taken_is_the_callers_mistake(
    stack: SmallStack, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    sender = stack.add_source()
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        answer = _post(client, sender, body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json().keys() == {"code", "message", "details"}
        assert _post(client, sender, GOOD).json()["accepted"] == 1
    assert stack.wait_for(sender, 1).stored == 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (iter([GOOD[:30], GOOD[30:]]), {}),
        (iter([gzip.compress(GOOD)[:20], gzip.compress(GOOD)[20:]]), ZIPPED),
        (gzip.compress(GOOD[:30]) + gzip.compress(GOOD[30:]), ZIPPED),
        (gzip.compress(GOOD), {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"\xef\xbb\xbf" + GOOD, {"Content-Type": "text/plain"}),
        (b'{"batch":[],"batch":' + GOOD[9:], {}),
        (b'{"batch":[{"type":"x","n":NaN}],"batch":' + GOOD[9:], {}),
        (b'{"b\\u0061tch":' + GOOD[9:-1] + b',"context":null}', {}),
        (GOOD[:-1] + b',"sentAt":NaN,"context":[1],"integrations":7}', {}),
    ],
    ids=[
        "chunked", "chunked gzip", "two members of gzip", "gzip called a form", "byte order mark",
        "batch twice", "batch twice, NaN", "escapes in a name", "odd things beside the batch",
    ],
)  # fmt: skip
def test_an_unusual_body_is_taken(stack: SmallStack, body: Any, headers: dict[str, str]) -> None:
    sender = stack.add_source()
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        answer = _post(client, sender, body, headers=headers)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1), answer.text
    assert stack.wait_for(sender, 1).stored == 1


def test_a_batch_of_ten_thousand_is_taken_whole(stack: SmallStack) -> None:
    sender = stack.add_source()
    lines = (
        b'{"type":"page","userId":"u%d","messageId":"m%d"}' % (n % 50, n) for n in range(10_000)
    )
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        answer = _post(client, sender, b'{"batch":[%s]}' % b",".join(lines))
    assert (answer.status_code, answer.json()["accepted"]) == (200, 10_000)
    assert stack.wait_for(sender, 10_000).stored == 10_000


def test_what_the_batch_says_for_all_is_with_every_event(stack: SmallStack) -> None:
    sender = stack.add_source()
    body = json.dumps(
        {
            "context": {"locale": "zh-CN", "odd": float("nan"), "traits": {"email": "a@b.example"}},
            "integrations": {"All": False},
            "batch": [
                {"type": "page", "messageId": "1", "context": {"locale": "de"}, "userId": "u"},
                {"type": "page", "messageId": "2", "context": "x", "userId": "u"},
                {"type": "page", "messageId": "3", "userId": "u", "integrations": {"All": True}},
            ],
        }
    )
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        assert _post(client, sender, body.encode()).json()["accepted"] == 3
    assert stack.wait_for(sender, 3).stored == 3
    found = {row["message_id"]: row["context"] for row in stack.read_events(sender)}
    assert [found[n]["locale"] for n in ("1", "2", "3")] == ["de", "zh-CN", "zh-CN"]
    assert all(context["traits"] == {"email": "a@b.example"} for context in found.values())
    assert all(context["odd"] is None for context in found.values())
    assert found["1"]["cdp"] == {
        "flags": ["non_finite_number"],
        "fields": {"integrations": {"All": False}},
    }
    assert found["2"]["cdp"]["odd"] == {"context": "x"}
    assert found["3"]["cdp"] == {"flags": ["non_finite_number"]}


def test_a_visitors_waiting_time_is_taken_off_from_numbers_too(stack: SmallStack) -> None:
    sender = stack.add_source("web")
    body = b'{"type":"track","userId":"u","event":"A","timestamp":1000,"sentAt":"1060000000000"}'
    late = b'{"type":"track","userId":"u","event":"A","timestamp":1000000000,"sentAt":1000000060}'
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        for one in (body, late):
            assert _post(client, sender, one, "/v1/track").json()["accepted"] == 1
    assert stack.wait_for(sender, 2).stored == 2
    waited = [row["received_at"] - row["at"] for row in stack.read_events(sender)]
    assert waited[-1] == timedelta(seconds=60)


@pytest.mark.parametrize("has_time", [True, False])
def test_what_the_log_holds_twice_is_one_event_also_without_a_message_id(
    stack: SmallStack, has_time: bool
) -> None:
    """A log whose answer was lost is written again: the same record, at another offset."""
    sender = stack.add_source()
    time = b',"timestamp":"2026-03-01T08:00:00Z"' if has_time else b""
    line = b'{"type":"track","userId":"u","event":"A"%s}' % time
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        assert _post(client, sender, b'{"batch":[%s,%s]}' % (line, line)).json()["accepted"] == 2
    stored = 1 if has_time else 2
    assert stack.wait_for(sender, 2).stored == stored
    _append_again(stack, sender)
    assert stack.wait_for(sender, 4).duplicate == 4 - stored
    assert len(stack.read_events(sender)) == stored


def _append_again(stack: SmallStack, sender: Sender) -> None:
    with stack.database.transaction() as connection:
        tx = driver(connection)
        tx.execute(
            """INSERT INTO log_records (partition, record_offset, written_at, headers, value)
               SELECT partition, h.next_offset, now(), headers, value
                 FROM log_records JOIN log_heads h USING (partition)
                WHERE headers ->> 'cdp-source' = %s""",
            (sender.source_id,),
        )
        tx.execute(
            """UPDATE log_heads h SET next_offset = next_offset + 1
                 FROM (SELECT DISTINCT partition FROM log_records
                        WHERE headers ->> 'cdp-source' = %s) AS r
                WHERE h.partition = r.partition""",
            (sender.source_id,),
        )


# ── A full disk ─────────────────────────────────────────────────────────────────────────────────


@contextmanager
def full_disk(stack: SmallStack, table: str) -> Iterator[None]:
    """Let Postgres answer writes to ``table`` as it does when it cannot extend a file."""
    with stack.database.transaction() as connection:
        connection.exec_driver_sql(
            f"""CREATE FUNCTION refuse_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
                CREATE TRIGGER refuse BEFORE INSERT ON {table}
                   FOR EACH ROW EXECUTE FUNCTION refuse_{table}()"""
        )
    try:
        yield
    finally:
        with stack.database.transaction() as connection:
            connection.exec_driver_sql(f"DROP FUNCTION refuse_{table} CASCADE")


def test_a_log_without_room_takes_nothing_and_says_when_to_come_back(stack: SmallStack) -> None:
    sender = stack.add_source()
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        with full_disk(stack, "log_records"):
            for _ in range(2):
                answer = _post(client, sender, GOOD)
                assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")
                assert int(answer.headers["retry-after"]) >= 5
        assert _post(client, sender, GOOD).json()["accepted"] == 1
    account = stack.wait_for(sender, 1)
    assert (account.received, account.stored) == (1, 1)


def test_a_worker_without_room_waits_and_then_goes_on_with_every_event(stack: SmallStack) -> None:
    sender = stack.add_source()
    with httpx.Client(base_url=stack.url, timeout=20) as client:
        with full_disk(stack, "events"):
            assert _post(client, sender, GOOD).json()["accepted"] == 1
            wait_until(lambda: stack.read_account(sender).in_flight == 1)
            threading.Event().wait(0.6)
            assert stack.read_account(sender).in_flight == 1
        assert stack.wait_for(sender, 1).stored == 1
    with stack.database.transaction() as connection:
        assert driver(connection).execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)
