"""The rule language point by point, in the reference meaning. Numbers are those of the design."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.model import DEFAULT_CONSENT_AT
from cdp.segments.evaluate import (
    ConsentFact,
    EventFact,
    PersonFacts,
    TraitFact,
    aggregate_value,
    evaluate,
    explain,
)
from cdp.segments.parse import parse_aggregate, parse_rule

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)


def holds(
    document: dict[str, Any], person: PersonFacts, now: datetime = NOW, zone: str = "UTC"
) -> bool:
    return evaluate(parse_rule(document), person, now, timezone=zone)


def with_trait(value: Any, name: str = "p") -> PersonFacts:
    return PersonFacts(traits=[TraitFact(name, value, NOW - timedelta(days=1))])


def trait_holds(value: Any, op: str, *operand: Any, path: str = "p") -> bool:
    given = {"value": operand[0]} if operand else {}
    return holds({"trait": path, "op": op, **given}, with_trait(value))


def event(at: datetime, message_id: str = "m", name: str = "E", **properties: Any) -> EventFact:
    return EventFact(name, at, message_id, "s", properties)


def happened(*times: datetime) -> PersonFacts:
    return PersonFacts(events=[event(at, f"m{n}") for n, at in enumerate(times)])


def figure(function: str, *facts: EventFact) -> object:
    body: dict[str, Any] = {"fn": function}
    if not function.startswith("days"):
        body["property"] = "p"
    rule = parse_aggregate({"event": "E", "aggregate": body})
    return aggregate_value(rule, PersonFacts(events=facts), NOW)


def values(*found: Any) -> list[EventFact]:
    """Return one event per value, an hour apart, the last one an hour ago."""
    first = NOW - timedelta(hours=len(found))
    return [event(first + timedelta(hours=n), f"m{n}", p=value) for n, value in enumerate(found)]


# ── Time ────────────────────────────────────────────────────────────────────────────────────────


def test_01_events_later_than_now_are_not_seen_with_or_without_a_window() -> None:
    tomorrow = happened(NOW + SECOND)
    assert not holds({"event": "E"}, tomorrow)
    assert not holds({"event": "E", "within": {"since": "2026-01-01"}}, tomorrow)
    assert not holds({"event": "E", "within": {"calendar": "day"}}, tomorrow)
    assert holds({"event": "E"}, tomorrow, now=NOW + SECOND)


@pytest.mark.parametrize(
    ("window", "first", "last"),
    [
        ({"last": "30d"}, NOW - timedelta(days=30) + TICK, NOW),
        ({"since": "2026-03-01"}, datetime(2026, 3, 1, tzinfo=UTC), NOW),
        (
            {"between": ["2026-03-01", "2026-03-02T00:00:00Z"]},
            datetime(2026, 3, 1, tzinfo=UTC),
            datetime(2026, 3, 2, tzinfo=UTC) - TICK,
        ),
        (
            {"calendar": "month", "offset": -1},
            datetime(2026, 2, 1, tzinfo=UTC),
            datetime(2026, 3, 1, tzinfo=UTC) - TICK,
        ),
    ],
    ids=["last", "since", "between", "calendar"],
)
def test_02_a_window_holds_its_first_and_last_instant_and_none_beyond(
    window: dict[str, Any], first: datetime, last: datetime
) -> None:
    rule = {"event": "E", "within": window}
    assert [holds(rule, happened(at)) for at in (first - TICK, first, last, last + TICK)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_03_days_are_24_hours_and_months_step_to_the_last_day_of_a_shorter_month() -> None:
    in_a_month = {"event": "E", "within": {"last": "1mo"}}
    start = datetime(2026, 2, 28, 12, tzinfo=UTC)
    assert not holds(in_a_month, happened(start))
    assert holds(in_a_month, happened(start + TICK))
    leap = datetime(2024, 2, 29, 12, tzinfo=UTC)
    in_a_year = {"event": "E", "within": {"last": "1y"}}
    assert not holds(in_a_year, happened(datetime(2023, 2, 28, 12, tzinfo=UTC)), now=leap)
    assert holds(in_a_year, happened(datetime(2023, 2, 28, 12, tzinfo=UTC) + TICK), now=leap)


@pytest.mark.parametrize(
    ("unit", "offset", "zone", "first"),
    [
        ("day", 0, "Asia/Shanghai", "2026-03-30T16:00:00+00:00"),
        ("week", 0, "UTC", "2026-03-30T00:00:00+00:00"),
        ("week", -1, "UTC", "2026-03-23T00:00:00+00:00"),
        ("month", 0, "America/New_York", "2026-03-01T05:00:00+00:00"),
        ("quarter", -1, "UTC", "2025-10-01T00:00:00+00:00"),
        ("year", 0, "Asia/Shanghai", "2025-12-31T16:00:00+00:00"),
    ],
)
def test_04_a_calendar_window_starts_at_the_zones_first_instant(
    unit: str, offset: int, zone: str, first: str
) -> None:
    rule = {"event": "E", "within": {"calendar": unit, "offset": offset, "tz": zone}}
    start = datetime.fromisoformat(first)
    assert holds(rule, happened(start))
    assert not holds(rule, happened(start - TICK))


def test_04_a_calendar_window_without_a_zone_takes_the_workspaces() -> None:
    rule = {"event": "E", "within": {"calendar": "day"}}
    late = happened(datetime(2026, 3, 30, 16, tzinfo=UTC))
    assert holds(rule, late, zone="Asia/Shanghai")
    assert not holds(rule, late, zone="UTC")


def test_04_a_day_whose_midnight_is_skipped_starts_where_the_clock_jumps() -> None:
    jump = datetime(2018, 11, 4, 3, tzinfo=UTC)
    rule = {"event": "E", "within": {"calendar": "day", "tz": "America/Sao_Paulo"}}
    assert holds(rule, happened(jump), now=jump + timedelta(hours=5))
    assert not holds(rule, happened(jump - TICK), now=jump + timedelta(hours=5))


@pytest.mark.parametrize(
    ("text", "is_before"),
    [
        ("2026-03-01", True),
        ("2026-03-02", False),
        ("2026-03-02T07:59:59+08:00", True),
        ("2026-03-02T08:00:00+08:00", False),
        ("2026-03-01T23:59:59.9999999Z", True),
        ("2026-03-01 10:00:00", True),
        ("2026-02-30", False),
        ("2026-03-01T24:00:00Z", False),
        ("20260301", False),
        ("last spring", False),
        (1772323200, False),
    ],
)
def test_05_before_reads_rfc_3339_or_a_date_and_is_strict(text: Any, is_before: bool) -> None:
    assert trait_holds(text, "before", "2026-03-02T00:00:00Z") is is_before


def test_05_a_future_time_is_not_within_the_last_days() -> None:
    assert not trait_holds("2026-04-01", "within_last", "7d")
    assert trait_holds("2026-04-01", "not_within_last", "7d")
    assert trait_holds("2026-03-31T12:00:00Z", "within_last", "7d")
    assert not trait_holds("2026-03-24T12:00:00Z", "within_last", "7d")


def test_06_elapsed_days_are_whole_days_of_24_hours() -> None:
    facts = [event(NOW - timedelta(days=3) + SECOND, "a"), event(NOW - timedelta(days=9), "b")]
    assert figure("days_since_last", *facts) == 2
    assert figure("days_since_first", *facts) == 9
    assert figure("days_since_last") is None


# ── Values ──────────────────────────────────────────────────────────────────────────────────────

EVERY_OP = [
    ("eq", 1), ("ne", 1), ("gt", 1), ("gte", 1), ("lt", 1), ("lte", 1), ("between", [1, 2]),
    ("in", [1]), ("not_in", [1]), ("contains", "a"), ("not_contains", "a"), ("starts_with", "a"),
    ("ends_with", "a"), ("matches", "a"), ("exists",), ("before", "2026-01-01"),
    ("after", "2026-01-01"), ("within_last", "1d"),
]  # fmt: skip


@pytest.mark.parametrize("comparison", EVERY_OP, ids=lambda c: c[0])
def test_07_a_comparison_with_an_absent_value_is_false(comparison: tuple[Any, ...]) -> None:
    assert not trait_holds(None, *comparison)
    assert not trait_holds({"a": None}, *comparison, path="p.a")
    assert not trait_holds(1, *comparison, path="never")


def test_07_not_exists_and_not_within_last_hold_for_the_absent() -> None:
    assert trait_holds(None, "not_exists")
    assert trait_holds(None, "not_within_last", "7d")


@pytest.mark.parametrize("value", ["", 0, False, [], {}])
def test_07_empty_values_are_present(value: Any) -> None:
    assert trait_holds(value, "exists")
    assert not trait_holds(value, "not_exists")


@pytest.mark.parametrize(
    ("value", "op", "operand"),
    [
        ("42", "eq", 42), ("42", "ne", 42), (1, "eq", True), (True, "ne", 1), (0, "eq", False),
        ("b", "gt", 1), (True, "gte", True), (5, "contains", "5"), (5, "not_contains", "7"),
        (20260301, "before", "2027-01-01"), ("soon", "not_within_last", "1d"), ({}, "ne", "x"),
        ("x", "between", [1, 2]), (5, "matches", "5"),
    ],
)  # fmt: skip
def test_08_a_mismatch_is_false_for_negative_operators_too(
    value: Any, op: str, operand: Any
) -> None:
    assert not trait_holds(value, op, operand)


@pytest.mark.parametrize(
    ("value", "op", "operand", "expected"),
    [
        (["a", "b"], "eq", "b", True),
        (["a", "b"], "ne", "b", False),
        (["a", "b"], "ne", "c", True),
        ([], "ne", "c", True),
        ([], "eq", "c", False),
        (["b", 5], "ne", "a", False),
        (["a", None], "ne", "b", True),
        (["ab", "c"], "not_contains", "b", False),
        ([1, 9], "gt", 5, True),
        (["2026-03-31", "2020-01-01"], "not_within_last", "7d", False),
    ],
)
def test_09_negative_operators_hold_for_every_element_and_the_others_for_one(
    value: Any, op: str, operand: Any, expected: bool
) -> None:
    assert trait_holds(value, op, operand) is expected


def test_09_a_path_goes_through_lists_of_objects() -> None:
    lines = [{"sku": "a", "sizes": ["S"]}, {"sku": "b", "sizes": ["M", "L"]}, {"other": 1}]
    assert trait_holds(lines, "eq", "b", path="p.sku")
    assert trait_holds(lines, "ne", "c", path="p.sku")
    assert not trait_holds(lines, "ne", "b", path="p.sku")
    assert trait_holds(lines, "in", ["L"], path="p.sizes")
    assert trait_holds([{"other": 1}], "not_exists", path="p.sku")


def test_09_a_name_with_a_dot_is_escaped() -> None:
    assert trait_holds({"a.b": 1, "a": {"b": 2}}, "eq", 1, path=r"p.a\.b")
    assert trait_holds({"a.b": 1, "a": {"b": 2}}, "eq", 2, path="p.a.b")


def test_10_in_looks_at_the_elements_of_the_values_own_type() -> None:
    assert trait_holds(1, "in", ["a", 1])
    assert not trait_holds(True, "in", [1, "a"])
    assert trait_holds("b", "not_in", [1, "a"])
    assert not trait_holds(False, "not_in", [1, "a"])
    assert trait_holds({}, "not_in", [])
    assert not trait_holds(1, "in", [])
    assert not trait_holds(None, "not_in", [])


def test_10_between_includes_both_ends() -> None:
    assert [trait_holds(n, "between", [2, 4]) for n in (1, 2, 4, 5)] == [False, True, True, False]
    assert trait_holds("m", "between", ["a", "m"])


def test_11_text_compares_by_code_point_and_knows_no_wildcards() -> None:
    assert not trait_holds("Pro", "eq", "pro")
    assert not trait_holds("e\u0301", "eq", "é")
    assert trait_holds("a", "gt", "Z")
    assert trait_holds("😀", "gt", "\uffff")
    assert not trait_holds("abc", "contains", "%")
    assert trait_holds("50% off", "contains", "%")


def test_11_matches_searches_anywhere_and_minds_case() -> None:
    assert trait_holds("xx-42", "matches", r"\d+")
    assert not trait_holds("ABC", "matches", "b")
    assert trait_holds("ABC", "matches", "(?i)b")


def test_12_names_are_exact_and_numbers_are_doubles() -> None:
    assert not trait_holds(1, "exists", path="P")
    assert trait_holds(9007199254740993, "eq", 9007199254740992)
    assert trait_holds("a\ufffd", "eq", "a\0")


# ── Events ──────────────────────────────────────────────────────────────────────────────────────


def test_14_all_conditions_of_a_where_hold_for_the_same_event() -> None:
    yesterday = NOW - timedelta(days=1)
    person = PersonFacts(
        events=[event(yesterday, "a", total=200, city="x"), event(yesterday, "b", city="y")]
    )
    where = [
        {"property": "total", "op": "gte", "value": 100},
        {"property": "city", "op": "ne", "value": "x"},
    ]
    assert not holds({"event": "E", "where": where}, person)
    assert holds({"event": "E", "where": where[:1]}, person)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        ({"op": "lt", "value": 3}, True),
        ({"op": "eq", "value": 0}, True),
        ({"op": "between", "value": [0, 2]}, True),
        ({"op": "ne", "value": 0}, False),
        ({"op": "gte", "value": 1}, False),
    ],
)
def test_15_zero_is_a_number_of_events(count: dict[str, Any], expected: bool) -> None:
    assert holds({"event": "E", "count": count}, PersonFacts()) is expected


def test_16_figures_take_numbers_and_each_element_of_a_list() -> None:
    facts = values(1, "7", [2, 3, "x", None], True, {"n": 9})
    assert figure("sum", *facts) == 6
    assert figure("avg", *facts) == 2
    assert figure("min", *facts) == 1
    assert figure("max", *facts) == 3


def test_16_over_no_value_a_figure_is_absent_and_the_distinct_count_is_zero() -> None:
    for function in ("sum", "avg", "min", "max", "first", "last", "most_frequent"):
        assert figure(function, *values(None)) is None
    assert figure("count_distinct") == 0


def test_16_distinct_values_of_different_types_are_different() -> None:
    assert figure("count_distinct", *values(1, 1.0, "1", True, [1, "x"])) == 4


def test_16_a_sum_adds_decimals_so_that_the_order_of_events_never_decides() -> None:
    assert figure("sum", *values(0.7, 0.1)) == 0.8
    assert figure("sum", *values(0.3, -0.1, -0.2)) == 0


def test_17_first_and_last_pass_over_events_without_the_property() -> None:
    facts = values(None, "a", "b", None)
    assert figure("first", *facts) == "a"
    assert figure("last", *facts) == "b"


def test_17_events_at_one_time_are_ordered_by_message_id() -> None:
    facts = [event(NOW, "m2", p="second"), event(NOW, "m1", p="first")]
    assert figure("first", *facts) == "first"
    assert figure("last", *facts) == "second"


def test_17_of_equally_frequent_values_the_one_seen_last_counts() -> None:
    assert figure("most_frequent", *values("a", "b", "b", "a")) == "a"
    assert figure("most_frequent", *values("a", "b", "a", "c")) == "a"
    assert figure("most_frequent", *values(["a", "a", "b"], "b")) == "b"


def test_18_a_sequence_chooses_the_events_that_fit() -> None:
    start = NOW - timedelta(days=20)
    person = PersonFacts(
        events=[
            event(start, "a1", "A"),
            event(start + timedelta(days=10), "a2", "A"),
            event(start + timedelta(days=12), "b", "B"),
        ]
    )
    rule = {"sequence": [{"event": "A"}, {"event": "B", "after": {"max": "7d"}}]}
    assert holds(rule, person)
    too_soon = {"sequence": [{"event": "A"}, {"event": "B", "after": {"min": "3d", "max": "7d"}}]}
    assert not holds(too_soon, person)


def test_18_each_step_is_strictly_later_and_inside_the_window() -> None:
    rule = {"sequence": [{"event": "A"}, {"event": "B"}], "within": {"last": "1d"}}
    together = PersonFacts(events=[event(NOW, "a", "A"), event(NOW, "b", "B")])
    assert not holds(rule, together)
    early = NOW - timedelta(days=1)
    assert not holds(rule, PersonFacts(events=[event(early, "a", "A"), event(NOW, "b", "B")]))
    assert holds(rule, PersonFacts(events=[event(early + TICK, "a", "A"), event(NOW, "b", "B")]))


# ── The rest ────────────────────────────────────────────────────────────────────────────────────


def test_21_several_identifiers_of_a_type_are_a_list() -> None:
    person = PersonFacts(identifiers={"email": ["a@x.com", "b@y.com"]})
    assert holds({"identifier": "email", "op": "ends_with", "value": "@y.com"}, person)
    assert not holds({"identifier": "email", "op": "ne", "value": "a@x.com"}, person)
    assert holds({"identifier": "phone", "op": "not_exists"}, person)


def stated(granted: bool, hours_ago: int) -> ConsentFact:
    return ConsentFact("marketing", granted, NOW - timedelta(hours=hours_ago))


GRANTED = {"consent": "marketing", "op": "granted"}
DENIED = {"consent": "marketing", "op": "denied"}


def test_23_without_a_statement_consent_is_neither_granted_nor_denied() -> None:
    assert not holds(GRANTED, PersonFacts())
    assert not holds(DENIED, PersonFacts())


def test_23_the_newest_statement_counts() -> None:
    person = PersonFacts(consents=[stated(True, 1), stated(False, 2)])
    assert holds(GRANTED, person)


def test_29_after_a_merge_the_most_restrictive_counts_until_a_newer_statement() -> None:
    consents = [stated(True, 5), stated(False, 9)]
    merged = PersonFacts(consents=consents, joined_at=NOW - timedelta(hours=3))
    assert holds(DENIED, merged)
    since = PersonFacts(consents=[*consents, stated(True, 1)], joined_at=NOW - timedelta(hours=3))
    assert holds(GRANTED, since)


def test_what_a_source_takes_for_granted_counts_only_while_nobody_said_anything() -> None:
    refused = ConsentFact("marketing", False, DEFAULT_CONSENT_AT)
    joined_at = NOW - timedelta(hours=3)
    assert holds(DENIED, PersonFacts(consents=[refused]))
    assert holds(GRANTED, PersonFacts(consents=[refused, stated(True, 5)], joined_at=joined_at))
    agreed = ConsentFact("marketing", True, DEFAULT_CONSENT_AT)
    assert holds(DENIED, PersonFacts(consents=[refused, agreed], joined_at=joined_at))


def test_27_why_is_the_rule_with_what_was_found() -> None:
    document = {
        "all": [
            {"trait": "plan", "op": "eq", "value": "pro"},
            {"not": {"event": "E", "count": {"op": "gte", "value": 1}}},
        ]
    }
    why = explain(parse_rule(document), with_trait("free", "plan"), NOW)
    assert why == {
        "all": [
            {"trait": "plan", "op": "eq", "expected": "pro", "value": "free", "holds": False},
            {
                "not": {
                    "event": "E",
                    "count": {"op": "gte", "value": 1},
                    "value": 0,
                    "holds": False,
                },
                "holds": True,
            },
        ],
        "holds": False,
    }


def test_28_of_a_trait_the_newest_by_event_time_counts_and_none_from_the_future() -> None:
    facts = [
        TraitFact("p", "newest", NOW, "m1"),
        TraitFact("p", "older", NOW - SECOND, "m2"),
        TraitFact("p", "tie", NOW, "m0"),
        TraitFact("p", "future", NOW + SECOND, "m3"),
    ]
    assert holds({"trait": "p", "op": "eq", "value": "newest"}, PersonFacts(traits=facts))


def test_28_a_removed_trait_is_absent() -> None:
    facts = [TraitFact("p", "x", NOW - SECOND), TraitFact("p", None, NOW)]
    assert holds({"trait": "p", "op": "not_exists"}, PersonFacts(traits=facts))


def test_an_empty_all_is_true_and_an_empty_any_is_false() -> None:
    assert holds({"all": []}, PersonFacts())
    assert not holds({"any": []}, PersonFacts())
    assert holds({"not": {"any": []}}, PersonFacts())
