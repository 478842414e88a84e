"""Posted records at the door: opened from JSON or lines, each judged by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdp.errors import BadRequest, Forbidden, Unprocessable
from cdp.ingest.parse import Judged
from cdp.ingest.records import MOST_BYTES, judge_records, open_records, require_private_key
from cdp.model import Source, SourceType
from cdp.record_kinds import list_record_kinds

ORDERS, ACCOUNTS = list_record_kinds("CNY")


def judge(body: bytes, content_type: str = "application/json") -> Judged:
    return judge_records(open_records(body, ORDERS, content_type), ORDERS, 1)[0]


def taken(judged: Judged) -> list[dict[str, Any]]:
    return [json.loads(line) for lines in judged.lines.values() for line in lines]


def codes(judged: Judged) -> dict[int, str]:
    return {one.index: one.code for one in judged.rejected}


def test_each_order_is_judged_by_itself() -> None:
    judged = judge(b'{"orders": [{"order_id": "1"}, 7, {"order_id": "2", "total": "x"}, {}]}')
    assert taken(judged) == [{"order_id": "1"}]
    assert codes(judged) == {1: "invalid_order", 2: "invalid_money", 3: "missing_order_id"}
    assert [one.message_id for one in judged.rejected] == [None, "2", None]
    assert judged.accepted == 1


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", ""])
def test_one_order_a_line_is_taken_too(content_type: str) -> None:
    judged = judge(b'{"order_id": "1"}\r\n\n{"order_id": "2"\n{"order_id": "3"}', content_type)
    assert [order["order_id"] for order in taken(judged)] == ["1", "3"]
    assert codes(judged) == {1: "invalid_json"}


def test_one_order_that_is_no_json_does_not_sink_the_others() -> None:
    judged = judge(b'{"orders": [{"order_id": "1", "total": NaN}, {"order_id": "2"}]}')
    assert [order["order_id"] for order in taken(judged)] == ["2"]
    assert codes(judged) == {0: "invalid_number"}


@pytest.mark.parametrize(
    "amount",
    [
        b'"total": Infinity',
        b'"lines": [{"price": NaN}]',
        b'"lines": [{"quantity": 1e400}]',
        b'"refunds": [{"refund_id": "r", "amount": NaN}]',
    ],
)
def test_an_amount_that_is_no_number_is_not_taken_for_one_that_was_not_said(amount: bytes) -> None:
    assert codes(judge(b'{"orders": [{"order_id": "1", %s}]}' % amount)) == {0: "invalid_number"}


def test_nan_in_a_table_means_that_a_cell_was_empty() -> None:
    judged = judge(b'{"orders": [{"order_id": "1", "total": 5, "discount": NaN, "store": NaN}]}')
    (order,) = taken(judged)
    assert (order["total"], order["discount"], order["store"]) == (5, None, None)
    assert order["context"]["cdp"]["flags"] == ["non_finite_number"]


def test_an_account_is_kept_without_what_is_no_number() -> None:
    traits = b'{"seats": NaN, "big": 99999999999999999999}'
    body = b'{"accounts": [{"account_id": "a", "traits": %s}]}' % traits
    judged = judge_records(open_records(body, ACCOUNTS, "application/json"), ACCOUNTS, 1)[0]
    (account,) = taken(judged)
    assert account["traits"] == {"seats": None, "big": "99999999999999999999"}
    assert account["context"]["cdp"]["flags"] == ["big_integer", "non_finite_number"]


def test_text_that_postgres_refuses_is_replaced() -> None:
    judged = judge(b'{"orders": [{"order_id": "1", "store": "a\\u0000b", "channel": "\\ud800"}]}')
    (order,) = taken(judged)
    assert (order["store"], order["channel"]) == ("a\ufffdb", None)
    assert order["context"]["cdp"]["flags"] == ["lone_surrogate", "nul_character"]


def test_an_order_written_over_several_lines_becomes_one_line() -> None:
    body = json.dumps({"orders": [{"order_id": "1", "lines": [{"sku": "a"}]}]}, indent=2).encode()
    judged = judge(body)
    assert taken(judged) == [{"order_id": "1", "lines": [{"sku": "a"}]}]
    assert all(b"\n" not in line for lines in judged.lines.values() for line in lines)


def test_a_huge_order_is_refused_and_its_neighbour_taken() -> None:
    huge = b'{"order_id": "1", "note": "%s"}' % (b"x" * MOST_BYTES)
    judged = judge(b'{"orders": [%s, {"order_id": "2"}]}' % huge)
    assert codes(judged) == {0: "record_too_large"}
    assert judged.accepted == 1


def test_a_nest_without_end_is_refused_and_its_neighbour_taken() -> None:
    deep = b'{"order_id": "1", "x": %s%s}' % (b"[" * 10_000, b"]" * 10_000)
    judged = judge(b'{"orders": [%s, {"order_id": "2"}]}' % deep)
    assert judged.accepted == 1
    assert len(judged.rejected) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "no_orders"),
        (b"null", "no_orders"),
        (b"[]", "no_orders"),
        (b'{"batch": []}', "no_orders"),
        (b'{"orders": {}}', "no_orders"),
        (b'{"orders": []}', "empty_orders"),
        (b"\xff\xfe", "no_orders"),
    ],
)
def test_a_body_without_orders_is_said_to_be_one(body: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        open_records(body, ORDERS, "application/json")
    assert refused.value.code == code


def test_a_thousand_orders_are_taken_and_not_one_more() -> None:
    orders = [{"order_id": str(number)} for number in range(1_000)]
    assert judge(json.dumps({"orders": orders}).encode()).accepted == 1_000
    with pytest.raises(Unprocessable) as refused:
        judge(json.dumps({"orders": [*orders, {"order_id": "x"}]}).encode())
    assert refused.value.details == {"path": "/orders"}


def test_the_write_key_may_be_in_the_body() -> None:
    opened = open_records(b'{"writeKey": "wk_1", "orders": [{"order_id": "1"}]}', ORDERS, "")
    assert opened.write_key == "wk_1"
    odd = b'{"writeKey": "wk_1", "orders": [{"order_id": "1", "total": NaN}]}'
    assert open_records(odd, ORDERS, "").write_key == "wk_1"


@pytest.mark.parametrize("kind", ["web", "app"])
def test_a_key_that_lies_in_the_open_posts_no_records(kind: SourceType) -> None:
    with pytest.raises(Forbidden):
        require_private_key(Source("src_1", 1, "shop", kind))


def test_people_share_a_partition_with_their_events() -> None:
    orders = [
        {"order_id": "1", "identifiers": [{"type": "email", "value": "a@b.co"}]},
        {"order_id": "2", "identifiers": [{"type": "email", "value": "x@y.co"}]},
    ]
    for order in orders:
        order["identifiers"].append({"type": "user_id", "value": "ann"})  # type: ignore[attr-defined]
    opened = open_records(json.dumps({"orders": orders}).encode(), ORDERS, "")
    judged, _ = judge_records(opened, ORDERS, 1_000)
    assert [len(lines) for lines in judged.lines.values()] == [2]
