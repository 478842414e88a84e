"""When time alone may change an answer: by which ages, at which pages of a calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.segments.evaluate_values import value_holds
from cdp.segments.flips import find_flips
from cdp.segments.parse import parse_aggregate, parse_rule
from cdp.segments.rules import Comparison, Duration, LastWindow
from cdp.segments.times import step_back
from cdp.segments.windows import bounds

BOUGHT: dict[str, Any] = {"event": "Bought"}
DAYS: dict[str, Any] = {"event": "Bought", "aggregate": {"fn": "days_since_last"}}


def names(*rules: Any) -> list[str]:
    return sorted(one.name for one in find_flips([parse_rule(rule) for rule in rules]).crossings)


@pytest.mark.parametrize(
    ("rule", "crossings"),
    [
        (BOUGHT, []),
        (BOUGHT | {"within": {"since": "2026-01-01"}}, []),
        (BOUGHT | {"within": {"between": ["2026-01-01", "2026-02-01"]}}, []),
        (BOUGHT | {"within": {"last": "30d"}}, ["e:30d:Bought"]),
        ({"not": {"any": [BOUGHT | {"within": {"last": "1mo"}}]}}, ["e:1mo:Bought"]),
        ({"orders": {}, "within": {"last": "2w"}}, ["o:2w:"]),
        (DAYS | {"op": "gte", "value": 3}, ["e:3d:Bought", "e:4d:Bought"]),
        (DAYS | {"op": "lt", "value": 2.5}, ["e:3d:Bought"]),
        (DAYS | {"op": "between", "value": [0, 1]}, ["e:1d:Bought", "e:2d:Bought"]),
        (DAYS | {"op": "eq", "value": -1}, []),
        (
            {"sequence": [{"event": "A"}, {"event": "B"}], "within": {"last": "7d"}},
            ["e:7d:A", "e:7d:B"],
        ),
        ({"trait": "plan", "op": "eq", "value": "pro"}, []),
    ],
)
def test_the_ages_that_matter_are_read_off_the_rule(rule: Any, crossings: list[str]) -> None:
    assert names(rule) == crossings
    assert find_flips([parse_rule(rule)]).is_complete


@pytest.mark.parametrize(
    "rule",
    [
        {"identifier": "until", "op": "within_last", "value": "3d"},
        BOUGHT | {"where": [{"property": "at", "op": "within_last", "value": "3d"}]},
        BOUGHT
        | {"aggregate": {"fn": "last", "property": "at"}, "op": "within_last", "value": "3d"},
    ],
)
def test_a_property_that_is_compared_with_now_asks_for_everybody(rule: Any) -> None:
    assert not find_flips([parse_rule(rule)]).is_complete


@pytest.mark.parametrize(
    ("rule", "scans"),
    [
        (
            {"trait": "until.date", "op": "within_last", "value": "3d"},
            ["trait:0d:until", "trait:3d:until"],
        ),
        (
            {"account": {"not": {"trait": "until", "op": "not_within_last", "value": "1mo"}}},
            ["account:0d:until", "account:1mo:until"],
        ),
        ({"tag": "renewal", "op": "within_last", "value": "0d"}, ["tag:0d:renewal"]),
        ({"trait": "until", "op": "before", "value": "2026-01-01"}, []),
    ],
)
def test_values_that_are_compared_with_now_are_looked_for_by_value(rule: Any, scans: Any) -> None:
    flips = find_flips([parse_rule(rule)])
    assert sorted(one.name for one in flips.scans) == scans
    assert flips.is_complete


def test_a_tag_that_is_a_number_of_days_moves_with_the_time_of_day_of_its_events() -> None:
    flips = find_flips([parse_aggregate(DAYS)])
    assert [one.name for one in flips.scans] == ["day:e:Bought"]
    assert flips.is_complete


def test_a_page_is_turned_at_midnight_where_the_calendar_hangs() -> None:
    within = {"calendar": "day", "tz": "Asia/Shanghai"}
    flips = find_flips([parse_rule(BOUGHT | {"within": within})])
    midnight = datetime(2026, 3, 1, 16, tzinfo=UTC)
    moment = timedelta(microseconds=1)

    assert flips.turn(midnight - moment, midnight, "UTC")
    assert not flips.turn(midnight, midnight + timedelta(hours=23), "UTC")


WHEN = st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))
AGE = st.builds(Duration, st.integers(1, 40), st.sampled_from(["m", "h", "d", "w", "mo", "y"]))


@given(AGE, WHEN, WHEN, WHEN)
def test_an_event_that_leaves_a_window_is_in_the_slice_and_no_other(
    age: Duration, at: datetime, one: datetime, other: datetime
) -> None:
    since, now = sorted((one, other))
    if at > since:
        return
    was_in = bounds(LastWindow(age), since, "UTC").contain(at)
    is_in = bounds(LastWindow(age), now, "UTC").contain(at)
    in_slice = step_back(since, age) < at <= step_back(now, age)

    assert in_slice == (was_in and not is_in)


OPS = st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"])
NUMBER = st.integers(-2, 12).map(lambda halves: halves / 2)


@given(OPS, NUMBER, st.integers(0, 8))
def test_a_number_of_days_flips_only_on_reaching_a_threshold(
    op: Any, value: float, days: int
) -> None:
    rule = DAYS | {"op": op, "value": value}
    comparison = Comparison(op, value)
    flips = value_holds(float(days), comparison, NOON) != value_holds(
        float(days + 1), comparison, NOON
    )
    if flips:
        assert f"e:{days + 1}d:Bought" in names(rule)


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
