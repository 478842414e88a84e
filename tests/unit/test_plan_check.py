"""What the plan says of one event in each mode, and what becomes of its bytes at the door."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, cast

import pytest

from cdp.ingest.door import Door
from cdp.ingest.parse import Judged, judge, open_batch
from cdp.log.port import Log
from cdp.model import Source
from cdp.plan.check import CheckedPlan, PlanMode, make_check, prepare_plan
from cdp.plan.plan import check_document
from cdp.settings import Settings

ORDER = {
    "type": "object",
    "required": ["order_id"],
    "properties": {
        "order_id": {"type": "string"},
        "total": {"type": "number"},
        "products": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["sku"],
                "additionalProperties": False,
                "properties": {"sku": {"type": "string"}, "price": {"type": "number"}},
            },
        },
    },
}
DOCUMENT = {
    "version": 3,
    "events": {
        "Order Completed": {"properties": ORDER},
        "Anything": {},
        "Old": {"enabled": False},
    },
    "traits": {"type": "object", "properties": {"age": {"type": "integer"}}},
}


def prepare(document: dict[str, Any] = DOCUMENT, source_id: str = "src_1") -> CheckedPlan:
    return prepare_plan(check_document(document), source_id)


def judge_one(event: dict[str, Any] | bytes, mode: PlanMode, plan: CheckedPlan) -> Judged:
    raw = event if isinstance(event, bytes) else json.dumps(event).encode()
    return judge(
        open_batch(b'{"batch":[' + raw + b"]}"),
        route_type=None,
        partitions=1,
        max_event_bytes=32 * 1024,
        check=make_check(plan, mode),
    )


def take(event: dict[str, Any] | bytes, mode: PlanMode, document: Any = DOCUMENT) -> dict[str, Any]:
    judged = judge_one(event, mode, prepare(document))
    assert judged.rejected == []
    taken: dict[str, Any] = json.loads(judged.lines[0][0])
    return taken


def track(name: str, properties: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": name, "userId": "u", "properties": properties or {}, **more}


BAD = {
    "order_id": "1",
    "total": "12",
    "coupon": "X",
    "products": [{"sku": "a"}, {"price": 1}, {"sku": "b", "price": 2, "note": "n"}, {"sku": 7}],
}


def test_an_event_that_follows_the_plan_keeps_its_bytes() -> None:
    raw = b'{ "type":"track","event":"Order Completed", "userId":"u","properties":{"order_id":"1"}}'
    for mode in ("flag", "omit", "block"):
        judged = judge_one(raw, mode, prepare())  # type: ignore[arg-type]
        assert judged.lines == {0: [raw]}


@pytest.mark.parametrize("mode", ["flag", "omit"])
@pytest.mark.parametrize("name", ["Unheard of", "Old"])
def test_an_unplanned_event_is_marked_and_kept(mode: PlanMode, name: str) -> None:
    taken = take(track(name, {"a": 1}), mode)
    assert taken["properties"] == {"a": 1}
    assert taken["context"] == {"cdp": {"flags": ["unplanned_event"], "plan": {"version": 3}}}


@pytest.mark.parametrize("name", ["Unheard of", "Old"])
def test_an_unplanned_event_is_blocked_with_its_bytes(name: str) -> None:
    (refused,) = judge_one(track(name, messageId="m"), "block", prepare()).rejected
    assert (refused.code, refused.message_id) == ("unplanned_event", "m")
    assert name in refused.message
    assert json.loads(refused.raw) == track(name, messageId="m")


def test_a_violation_is_marked_with_its_places_and_nothing_is_lost() -> None:
    taken = take(track("Order Completed", BAD, context={"ip": "1.1.1.1"}), "flag")
    assert taken["properties"] == BAD
    assert taken["context"]["ip"] == "1.1.1.1"
    mark = taken["context"]["cdp"]
    assert mark["flags"] == ["plan_violation", "unplanned_property"]
    assert mark["plan"]["unplanned"] == ["/properties/coupon"]
    assert {(one["path"], one["rule"]) for one in mark["plan"]["violations"]} == {
        ("/properties/total", "type"),
        ("/properties/products/1", "required"),
        ("/properties/products/2/note", "additionalProperties"),
        ("/properties/products/3/sku", "type"),
    }


def test_omit_takes_out_the_smallest_part_that_is_wrong() -> None:
    taken = take(track("Order Completed", BAD), "omit")
    assert taken["properties"] == {
        "order_id": "1",
        "products": [{"sku": "a"}, {"sku": "b", "price": 2}],
    }
    assert set(taken["context"]["cdp"]["plan"]["removed"]) == {
        "/properties/coupon",
        "/properties/total",
        "/properties/products/1",
        "/properties/products/2/note",
        "/properties/products/3",
    }


def test_what_is_missing_cannot_be_omitted_and_stays_marked() -> None:
    taken = take(track("Order Completed", {"total": 1}), "omit")
    assert taken["properties"] == {"total": 1}
    assert taken["context"]["cdp"]["flags"] == ["plan_violation"]


def test_a_violation_is_blocked_without_repeating_the_value() -> None:
    bad = track("Order Completed", {"order_id": "1", "total": "ann@example.com"})
    (refused,) = judge_one(bad, "block", prepare()).rejected
    assert refused.code == "plan_violation"
    assert "/properties/total" in refused.message
    assert "ann@example.com" not in refused.message


def test_block_lets_an_unplanned_property_pass_marked() -> None:
    taken = take(track("Order Completed", {"order_id": "1", "coupon": "X"}), "block")
    assert taken["properties"]["coupon"] == "X"
    assert taken["context"]["cdp"]["flags"] == ["unplanned_property"]


def test_an_event_without_a_schema_takes_any_properties() -> None:
    assert "context" not in take(track("Anything", {"a": [1]}), "block")


def test_traits_are_checked_where_either_family_of_sdks_puts_them() -> None:
    for event in (
        {"type": "identify", "userId": "u", "traits": {"age": "x", "age2": 1}},
        {"type": "identify", "userId": "u", "context": {"traits": {"age": "x", "age2": 1}}},
    ):
        taken = take(event, "omit")
        assert taken.get("traits", {}) == {}
        assert taken["context"].get("traits", {}) == {}
        flags = taken["context"]["cdp"]["flags"]
        assert flags == ["plan_violation", "unplanned_property"]


def test_numbers_that_stay_keep_every_digit() -> None:
    raw = (
        b'{"type":"track","event":"Order Completed","userId":"u","properties":'
        b'{"order_id":"1","total":0.1234567890123456789,"products":[{"sku":"a","price":1.10,"x":1}]}}'
    )
    (line,) = judge_one(raw, "omit", prepare()).lines[0]
    properties = json.loads(line, parse_float=Decimal)["properties"]
    assert properties["total"] == Decimal("0.1234567890123456789")
    assert properties["products"] == [{"sku": "a", "price": Decimal("1.10")}]
    assert b"1.10" in line


@pytest.mark.parametrize("value", [b"NaN", b"1e400", rb'"\ud800"', b'"\xff"', b"1" * 40])
def test_what_strict_readers_refuse_is_checked_as_it_will_be_kept(value: bytes) -> None:
    raw = (
        b'{"type":"track","event":"Order Completed","userId":"u","properties":'
        b'{"order_id":"1","total":' + value + b"}}"
    )
    taken = take(raw, "flag")
    assert "plan_violation" in taken["context"]["cdp"]["flags"]
    assert len(taken["context"]["cdp"]["flags"]) == 2


def test_nothing_is_checked_before_there_is_a_plan_or_in_observe_mode() -> None:
    assert make_check(prepare({"version": 0, "events": {}}), "block") is None
    assert make_check(prepare(), "observe") is None


def test_a_source_has_its_own_part_of_the_plan() -> None:
    document = {
        "version": 1,
        "events": {"A": {}, "B": {}},
        "traits": {"type": "object", "required": ["age"]},
        "sources": {"src_1": {"events": {"A": None, "C": {}}, "traits": None}},
    }
    for name, is_planned in (("A", False), ("B", True), ("C", True)):
        judged = judge_one(track(name), "block", prepare(document))
        assert bool(judged.accepted) == is_planned
        judged = judge_one(track(name), "block", prepare(document, "src_2"))
        assert bool(judged.accepted) == (name != "C")
    assert judge_one({"type": "identify", "userId": "u"}, "block", prepare(document)).accepted
    others = prepare(document, "src_2")
    assert not judge_one({"type": "identify", "userId": "u"}, "block", others).accepted


def test_what_comes_by_import_hook_or_replay_meets_the_same_plan() -> None:
    class NoLog:
        partitions = 1

    check = make_check(prepare(), "block")
    door = Door(cast(Log, NoLog()), Settings(), (), lambda _: check)
    lines = [json.dumps(track(name)).encode() for name in ("Unheard of", "Anything")]
    judged = door.judge(Source("src_1", 1, "crm", "crm"), "events", lines)
    assert (judged.accepted, judged.rejected[0].code) == (1, "unplanned_event")


def test_what_the_batch_says_for_all_is_part_of_a_blocked_event() -> None:
    body = {"context": {"ip": "1.1.1.1"}, "batch": [track("Unheard of")]}
    judged = judge(
        open_batch(json.dumps(body).encode()),
        route_type=None,
        partitions=1,
        max_event_bytes=32 * 1024,
        check=make_check(prepare(), "block"),
    )
    assert json.loads(judged.rejected[0].raw)["context"] == {"ip": "1.1.1.1"}
