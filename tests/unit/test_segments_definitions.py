"""What definitions refer to, in which order they are evaluated, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.segments.definitions import (
    Definition,
    UnitName,
    clean_document,
    depends_on_time,
    find_cycle,
    find_dependencies,
    find_users,
    is_key,
    order_units,
    resolve_tag,
)
from cdp.segments.refresh_plan import find_due_for_time, plan_refresh, share_crossings

BOUGHT = {"event": "Order Completed"}


def segment(key: str, rule: Any = BOUGHT, version: int = 1, evaluated: int = 1) -> Definition:
    return Definition("segment", key, rule, version, evaluated)


def tag(key: str, when: Any = BOUGHT) -> Definition:
    return Definition("tag", key, {"cases": [{"when": when, "then": 1}]}, 1, 1)


@pytest.mark.parametrize("key", ["a", "vip_2", "rfm.group", "a" * 100])
def test_a_key_may_be(key: str) -> None:
    assert is_key(key)


@pytest.mark.parametrize("key", ["", "A", "2a", "_a", "a-b", "a b", "é", "a\n", "a" * 101])
def test_a_key_may_not_be(key: str) -> None:
    assert not is_key(key)


def test_text_that_cannot_be_stored_is_replaced_wherever_it_stands() -> None:
    document = {"a\0": ["x\0y", {"b": "\ud800z"}, 1, None]}

    assert clean_document(document) == {"a\ufffd": ["x\ufffdy", {"b": "\ufffdz"}, 1, None]}


def test_references_are_found_at_any_depth() -> None:
    rule = {"all": [{"not": {"segment": "a"}}, {"any": [{"tag": "rfm.group", "op": "exists"}]}]}

    found = find_dependencies(segment("s", rule), {"rfm"})

    assert found == {UnitName("segment", "a"), UnitName("tag", "rfm")}


def test_a_word_that_looks_like_a_reference_inside_a_value_is_none() -> None:
    rule = {"trait": "x", "op": "eq", "value": {"segment": "a"}}

    assert find_dependencies(segment("s", rule), set()) == set()


def test_the_longest_tag_wins() -> None:
    assert resolve_tag("a.b.c", {"a", "a.b"}) == "a.b"
    assert resolve_tag("x.y", {"a"}) is None


def test_units_come_after_what_they_refer_to() -> None:
    units = [
        segment("a", {"tag": "z.field", "op": "exists"}),
        tag("z", {"segment": "m"}),
        segment("m"),
    ]

    assert [unit.key for unit in order_units(units)] == ["m", "z", "a"]


def test_a_circle_is_found_whole() -> None:
    units = [segment("a", {"segment": "b"}), segment("b", {"not": {"segment": "a"}}), segment("c")]

    cycle = find_cycle(units)

    assert cycle[0] == cycle[-1]
    assert {name.key for name in cycle} == {"a", "b"}
    assert find_cycle([segment("c")]) == []


def test_users_are_those_that_refer_directly() -> None:
    units = [segment("a"), segment("b", {"segment": "a"}), segment("c", {"segment": "b"})]

    assert find_users(UnitName("segment", "a"), units) == [UnitName("segment", "b")]


@pytest.mark.parametrize(
    "rule",
    [
        {"event": "A", "within": {"last": "30d"}},
        {"not": {"event": "A", "within": {"calendar": "month"}}},
        {"all": [{"trait": "t", "op": "not_within_last", "value": "3d"}]},
        {"event": "A", "where": [{"property": "p", "op": "within_last", "value": "1d"}]},
        {"event": "A", "aggregate": {"fn": "days_since_last"}, "op": "gte", "value": 3},
        {"cases": [{"when": {"event": "A", "within": {"last": "1h"}}, "then": 1}]},
        {"aggregate": {"event": "A", "aggregate": {"fn": "days_since_first"}}},
    ],
)
def test_these_move_with_time(rule: Any) -> None:
    assert depends_on_time(rule)


@pytest.mark.parametrize(
    "rule",
    [
        BOUGHT,
        {"event": "A", "within": {"since": "2026-01-01"}},
        {"event": "A", "within": {"between": ["2026-01-01", "2026-02-01"]}},
        {"trait": "t", "op": "before", "value": "2026-01-01"},
        {"trait": "t", "op": "in", "value": ["within_last"]},
        {"segment": "moves"},
        {"manual": True},
    ],
)
def test_these_wait_for_something_to_happen(rule: Any) -> None:
    assert not depends_on_time(rule)


SILENT = {"not": {**BOUGHT, "within": {"last": "30d"}}}


def plan(*units: Definition, **options: Any) -> list[tuple[str, bool, str]]:
    chosen = {"any_touched": False, **options}
    return [(each.definition.key, each.whole, each.cause) for each in plan_refresh(units, **chosen)]


def test_without_any_reason_nothing_is_evaluated() -> None:
    assert plan(segment("a"), segment("silent", SILENT)) == []


def test_touched_profiles_are_evaluated_everywhere_but_alone() -> None:
    assert plan(segment("a"), segment("b"), any_touched=True) == [
        ("a", False, "event"),
        ("b", False, "event"),
    ]


def test_time_evaluates_those_that_move_with_it_and_what_rests_on_them() -> None:
    units = (segment("a"), segment("silent", SILENT), segment("b", {"segment": "silent"}))

    assert plan(*units, due_for_time={UnitName("segment", "silent")}) == [
        ("silent", True, "time"),
        ("b", False, "event"),
    ]


def test_a_new_definition_is_evaluated_for_everybody() -> None:
    changed = segment("a", version=2, evaluated=1)

    assert plan(changed, segment("b")) == [("a", True, "definition")]


def test_when_nobody_knows_who_was_touched_everybody_is() -> None:
    assert plan(segment("a"), all_touched=True) == [("a", True, "event")]


def test_a_skipped_unit_is_left_out() -> None:
    skipped = {UnitName("segment", "a")}

    assert plan(segment("a"), segment("b"), any_touched=True, skipped=skipped) == [
        ("b", False, "event")
    ]


def test_due_for_time_is_what_was_not_looked_at_lately_the_longest_ago_first() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    names = [UnitName("segment", key) for key in ("a", "b", "c", "d")]
    looked_at = {
        name: noon - timedelta(seconds=age) for name, age in zip(names, (20, 14, 15), strict=False)
    }

    due = find_due_for_time(names, looked_at, noon, lambda _: timedelta(seconds=15))

    assert [name.key for name in due] == ["d", "a", "c"]


def test_only_a_unit_in_whose_crossings_somebody_is_is_evaluated_for_time() -> None:
    crossed = {UnitName("segment", "a"): frozenset({"e:30d:A"})}
    found = plan_refresh([segment("a"), segment("b")], any_touched=False, crossed=crossed)

    assert [(each.definition.key, each.whole, each.crossings) for each in found] == [
        ("a", False, frozenset({"e:30d:A"}))
    ]


def test_segments_that_refer_to_none_are_asked_of_all_whom_time_may_have_moved_in_any() -> None:
    crossed = {
        UnitName("segment", "a"): frozenset({"e:1d:a"}),
        UnitName("segment", "b"): frozenset({"e:2d:b"}),
        UnitName("segment", "c"): frozenset({"e:3d:c"}),
        UnitName("tag", "t"): frozenset({"e:4d:t"}),
    }
    units = [segment("a"), segment("b"), segment("c", {"segment": "a"}), tag("t")]

    plan = share_crossings(plan_refresh(units, any_touched=True, crossed=crossed))

    assert {each.definition.key: each.crossings for each in plan} == {
        "a": frozenset({"e:1d:a", "e:2d:b"}),
        "b": frozenset({"e:1d:a", "e:2d:b"}),
        "c": frozenset({"e:3d:c"}),
        "t": frozenset({"e:4d:t"}),
    }


def test_a_segment_for_everybody_shares_no_crossings() -> None:
    crossed = {UnitName("segment", "b"): frozenset({"e:2d:b"})}
    units = [segment("a", version=2), segment("b")]

    plan = share_crossings(plan_refresh(units, any_touched=True, crossed=crossed))

    assert [each.crossings for each in plan if each.whole] == [frozenset()]
