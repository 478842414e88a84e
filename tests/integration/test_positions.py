"""Positions move by compare-and-set, together with the effects or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cdp.storage.database import Database, Driver
from cdp.storage.positions import StalePosition, advance_positions, read_positions


def test_a_log_that_nobody_read_stands_at_zero(database: Database) -> None:
    with psycopg.connect(database.libpq_url) as connection:
        assert read_positions(connection, "postgres") == {}


def test_positions_move_and_are_read_back(database: Database) -> None:
    with psycopg.connect(database.libpq_url) as connection:
        advance_positions(connection, "postgres", {0: (0, 10), 3: (0, 4)})
        advance_positions(connection, "postgres", {3: (4, 9), 5: (0, 1)})
        assert read_positions(connection, "postgres") == {0: 10, 3: 9, 5: 1}


def test_two_logs_keep_positions_of_their_own(database: Database) -> None:
    with psycopg.connect(database.libpq_url) as connection:
        advance_positions(connection, "postgres", {0: (0, 10)})
        advance_positions(connection, "kafka:abc:cdp.events", {0: (0, 7)})
        assert read_positions(connection, "postgres") == {0: 10}
        assert read_positions(connection, "kafka:abc:cdp.events") == {0: 7}


@pytest.mark.parametrize("expected", [0, 9, 11])
def test_an_unexpected_position_refuses_the_whole_move(database: Database, expected: int) -> None:
    with psycopg.connect(database.libpq_url, autocommit=True) as connection:
        advance_positions(connection, "postgres", {0: (0, 10), 1: (0, 10)})
        with pytest.raises(StalePosition), connection.transaction():
            advance_positions(connection, "postgres", {0: (expected, 20), 1: (10, 20)})
        assert read_positions(connection, "postgres") == {0: 10, 1: 10}


def test_a_position_that_is_not_there_cannot_be_expected_beyond_zero(database: Database) -> None:
    with psycopg.connect(database.libpq_url) as connection, pytest.raises(StalePosition):
        advance_positions(connection, "postgres", {0: (5, 6)})


def test_moving_nothing_is_allowed(database: Database) -> None:
    with psycopg.connect(database.libpq_url) as connection:
        advance_positions(connection, "postgres", {})
        assert read_positions(connection, "postgres") == {}


@pytest.mark.parametrize("start", [0, 10])
def test_of_two_workers_with_the_same_records_one_commits_and_the_other_is_told(
    database: Database, start: int
) -> None:
    if start:
        with psycopg.connect(database.libpq_url) as connection:
            advance_positions(connection, "postgres", dict.fromkeys(range(4), (0, start)))
    first = psycopg.connect(database.libpq_url)
    advance_positions(first, "postgres", dict.fromkeys(range(4), (start, start + 5)))

    def run_second(order: list[int]) -> str:
        with psycopg.connect(database.libpq_url) as second:
            return _advance(second, dict.fromkeys(order, (start, start + 7)))

    with ThreadPoolExecutor(1) as pool:
        # It waits for the first, whose outcome decides.
        outcome = pool.submit(run_second, [3, 1, 2, 0])
        _wait_for_a_lock(database)
        first.commit()
        assert outcome.result() == "stale"
    with first:
        assert read_positions(first, "postgres") == dict.fromkeys(range(4), start + 5)


def test_when_the_first_of_two_workers_fails_the_second_goes_through(database: Database) -> None:
    first = psycopg.connect(database.libpq_url)
    advance_positions(first, "postgres", {0: (0, 5)})

    def run_second() -> str:
        with psycopg.connect(database.libpq_url) as second:
            return _advance(second, {0: (0, 7)})

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(run_second)
        _wait_for_a_lock(database)
        first.rollback()
        assert outcome.result() == "moved"
    with first:
        assert read_positions(first, "postgres") == {0: 7}


def _advance(connection: Driver, moves: dict[int, tuple[int, int]]) -> str:
    try:
        advance_positions(connection, "postgres", moves)
    except StalePosition:
        connection.rollback()
        return "stale"
    return "moved"


def _wait_for_a_lock(database: Database) -> None:
    with psycopg.connect(database.libpq_url, autocommit=True) as connection:
        while True:
            row = connection.execute(
                """SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'"""
            ).fetchone()
            if row is not None and row[0]:
                return
