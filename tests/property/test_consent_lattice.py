"""Who may be reached: the lattice of purposes and channels, one answer in Python and both SQLs."""

from __future__ import annotations

from datetime import datetime

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.model import DEFAULT_CONSENT_AT
from cdp.profiles.consent import join_consents
from cdp.reach import (
    Statement,
    decide_consent,
    list_names,
    may_be_reached,
    split_name,
    write_reach_query,
)
from tests.support.profile_rows import hour

NAMES = ("marketing", "marketing.email", "marketing.sms", "ads")
moments = st.one_of(st.integers(0, 8).map(hour), st.just(DEFAULT_CONSENT_AT))
statements = st.lists(
    st.builds(
        Statement,
        purpose=st.sampled_from(NAMES),
        granted=st.booleans(),
        at=moments,
        message_id=st.sampled_from(("a", "b", "c")),
        source_number=st.integers(1, 2),
        node_id=st.integers(1, 3),
        evidence=st.none(),
    ),
    max_size=8,
)
joins = st.one_of(st.none(), st.integers(0, 8).map(hour))
few = settings(max_examples=40, deadline=None)


def may(said: list[Statement], joined_at: datetime | None, channel: str | None) -> bool:
    return may_be_reached(said, joined_at, "marketing", channel, hour(9))


@few
@given(statements, joins, st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(said, joined_at, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = [*said, *said[:3]]
    random.shuffle(shuffled)
    for channel in (None, "email", "phone"):
        assert may(said, joined_at, channel) == may(shuffled, joined_at, channel)


@few
@given(statements)
def test_at_a_join_everybody_who_said_anything_must_have_agreed(said: list[Statement]) -> None:
    for name, channel in (("marketing", None), ("marketing.email", "email")):
        alone = [
            decide_consent([one for one in said if one.node_id == node], None, name, hour(9))
            for node in (1, 2, 3)
        ]
        stated = [one for one in alone if one is not None]
        spoken = [one for one in stated if not one.is_default] or stated
        agreed = bool(spoken) and all(one.granted for one in spoken)
        assert may(said, hour(9), channel) is agreed


@few
@given(statements, joins, st.booleans())
def test_a_purpose_wide_statement_after_everything_decides_for_every_channel(
    said: list[Statement], joined_at: datetime | None, granted: bool
) -> None:
    last = Statement("marketing", granted, hour(8.5), "z", 1, 1)
    for channel in (None, "email", "sms", "phone"):
        assert may([*said, last], joined_at, channel) is granted


@few
@given(statements, joins)
def test_a_channels_own_statement_changes_nothing_for_the_purpose_and_other_channels(
    said: list[Statement], joined_at: datetime | None
) -> None:
    own = Statement("marketing.email", False, hour(8.5), "z", 1, 1)
    assert not may([*said, own], joined_at, "email")
    for channel in (None, "sms"):
        assert may([*said, own], joined_at, channel) == may(said, joined_at, channel)


@few
@given(statements)
def test_in_one_message_the_refusal_counts_for_the_channel(said: list[Statement]) -> None:
    wide = Statement("marketing", False, hour(8.5), "z", 1, 1)
    own = wide._replace(purpose="marketing.email", granted=True)
    assert not may([*said, wide, own], None, "email")
    flipped = [wide._replace(granted=True), own._replace(granted=False)]
    assert not may([*said, *flipped], None, "email")


@few
@given(statements, joins, st.integers(-1, 9))
def test_nobody_is_heard_before_they_spoke(
    said: list[Statement], joined_at: datetime | None, hours: int
) -> None:
    then = hour(hours)
    until = [one for one in said if one.at <= then]
    assert join_consents(said, joined_at, then) == join_consents(until, joined_at, then)


@pytest.fixture(scope="module")
def duck() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        """CREATE TABLE consents (purpose VARCHAR, granted BOOLEAN, "at" TIMESTAMPTZ,
                                  message_id VARCHAR, source_number INTEGER, node_id BIGINT);
           CREATE TABLE node_profiles AS SELECT i AS node_id, TIMESTAMPTZ '-infinity' AS since,
                  TIMESTAMPTZ 'infinity' AS until, 1::BIGINT AS profile_no FROM range(1, 4) t(i);
           CREATE TABLE profiles (profile_no BIGINT, joined_at TIMESTAMPTZ)"""
    )
    return connection


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_query_decides_as_the_function_does(
    duck: duckdb.DuckDBPyConnection, data: st.DataObject
) -> None:
    registers = {(one.node_id, one.purpose): one for one in data.draw(statements)}
    joined_at = data.draw(joins)
    duck.execute("DELETE FROM consents; DELETE FROM profiles")
    duck.execute("INSERT INTO profiles VALUES (1, ?)", [joined_at])
    for one in registers.values():
        duck.execute("INSERT INTO consents VALUES (?, ?, ?, ?, ?, ?)", list(one[:6]))
    for name in ("marketing", "marketing.email"):
        names = list_names(name)
        query = write_reach_query(
            "duckdb",
            names=[f"$n{place}" for place in range(len(names))],
            at="$at",
            default_at="$default_at",
        )
        params = {f"n{place}": one for place, one in enumerate(names)}
        params |= {"at": hour(6), "default_at": DEFAULT_CONSENT_AT}
        counted = decide_consent(registers.values(), joined_at, name, hour(6))
        wanted = [] if counted is None else [(1, counted.granted)]
        assert duck.execute(query, params).fetchall() == wanted


def test_only_known_channels_are_channels() -> None:
    assert split_name("marketing.email") == ("marketing", "email")
    assert split_name("v1.0") == ("v1.0", None)
    assert split_name(".email") == (".email", None)
