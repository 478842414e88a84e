"""When it may be said that everything up to a time is in."""

from __future__ import annotations

from datetime import UTC, datetime

from cdp.analytics.changes_store import merge_positions, take_batches
from cdp.analytics.freshness import Freshness

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_look_is_reached_when_every_partition_has_come_to_its_end() -> None:
    freshness = Freshness()
    freshness.look(NOON, "log", {0: 3, 1: 5})
    assert freshness.reached({"log": {0: 3, 1: 4}}) is None
    assert freshness.reached({"other": {0: 9, 1: 9}}) is None
    assert freshness.reached({"log": {0: 7, 1: 5}}) == NOON


def test_an_empty_log_is_reached_at_once() -> None:
    freshness = Freshness()
    freshness.look(NOON, "log", {0: 0, 1: 0})
    assert freshness.reached({}) == NOON


def test_a_look_counts_once() -> None:
    freshness = Freshness()
    assert freshness.wants_look()
    freshness.look(NOON, "log", {})
    assert not freshness.wants_look()
    assert freshness.reached({}) == NOON
    assert freshness.reached({}) is None
    assert freshness.wants_look()


def test_a_chunk_has_one_batch_at_least_and_stays_below_its_size() -> None:
    rows = [
        {"seq": n, "events": size, "orders": 0, "accounts": 0}
        for n, size in enumerate((90, 5, 5, 1))
    ]
    assert [row["seq"] for row in take_batches(rows, 50)] == [0]
    assert [row["seq"] for row in take_batches(rows[1:], 10)] == [1, 2]


def test_positions_never_move_back() -> None:
    positions = {"log": {0: 5}}
    merge_positions(positions, {"log": {"0": 3, "1": 2}, "other": {"0": 1}})
    assert positions == {"log": {0: 5, 1: 2}, "other": {0: 1}}
