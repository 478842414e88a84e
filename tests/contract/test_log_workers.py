"""Workers that share a log: every record takes effect exactly once, whoever dies in between."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from cdp.log.leases import Leases
from cdp.log.port import Log
from cdp.storage.database import Database, driver
from cdp.storage.positions import StalePosition, advance_positions, read_positions
from tests.contract.conftest import PARTITIONS, Place
from tests.contract.log_records import append, record, wait_until

TTL_SECONDS = 1.0


@dataclass
class Worker:
    """The smallest worker: its effect is a row per record, in the transaction of the position."""

    name: str
    log: Log
    database: Database
    leases: Leases = field(init=False)
    held: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.leases = Leases(
            self.database, self.log.name, self.log.partitions, self.name, TTL_SECONDS, 0
        )

    def renew(self) -> frozenset[int]:
        self.held = self.leases.renew()
        return self.held

    def step(self, *, max_bytes: int = 300) -> int:
        """Renew, read a little, commit it; return the number of records."""
        self.renew()
        return self.work(max_bytes=max_bytes)

    def work(self, *, max_bytes: int = 300) -> int:
        with self.database.transaction() as connection:
            known = read_positions(driver(connection), self.log.name)
        positions = {partition: known.get(partition, 0) for partition in self.held}
        if not positions:
            return 0
        records = self.log.read(positions, max_bytes=max_bytes, wait_seconds=0.1)
        if not records:
            return 0
        newest = {one.partition: one.offset + 1 for one in records}
        moves = {partition: (positions[partition], end) for partition, end in newest.items()}
        with self.database.transaction() as connection:
            conn = driver(connection)
            for one in records:
                conn.execute(
                    "INSERT INTO effects VALUES (%s, %s, %s)",
                    (one.value.decode(), one.partition, self.name),
                )
            advance_positions(conn, self.log.name, moves)
        return len(records)


@pytest.fixture
def place_with_effects(place: Place) -> Place:
    with place.database.transaction() as connection:
        # No unique key: a doubled effect must show, not fail.
        connection.exec_driver_sql("CREATE TABLE effects (value text, partition int, worker text)")
    return place


def _start(place: Place, *names: str) -> list[Worker]:
    workers = [Worker(name, place.open(), place.database) for name in names]
    for _ in range(2):
        for worker in workers:
            worker.renew()
    return workers


def _effects(database: Database) -> list[str]:
    with database.transaction() as connection:
        rows = connection.exec_driver_sql("SELECT value FROM effects ORDER BY value").fetchall()
    return [row[0] for row in rows]


def _append_numbered(log: Log, start: int, stop: int) -> list[str]:
    names = [f"v{n:05d}" for n in range(start, stop)]
    append(log, *[record(n % PARTITIONS, name) for n, name in enumerate(names)])
    return names


def test_two_workers_share_the_records_and_each_takes_effect_once(
    place_with_effects: Place,
) -> None:
    place = place_with_effects
    a, b = _start(place, "a", "b")
    expected = _append_numbered(a.log, 0, 400)

    def run(worker: Worker) -> None:
        wait_until(lambda: worker.step() == 0 and len(_effects(place.database)) >= 400)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in (a, b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _effects(place.database) == expected
    assert len(a.held) == len(b.held) == PARTITIONS // 2


def test_a_worker_takes_over_from_a_dead_one_where_that_one_stopped(
    place_with_effects: Place,
) -> None:
    place = place_with_effects
    a, b = _start(place, "a", "b")
    expected = _append_numbered(a.log, 0, 200)
    wait_until(lambda: a.work() > 0)
    # From here on a is silent, as if killed.
    wait_until(lambda: b.step() == 0 and len(_effects(place.database)) == 200)
    assert _effects(place.database) == expected
    assert b.held == frozenset(range(PARTITIONS))


def test_a_worker_that_stops_hands_over_without_anybody_waiting(
    place_with_effects: Place,
) -> None:
    a, b = _start(place_with_effects, "a", "b")
    expected = _append_numbered(a.log, 0, 100)
    a.leases.release()
    b.renew()
    assert b.held == frozenset(range(PARTITIONS))
    wait_until(lambda: b.work() == 0 and len(_effects(place_with_effects.database)) == 100)
    assert _effects(place_with_effects.database) == expected


def test_a_stale_worker_is_fenced_and_leaves_no_trace(place_with_effects: Place) -> None:
    place = place_with_effects
    [a] = _start(place, "a")
    expected = _append_numbered(a.log, 0, 40)
    stale = Worker("stale", place.open(), place.database)
    stale.held = frozenset(range(PARTITIONS))
    # Both read the same records; the one with the lease commits in between.
    with place.database.transaction() as connection:
        before = read_positions(driver(connection), a.log.name)
    wait_until(lambda: a.step(max_bytes=10_000) == 0 and len(_effects(place.database)) == 40)
    with pytest.raises(StalePosition):
        _commit_stale(stale, {p: (before.get(p, 0), 10) for p in range(PARTITIONS)})
    assert _effects(place.database) == expected


def _commit_stale(stale: Worker, moves: dict[int, tuple[int, int]]) -> None:
    with stale.database.transaction() as connection:
        conn = driver(connection)
        conn.execute("INSERT INTO effects VALUES ('doubled', 0, 'stale')")
        advance_positions(conn, stale.log.name, moves)


def test_workers_that_all_believe_to_hold_everything_still_do_nothing_twice(
    place_with_effects: Place,
) -> None:
    """The worst case of leases gone wrong: only the positions stand between them."""
    place = place_with_effects
    workers = [Worker(name, place.open(), place.database) for name in "abc"]
    expected = _append_numbered(workers[0].log, 0, 300)
    fenced: list[str] = []

    def run(worker: Worker) -> None:
        worker.held = frozenset(range(PARTITIONS))

        def is_done() -> bool:
            try:
                worker.work(max_bytes=100)
            except StalePosition:
                fenced.append(worker.name)
            return len(_effects(place.database)) >= 300

        wait_until(is_done)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _effects(place.database) == expected
