"""Workers share the partitions of a log fairly and take over from the dead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from cdp.log.leases import Leases
from cdp.storage.database import Database

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def _workers(database: Database, *names: str, partitions: int = 8) -> list[Leases]:
    return [Leases(database, "postgres", partitions, name, 10, 0) for name in names]


def test_between_two_looks_at_the_database_a_worker_keeps_what_it_held(
    database: Database,
) -> None:
    a = Leases(database, "postgres", 8, "a", ttl_seconds=10, renew_every_seconds=600)
    b = Leases(database, "postgres", 8, "b", ttl_seconds=10, renew_every_seconds=600)
    assert a.renew() == frozenset(range(8))
    b.renew()
    assert a.renew() == frozenset(range(8))
    a.release()
    assert a.renew() == {0, 1, 2, 3}


def test_one_worker_holds_everything(database: Database) -> None:
    [a] = _workers(database, "a")
    assert a.renew() == frozenset(range(8))
    assert a.renew() == frozenset(range(8))


def test_a_second_worker_gets_its_half_once_the_first_gave_it_up(database: Database) -> None:
    a, b = _workers(database, "a", "b")
    a.renew()
    # What somebody holds is never taken from under its hands.
    assert b.renew() == frozenset()
    assert a.renew() == {0, 1, 2, 3}
    assert b.renew() == {4, 5, 6, 7}
    assert a.renew() == {0, 1, 2, 3}


def test_three_workers_share_eight_partitions_as_three_three_two(database: Database) -> None:
    workers = _workers(database, "a", "b", "c")
    for _ in range(3):
        held = [worker.renew() for worker in workers]
    assert sorted(map(len, held)) == [2, 3, 3]
    assert frozenset().union(*held) == frozenset(range(8))


def test_more_workers_than_partitions_leave_some_idle(database: Database) -> None:
    workers = _workers(database, "a", "b", "c", partitions=2)
    for _ in range(3):
        held = [worker.renew() for worker in workers]
    assert [len(each) for each in held] == [1, 1, 0]


def test_a_dead_workers_partitions_are_taken_over_when_its_time_is_over(
    database: Database,
) -> None:
    a, b = _workers(database, "a", "b")
    a.renew(NOON), b.renew(NOON), a.renew(NOON), b.renew(NOON)
    assert b.renew(_after(9)) == {4, 5, 6, 7}
    assert b.renew(_after(10)) == frozenset(range(8))


def test_a_worker_that_was_thought_dead_comes_back_to_its_share(database: Database) -> None:
    a, b = _workers(database, "a", "b")
    a.renew(NOON)
    b.renew(_after(11))
    assert b.renew(_after(11)) == frozenset(range(8))
    assert a.renew(_after(12)) == frozenset()
    b.renew(_after(13))
    assert len(a.renew(_after(13))) == 4


def test_a_worker_that_releases_hands_over_at_once(database: Database) -> None:
    a, b = _workers(database, "a", "b")
    a.renew(), b.renew(), a.renew(), b.renew()
    a.release()
    assert b.renew() == frozenset(range(8))


def test_releasing_takes_nothing_from_others(database: Database) -> None:
    a, b = _workers(database, "a", "b")
    a.renew(), b.renew(), a.renew()
    assert b.renew() == {4, 5, 6, 7}
    a.release()
    a.release()
    assert b.renew() >= {4, 5, 6, 7}


def test_workers_of_another_log_do_not_count(database: Database) -> None:
    a = Leases(database, "postgres", 4, "a")
    b = Leases(database, "kafka:x:y", 2, "b")
    assert a.renew() == frozenset(range(4))
    assert b.renew() == frozenset(range(2))


def test_workers_that_renew_at_the_same_time_never_hold_the_same_partition(
    database: Database,
) -> None:
    workers = _workers(database, "a", "b", "c", "d")
    with ThreadPoolExecutor(4) as pool:
        for _ in range(6):
            held = list(pool.map(lambda worker: worker.renew(), workers))
    assert sum(map(len, held)) == 8
    assert frozenset().union(*held) == frozenset(range(8))
