"""The 34 points of the rule language, one test each: people, rules, and for whom they hold.

Every rule is asked of the reference evaluator and of DuckDB, over the same people; what a point
says of HTTP, of keys, pulls and changes is in ``tests/integration/test_rules_over_http.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from cdp.errors import Unprocessable
from cdp.identity.identifiers import normalise
from cdp.identity.rules import default_rules
from cdp.ingest.event_time import decide_time
from cdp.runtime.clock import format_time
from cdp.segments.definitions import is_key
from cdp.segments.evaluate import ConsentFact, EventFact, TraitFact, evaluate, explain
from cdp.segments.parse import parse_rule
from tests.support.rule_world import (
    Belonging,
    OrderRow,
    Person,
    connect,
    facts,
    load,
    members,
    person,
)

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
DAY, TICK = timedelta(days=1), timedelta(microseconds=1)


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


class World:
    """People by name; says for which of them a rule holds."""

    def __init__(
        self,
        duck: duckdb.DuckDBPyConnection,
        people: Mapping[str, Person],
        accounts: Mapping[str, list[TraitFact]] | None = None,
    ) -> None:
        self._duck, self._people, self._accounts = duck, people, accounts
        load(duck, list(people.values()), accounts=accounts)

    def who(self, rule: Any, now: datetime = NOW, **context: Any) -> set[str]:
        tree, names = parse_rule(rule, **context), list(self._people)
        meant = {
            name
            for name, someone in self._people.items()
            if evaluate(tree, facts(someone, self._accounts), now)
        }
        assert {names[number] for number in members(self._duck, tree, now)} == meant, rule
        return meant


def said(value: Any, name: str = "p", at: datetime = NOW - DAY, message: str = "m") -> TraitFact:
    return TraitFact(name, value, at, message)


def with_traits(**values: Any) -> dict[str, Person]:
    return {name: person(traits=[said(value)]) for name, value in values.items()}


def event(at: datetime = NOW - DAY, name: str = "E", number: int = 0, **found: Any) -> EventFact:
    return EventFact(name, at, f"m{number}", "s", found)


def with_events(*events: EventFact) -> Person:
    return person(events=[each._replace(message_id=f"m{n}") for n, each in enumerate(events)])


def at_times(**times: datetime) -> dict[str, Person]:
    return {name: with_events(event(at)) for name, at in times.items()}


def trait(op: str, *value: Any, path: str = "p") -> dict[str, Any]:
    return {"trait": path, "op": op, **({"value": value[0]} if value else {})}


def figure(fn: str, op: str, value: Any, of: str = "p") -> dict[str, Any]:
    aggregate = {"fn": fn} if fn.startswith("days") else {"fn": fn, "property": of}
    return {"event": "E", "aggregate": aggregate, "op": op, "value": value}


def refuse(rule: Any) -> str:
    """Return the place of the mistake."""
    with pytest.raises(Unprocessable) as refused:
        parse_rule(rule, known_segments={"vip"}, known_tags={"rfm"})
    return str(refused.value.details["path"])


def test_point_01_what_is_later_than_now_is_not_seen_until_its_time_comes(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    world = World(duck, at_times(now=NOW, soon=NOW + TICK))
    for within in ({}, {"within": {"last": "1d"}}, {"within": {"since": "2026-01-01"}}):
        assert world.who({"event": "E"} | within) == {"now"}
        assert world.who({"event": "E"} | within, NOW + TICK) == {"now", "soon"}
    far, near = NOW + DAY + timedelta(seconds=1), NOW + DAY
    settled = [
        decide_time(format_time(at), None, NOW, clock_is_trusted=True).at for at in (far, near)
    ]
    assert settled == [NOW, near]


def test_point_02_last_is_open_at_its_start_since_closed_and_the_others_half_open(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    start, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 8, tzinfo=UTC)
    world = World(duck, at_times(before=start - TICK, start=start, end=end, after=end + TICK))
    week = {"between": ["2026-03-01", "2026-03-08"]}
    assert world.who({"event": "E", "within": {"last": "7d"}}, end) == {"end"}
    assert world.who({"event": "E", "within": {"since": "2026-03-01"}}, end) == {"start", "end"}
    assert world.who({"event": "E", "within": week}) == {"start"}
    day = {"calendar": "day", "tz": "UTC"}
    assert world.who({"event": "E", "within": day}, end + DAY / 2) == {"end", "after"}


def test_point_03_days_are_24_hours_and_months_step_to_the_last_day_of_a_shorter_one(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    edge, noon = datetime(2026, 2, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC)
    world = World(duck, at_times(edge=edge, inside=edge + TICK, day=noon, later=noon + TICK))
    assert world.who({"event": "E", "within": {"last": "1mo"}}) == {"inside", "day", "later"}
    assert world.who({"event": "E", "within": {"last": "1d"}}) == {"later"}
    assert world.who({"event": "E", "within": {"last": "24h"}}) == {"later"}


def test_point_04_a_calendar_window_is_the_zones_and_offset_minus_one_the_one_before(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    shanghai = datetime(2026, 2, 28, 16, tzinfo=UTC)
    world = World(duck, at_times(february=shanghai - TICK, march=shanghai))
    month = {"calendar": "month", "tz": "Asia/Shanghai"}
    assert world.who({"event": "E", "within": month}) == {"march"}
    assert world.who({"event": "E", "within": month | {"offset": -1}}) == {"february"}
    week = {"calendar": "week", "tz": "UTC"}
    monday = datetime(2026, 3, 30, tzinfo=UTC)
    world = World(duck, at_times(sunday=monday - TICK, monday=monday))
    assert world.who({"event": "E", "within": week}) == {"monday"}


def test_point_05_times_are_rfc_3339_or_dates_and_before_and_after_are_strict(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    world = World(
        duck,
        with_traits(
            date="2026-03-30", same="2026-03-30T08:00:00+08:00", later="2026-03-30T00:00:00.001Z",
            future="2026-04-01", no_time="yesterday", number=20260330,
        ),
    )  # fmt: skip
    assert world.who(trait("before", "2026-03-30")) == set()
    assert world.who(trait("after", "2026-03-30T00:00:00Z")) == {"later", "future"}
    assert world.who(trait("before", "2026-03-31T00:00:00")) == {"date", "same", "later"}
    assert world.who(trait("within_last", "2d")) == {"date", "same", "later"}
    assert world.who(trait("not_within_last", "2d")) == {"future"}


def test_point_06_days_since_are_whole_days_and_absent_without_an_event(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    world = World(duck, {**at_times(two=NOW - 2 * DAY, nearly=NOW - 2 * DAY + TICK),
                         "never": person()})  # fmt: skip
    assert world.who(figure("days_since_last", "eq", 2)) == {"two"}
    assert world.who(figure("days_since_first", "lte", 1)) == {"nearly"}
    assert world.who(figure("days_since_last", "gte", 0)) == {"two", "nearly"}
    assert world.who({"not": figure("days_since_last", "gte", 0)}) == {"never"}


def test_point_07_a_comparison_with_the_absent_is_false_but_for_two_operators(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    empty = {"text": "", "zero": 0, "false": False, "list": [], "object": {}}
    world = World(duck, {**with_traits(**empty, null=None), "never": person()})
    absent = {"null", "never"}
    assert world.who(trait("exists")) == set(empty)
    assert world.who(trait("not_exists")) == absent
    # A list stands for its elements, of which an empty one has none.
    assert world.who(trait("not_within_last", "1d")) == absent | {"list"}
    for rule in (trait("ne", "x"), trait("not_in", ["x"]), trait("not_contains", "x")):
        assert not world.who(rule) & absent
        assert world.who({"not": rule}) >= absent


def test_point_08_what_is_of_another_type_is_false_for_negative_operators_too(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    world = World(duck, with_traits(text="42", number=42, truth=True, object={"a": 42}))
    assert world.who(trait("eq", "42")) == {"text"}
    assert world.who(trait("eq", 42)) == {"number"}
    assert world.who(trait("ne", "x")) == {"text"}
    assert world.who(trait("ne", 1)) == {"number"}
    assert world.who(trait("not_in", ["x", 1])) == {"text", "number"}
    assert world.who(trait("not_contains", "x")) == {"text"}
    assert world.who(trait("gt", "1")) == {"text"}
    assert world.who(trait("gte", True)) == set()


def test_point_09_negative_operators_want_every_element_and_paths_go_through_lists(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    world = World(duck, with_traits(both=["a", "b"], one=["b"], none=[], mixed=["b", 1]))
    assert world.who(trait("eq", "a")) == {"both"}
    assert world.who(trait("ne", "a")) == {"one", "none"}
    assert world.who(trait("not_in", ["a"])) == {"one", "none"}
    assert world.who(trait("not_contains", "a")) == {"one", "none"}
    lines = with_traits(tea=[{"sku": "tea"}, {"sku": "cup"}], cup={"sku": ["cup"]}, bare="tea")
    world = World(duck, {**lines, "dot": person(traits=[said("tea", "p.sku")])})
    assert world.who(trait("eq", "tea", path="p.sku")) == {"tea"}
    assert world.who(trait("ne", "tea", path="p.sku")) == {"cup"}
    assert world.who(trait("eq", "tea", path=r"p\.sku")) == {"dot"}


def test_point_10_in_looks_at_its_values_own_type_and_between_includes_both_ends(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    world = World(duck, {**with_traits(one=1, a="a", truth=True, object={}), "never": person()})
    assert world.who(trait("in", [1, "a"])) == {"one", "a"}
    assert world.who(trait("not_in", ["b"])) == {"a"}
    assert world.who(trait("not_in", [2])) == {"one"}
    assert world.who(trait("not_in", [])) == {"one", "a", "truth", "object"}
    assert world.who(trait("in", [])) == set()
    world = World(duck, with_traits(low=1, high=2, above=2.5))
    assert world.who(trait("between", [1, 2])) == {"low", "high"}


def test_point_11_text_compares_by_code_point_and_only_matches_knows_patterns(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    world = World(duck, with_traits(a="a", A="A", composed="é", split="e\u0301", percent="a%b"))
    assert world.who(trait("eq", "a")) == {"a"}
    assert world.who(trait("eq", "é")) == {"composed"}
    assert world.who(trait("lt", "a")) == {"A"}
    assert world.who(trait("contains", "%")) == {"percent"}
    assert world.who(trait("starts_with", "_")) == set()
    assert world.who(trait("matches", "a")) == {"a", "percent"}
    assert world.who(trait("matches", "(?i)^a$")) == {"a", "A"}
    assert refuse(trait("matches", r"(?=a)")) == "/rule/value"


def test_point_12_names_are_exact_and_numbers_are_doubles(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    people = {"sent": with_events(event(name="Order Completed")),
              "other": with_events(event(name="order completed"))}  # fmt: skip
    world = World(duck, people)
    assert world.who({"event": "Order Completed"}) == {"sent"}
    assert world.who({"event": "Nobody Did This", "count": {"op": "eq", "value": 0}}) == {*people}
    assert world.who(trait("exists", path="never.heard.of")) == set()
    world = World(duck, {"long": person(traits=[said(9007199254740993)]),
                         "nul": person(traits=[said("x", "a\ufffd")])})  # fmt: skip
    assert world.who(trait("eq", 9007199254740992)) == {"long"}
    assert world.who(trait("eq", "x", path="a\0")) == {"nul"}
    assert refuse({"segment": "nobody"}) == "/rule/segment"
    assert refuse({"tag": "nothing", "op": "exists"}) == "/rule/tag"


def test_point_13_page_and_screen_calls_are_events_with_their_name_as_a_property(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    # The feed names them so; ``tests/integration/test_feed.py`` holds that.
    people = {
        "home": person(events=[EventFact("page", NOW - DAY, "m", "s", {"name": "Home"})]),
        "app": person(events=[EventFact("screen", NOW - DAY, "m", "s", {"name": "Home"})]),
    }
    world = World(duck, people)
    named = [{"property": "name", "op": "eq", "value": "Home"}]
    assert world.who({"event": "page", "where": named}) == {"home"}
    assert world.who({"event": "screen", "where": named}) == {"app"}


def test_point_14_all_conditions_hold_for_one_event_and_for_one_line(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    apart = with_events(event(a=1, b=1), event(a=2, b=2))
    line = {"sku": "tea", "category": "food", "quantity": 2.0, "total": 100}
    other = {"sku": "cup", "category": "kitchen", "quantity": 1.0, "total": 900}
    order = OrderRow("o", NOW - DAY, total=1000, lines=[line, other])
    world = World(duck, {"one": with_events(event(a=1, b=2)), "apart": apart,
                         "buyer": person(orders=[order])})  # fmt: skip
    where = [{"property": "a", "op": "eq", "value": 1}, {"property": "b", "op": "ne", "value": 1}]
    assert world.who({"event": "E", "where": where}) == {"one"}
    tea = {"property": "line.sku", "op": "eq", "value": "tea"}
    kitchen = {"property": "line.category", "op": "eq", "value": "kitchen"}
    not_tea = {"property": "line.sku", "op": "ne", "value": "tea"}
    assert world.who({"orders": {"where": [tea, kitchen]}}) == set()
    assert world.who({"orders": {"where": [not_tea, kitchen]}}) == {"buyer"}
    over = {"aggregate": {"fn": "sum", "property": "line.total"}, "op": "eq", "value": 1}
    assert world.who({"orders": {"where": [tea]}, **over}) == {"buyer"}


def test_point_15_zero_is_a_number_of_events(duck: duckdb.DuckDBPyConnection) -> None:
    world = World(duck, {"never": person(), "once": with_events(event()),
                         "thrice": with_events(event(), event(), event())})  # fmt: skip
    expected = {
        ("lt", 3): {"never", "once"}, ("eq", 0): {"never"}, ("ne", 1): {"never", "thrice"},
        ("gte", 1): {"once", "thrice"}, ("gt", 2): {"thrice"}, ("lte", 1): {"never", "once"},
    }  # fmt: skip
    for (op, value), names in expected.items():
        assert world.who({"event": "E", "count": {"op": op, "value": value}}) == names
    between = {"op": "between", "value": [0, 1]}
    assert world.who({"event": "E", "count": between}) == {"never", "once"}
    assert refuse({**figure("sum", "gt", 1), "count": {"op": "eq", "value": 1}}) == "/rule"
    assert refuse({"event": "E", "count": {"op": "in", "value": [1]}}) == "/rule/count/op"


def test_point_16_figures_take_numbers_only_and_are_absent_over_none(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    people = {"mixed": with_events(event(p=[1, "5", None]), event(p=2), event(p=True)),
              "texts": with_events(event(p="1")), "never": person()}  # fmt: skip
    world = World(duck, people)
    assert world.who(figure("sum", "eq", 3)) == {"mixed"}
    assert world.who(figure("avg", "eq", 1.5)) == {"mixed"}
    assert world.who(figure("max", "lte", 2)) == {"mixed"}
    assert world.who({"not": figure("sum", "gte", -1)}) == {"texts", "never"}
    assert world.who(figure("count_distinct", "eq", 4)) == {"mixed"}
    assert world.who(figure("count_distinct", "eq", 0)) == {"never"}


def test_point_17_first_and_last_go_by_time_then_message_and_ties_to_the_one_seen_last(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    hours = [NOW - n * timedelta(hours=1) for n in (5, 4, 3, 3, 2)]
    told = [event(at, p=value) for at, value in zip(hours, "aabbc", strict=True)]
    world = World(duck, {"ann": with_events(*told, event(NOW - TICK))})
    assert world.who(figure("first", "eq", "a")) == {"ann"}
    assert world.who(figure("last", "eq", "c")) == {"ann"}
    assert world.who(figure("most_frequent", "eq", "b")) == {"ann"}
    same = person(events=[event(number=2, p="late"), event(number=1, p="early")])
    world = World(duck, {"same": same})
    assert world.who(figure("first", "eq", "early")) == world.who(figure("last", "eq", "late"))


def test_point_18_a_sequence_holds_when_some_choice_of_events_fits(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    first = NOW - 5 * DAY
    steps = [event(first, "A"), event(first + DAY, "A"), event(first + 2 * DAY, "B", p=1)]
    at_once = [event(first, "A"), event(first, "B", p=1)]
    world = World(duck, {"fits": with_events(*steps), "at_once": with_events(*at_once)})

    def then(**after: str) -> dict[str, Any]:
        return {"sequence": [{"event": "A"}, {"event": "B", "after": after}]}

    assert world.who(then()) == {"fits"}
    assert world.who(then(max="1d")) == world.who(then(min="2d")) == {"fits"}
    assert world.who(then(max="23h")) == world.who(then(min="49h")) == set()
    assert world.who(then() | {"within": {"last": "4d"}}) == set()
    where = [{"property": "p", "op": "ne", "value": 1}]
    assert world.who({"sequence": [{"event": "A"}, {"event": "B", "where": where}]}) == set()


def test_point_19_an_order_counts_when_placed_in_its_newest_version_whatever_its_status(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    # When an order was placed and which version stands: ``tests/unit/test_orders.py``.
    refunded = OrderRow("r", NOW - DAY, total=100, refunded=100, texts={"status": "refunded"})
    ahead = OrderRow("a", NOW + TICK, total=100)
    world = World(duck, {"refunded": person(orders=[refunded]), "ahead": person(orders=[ahead])})
    assert world.who({"orders": {}, "within": {"last": "2d"}}) == {"refunded"}
    assert world.who({"orders": {}}, NOW + TICK) == {"refunded", "ahead"}
    total = {"property": "total", "op": "eq", "value": 0}
    status = {"property": "status", "op": "ne", "value": "refunded"}
    assert world.who({"orders": {"where": [total]}}) == {"refunded"}
    assert world.who({"orders": {"where": [status]}}) == set()


def test_point_20_money_is_a_decimal_in_the_orders_own_currency_or_matches_only_its_own(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    yuan, dollars = OrderRow("1", NOW - DAY, "CNY", 10_000), OrderRow("2", NOW - DAY, "USD", 10_000)
    yen = OrderRow("3", NOW - DAY, "JPY", 100)
    world = World(duck, {"cny": person(orders=[yuan]), "jpy": person(orders=[yen]),
                         "both": person(orders=[yuan, dollars])})  # fmt: skip

    def total(op: str, value: Any) -> dict[str, Any]:
        return {"orders": {"where": [{"property": "total", "op": op, "value": value}]}}

    def sum_of(value: Any) -> dict[str, Any]:
        fn = {"fn": "sum", "property": "total"}
        return {"orders": {}, "aggregate": fn, "op": "gte", "value": value}

    assert world.who(total("eq", 100)) == {"cny", "jpy", "both"}
    assert world.who(total("eq", {"amount": 10_000, "currency": "USD"})) == {"both"}
    assert world.who(total("gte", {"amount": 1, "currency": "JPY"})) == {"jpy"}
    assert world.who(sum_of(1)) == {"cny", "jpy"}
    assert world.who(sum_of({"amount": 1, "currency": "CNY"})) == {"cny"}


def test_point_21_identifiers_take_every_operator_and_several_are_a_list(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    two = person(identifiers={"email": ["a@x.com", "b@y.com"]})
    world = World(duck, {"two": two, "none": person()})

    def email(op: str, *value: Any) -> dict[str, Any]:
        return {"identifier": "email", "op": op, **({"value": value[0]} if value else {})}

    assert world.who(email("ends_with", "@y.com")) == {"two"}
    assert world.who(email("ne", "a@x.com")) == world.who(email("not_contains", "@")) == set()
    assert world.who(email("ne", "c@x.com")) == {"two"}
    assert world.who(email("not_exists")) == {"none"}


def test_point_22_inside_an_account_only_combinations_and_traits_and_not_asks_for_an_account(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    accounts = {"acme": [said("pro", "plan")], "beta": [said("free", "plan")]}
    belongs = {name: person(belongings=[Belonging(name, True, NOW - DAY)]) for name in accounts}
    world = World(duck, {**belongs, "none": person()}, accounts)
    pro = {"trait": "plan", "op": "eq", "value": "pro"}
    assert world.who({"account": pro}) == {"acme"}
    assert world.who({"account": {"not": pro}}) == {"beta"}
    assert world.who({"not": {"account": pro}}) == {"beta", "none"}
    assert refuse({"account": {"all": [{"event": "E"}]}}) == "/rule/account/all/0"


def test_point_23_both_answers_are_false_where_nothing_was_stated(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    def stated(*answers: bool) -> list[ConsentFact]:
        return [
            ConsentFact("marketing", answer, NOW - (5 - n) * DAY, "m", 1)
            for n, answer in enumerate(answers)
        ]

    merged = person(consents=stated(False), joined_at=NOW - TICK)
    world = World(duck, {"yes": person(consents=stated(True)), "no": merged, "never": person()})
    assert world.who({"consent": "marketing", "op": "granted"}) == {"yes"}
    assert world.who({"consent": "marketing", "op": "denied"}) == {"no"}
    assert world.who({"not": {"consent": "marketing", "op": "granted"}}) == {"no", "never"}
    by_channel = {"consent": "marketing", "channel": "email", "op": "granted"}
    assert world.who(by_channel) == {"yes"}


def test_point_24_a_rule_that_cannot_be_read_names_the_place_of_its_mistake() -> None:
    plan = {"trait": "plan", "op": "eq", "value": 1}
    mistakes: list[tuple[Any, str]] = [
        ({"all": [plan, {**plan, "op": "is"}]}, "/rule/all/1/op"),
        ({"weather": "fine"}, "/rule"),
        ({**plan, "values": 1}, "/rule/values"),
        ({"trait": "plan", "op": "eq"}, "/rule/value"),
        ({"trait": "a", "segment": "vip"}, "/rule"),
        (figure("median", "eq", 1), "/rule/aggregate/fn"),
        ({"event": "E", "within": {"during": "1d"}}, "/rule/within"),
        ({"event": "E", "within": {"last": "3s"}}, "/rule/within/last"),
        ({"event": "E", "within": {"calendar": "decade"}}, "/rule/within/calendar"),
        ({"event": "E", "within": {"calendar": "day", "tz": "Mars/Olympus"}}, "/rule/within/tz"),
        ({"not": {"trait": "plan", "op": "in", "value": "pro"}}, "/rule/not/value"),
    ]
    assert [refuse(rule) for rule, _ in mistakes] == [place for _, place in mistakes]


def test_point_25_a_key_begins_with_a_letter_and_is_up_to_100_characters() -> None:
    assert [is_key(key) for key in ("vip", "a.b_1", "a" * 100)] == [True] * 3
    wrong = ("Vip", "1a", "_a", ".a", "a-b", "a b", "", "é", "a" * 101, "a\n")
    assert [is_key(key) for key in wrong] == [False] * len(wrong)


def test_point_27_why_is_the_rule_with_holds_on_every_node_and_what_was_found_on_every_leaf() -> (
    None
):
    rule = {"all": [trait("eq", 1), {"not": {"event": "E"}}, trait("exists", path="q")]}
    why = explain(parse_rule(rule), facts(person(traits=[said(1)])), NOW)
    assert why["holds"] is False
    found, inverted, absent = why["all"]
    assert (found["holds"], found["value"], found["op"], found["trait"]) == (True, 1, "eq", "p")
    assert (inverted["holds"], inverted["not"]["holds"], inverted["not"]["value"]) == (
        True, False, 0,
    )  # fmt: skip
    assert (absent["holds"], absent["value"]) == (False, None)


def test_point_28_the_newest_value_counts_whatever_the_order_of_arrival(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    def told(*facts_told: TraitFact) -> Person:
        nodes = [person(traits=[fact]).nodes[0] for fact in facts_told]
        return Person(nodes)

    late = told(said("new", at=NOW - DAY), said("old", at=NOW - 2 * DAY))
    tie = told(said("new", message="b"), said("old", message="a"))
    ahead = told(said("old"), said("new", at=NOW + TICK))
    world = World(duck, {"late": late, "tie": tie, "ahead": ahead})
    assert world.who(trait("eq", "new")) == {"late", "tie"}
    assert world.who(trait("eq", "new"), NOW + TICK) == {"late", "tie", "ahead"}
    consent = ConsentFact("marketing", True, NOW + TICK, "m", 1)
    belonging = [Belonging("acme", True, NOW + TICK)]
    world = World(
        duck, {"ahead": person(consents=[consent], belongings=belonging)}, {"acme": [said(1)]}
    )
    for rule in ({"consent": "marketing", "op": "granted"}, {"account": trait("eq", 1)}):
        assert (world.who(rule), world.who(rule, NOW + TICK)) == (set(), {"ahead"})


def test_point_29_after_a_merge_the_most_restrictive_counts_until_a_newer_statement(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    def joined(*answers: tuple[bool, datetime]) -> Person:
        nodes = [
            person(consents=[ConsentFact("marketing", granted, at, f"m{n}", 1)]).nodes[0]
            for n, (granted, at) in enumerate(answers)
        ]
        return Person(nodes, joined_at=NOW - DAY)

    before, after = NOW - 3 * DAY, NOW - DAY / 2
    restricted = joined((False, before - DAY), (True, before))
    replaced = joined((False, before), (True, after))
    world = World(duck, {"restricted": restricted, "replaced": replaced})
    assert world.who({"consent": "marketing", "op": "granted"}) == {"replaced"}
    assert world.who({"consent": "marketing", "op": "denied"}) == {"restricted"}


def test_point_30_each_operator_takes_its_own_shape_of_value() -> None:
    wrong: list[tuple[str, Any]] = [
        ("in", 1), ("not_in", {"a": 1}), ("in", [[1]]), ("in", [None]), ("between", [1]),
        ("between", [1, "2"]), ("between", 1), ("before", "soon"), ("after", 5),
        ("within_last", "1"), ("within_last", 30), ("contains", 1), ("matches", ["a"]),
        ("eq", None), ("eq", [1]), ("ne", {"a": 1}), ("gt", None), ("exists", 1),
        ("eq", {"amount": 1, "currency": "CNY"}),
    ]  # fmt: skip
    assert {refuse(trait(op, value)).startswith("/rule/value") for op, value in wrong} == {True}
    money = {"amount": 1, "currency": "CNY"}
    for op, value in (("eq", money), ("in", [money, 5]), ("between", [money, money])):
        parse_rule({"orders": {"where": [{"property": "total", "op": op, "value": value}]}})


def test_point_31_rules_32_deep_with_1000_leaves_and_10000_values_are_served(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    dotted = person(traits=[said(1, r"a.b\c")])
    world = World(duck, {**with_traits(in_list=9_999), "dotted": dotted})
    deep: Any = trait("eq", 9_999)
    for _ in range(31):
        deep = {"all": [deep]}
    assert world.who(deep) == {"in_list"}
    assert refuse({"all": [deep]}) == "/rule" + "/all/0" * 32
    assert world.who(trait("in", list(range(10_000)))) == {"in_list"}
    assert world.who({"any": [trait("eq", n + 9_500) for n in range(1_000)]}) == {"in_list"}
    assert world.who(trait("eq", 1, path=r"a\.b\c")) == {"dotted"}
    assert world.who(trait("eq", 1, path=r"a\.b\\c")) == {"dotted"}
    assert refuse(trait("eq", "x" * 1024 * 1024)) == "/rule"


def test_point_32_the_longest_key_is_the_tag_and_identifiers_are_normalised(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    tagged = {"rfm": {"group": {"name": "inner"}}, "rfm.group": {"name": "outer"}}
    world = World(duck, {"ann": person(tags=tagged, identifiers={"email": ["ann@x.com"]})})
    inner = {"tag": "rfm.group.name", "op": "eq", "value": "inner"}
    assert world.who(inner, known_tags={"rfm"}) == {"ann"}
    assert world.who(inner, known_tags={"rfm", "rfm.group"}) == set()
    email = {"identifier": "email", "op": "in", "value": [" Ann@X.com "]}

    def as_identifier(kind: str, value: Any) -> str | None:
        return normalise(kind, value, default_rules())

    assert world.who(email, normalise=as_identifier) == {"ann"}
    assert world.who({**email, "op": "contains", "value": "Ann"}, normalise=as_identifier) == set()


def test_point_33_without_a_dated_rate_a_sum_is_absent_and_an_unknown_status_is_kept(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    # Rates by date, and orders made from events: ``test_rates.py``, ``test_order_record.py``.
    order = OrderRow("o", NOW - DAY, "CNY", 100, texts={"status": "on the moon"})
    world = World(duck, {"ann": person(orders=[order])})

    def sum_in(currency: str) -> dict[str, Any]:
        fn = {"fn": "sum", "property": "total", "currency": currency}
        return {"orders": {}, "aggregate": fn, "op": "eq", "value": 1}

    assert world.who(sum_in("CNY")) == {"ann"}
    assert world.who({**sum_in("USD"), "op": "gte", "value": -1}) == set()
    status = {"property": "status", "op": "eq", "value": "on the moon"}
    assert world.who({"orders": {"where": [status]}}) == {"ann"}
