"""The ledger: a message has its effect once, whether its key is a row still or packed already."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config

from cdp.model import Source
from cdp.storage import ledger_packing
from cdp.storage.database import Database, driver
from cdp.storage.ledger import claim_messages, key_message
from cdp.storage.ledger_packing import SliceSize, pack_ledger, pack_slice
from cdp.storage.migrate import _configure
from tests.support.postgres import PostgresServer

SOURCE = Source("s", 1, "shop", "web")
MONDAY = date(2026, 3, 2)
# So small that a few hundred keys need many slices.
SMALL = SliceSize(pages=2, rows=60)


@dataclass(frozen=True)
class Message:
    message_id: str
    source: Source = SOURCE


def claim(database: Database, *messages: Message) -> tuple[list[str], list[str]]:
    with database.transaction() as connection:
        fresh, duplicates = claim_messages(driver(connection), messages)
    return [m.message_id for m in fresh], [m.message_id for m in duplicates]


def claim_numbers(database: Database, numbers: Sequence[int]) -> int:
    """Claim a message for each; return how many were new."""
    return len(claim(database, *(Message(f"m{number}") for number in numbers))[0])


def pack(database: Database, day: date = MONDAY, *, size: SliceSize = SMALL) -> int:
    return pack_ledger(database, day, keep_days=7, size=size)


def count(database: Database, what: str) -> int:
    with database.transaction() as connection:
        return int(connection.exec_driver_sql(f"SELECT {what}").scalar() or 0)


def count_rows(database: Database) -> int:
    return count(database, "count(*) FROM ledger")


def count_packed(database: Database) -> int:
    return count(database, "coalesce(sum(cardinality(keys)), 0) FROM ledger_pages")


def test_of_two_equal_messages_in_a_batch_the_first_counts(database: Database) -> None:
    assert claim(database, Message("a"), Message("a")) == (["a"], ["a"])


def test_a_message_of_another_source_is_another_message(database: Database) -> None:
    other = Message("a", Source("t", 2, "till", "store"))
    assert claim(database, Message("a"), other) == (["a", "a"], [])


def test_a_packed_message_that_comes_again_is_a_duplicate(database: Database) -> None:
    assert claim_numbers(database, range(700)) == 700
    assert pack(database) > 5
    assert (count_rows(database), count_packed(database)) == (0, 700)
    assert claim_numbers(database, range(700)) == 0
    assert claim_numbers(database, range(650, 750)) == 50
    assert (count_rows(database), count_packed(database)) == (50, 700)


def test_whatever_the_order_of_claims_and_packing_each_message_is_new_once(
    database: Database,
) -> None:
    chance = random.Random(7)
    known: set[int] = set()
    day = MONDAY
    for _ in range(25):
        numbers = [chance.randrange(6000) for _ in range(chance.randrange(1, 400))]
        assert claim_numbers(database, numbers) == len(set(numbers) - known)
        known |= set(numbers)
        if chance.random() < 0.4:
            # A day later at most, so that nothing is forgotten within the test.
            day += timedelta(days=chance.randrange(2))
            pack_ledger(
                database,
                min(day, MONDAY + timedelta(days=6)),
                keep_days=7,
                # Broken off after some slices, and taken up by the next.
                wait=lambda _: chance.random() < 0.2,
                size=SliceSize(pages=chance.randrange(1, 5), rows=chance.randrange(1, 200)),
            )
    assert claim_numbers(database, range(6000)) == 6000 - len(known)


def test_a_message_is_known_for_seven_days_and_then_forgotten(database: Database) -> None:
    claim_numbers(database, range(300))
    pack(database)
    claim_numbers(database, range(300, 400))
    for days in range(1, 8):
        pack(database, MONDAY + timedelta(days=days))
        assert claim_numbers(database, range(400)) == 0
    pack(database, MONDAY + timedelta(days=8))
    # Those of the second hour were packed on Wednesday, and count as Wednesday's.
    assert count_packed(database) == 100
    assert claim_numbers(database, range(300)) == 300


def test_packing_waits_for_its_day_or_for_enough_rows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_packing, "ENOUGH_ROWS", 100)
    assert pack(database) == 0
    claim_numbers(database, range(2000))
    assert pack(database, size=SliceSize()) == 1
    # A fifth of what is packed, and not before.
    claim_numbers(database, range(2000, 2400))
    assert pack(database, MONDAY + timedelta(days=1)) == 0
    claim_numbers(database, range(2400, 2450))
    assert pack(database, MONDAY + timedelta(days=1)) > 1
    assert count_rows(database) == 0
    claim_numbers(database, range(2450, 2451))
    assert pack(database, MONDAY + timedelta(days=2)) == 0
    assert pack(database, MONDAY + timedelta(days=3)) > 1


def test_a_packer_that_dies_within_a_slice_changes_nothing(database: Database) -> None:
    claim_numbers(database, range(500))
    pack(database)
    claim_numbers(database, range(500, 1000))
    half = UUID(int=0)
    with database.engine.connect() as connection:
        pack_slice(driver(connection), half, MONDAY, keep_days=7, size=SMALL)
        driver(connection).rollback()
    assert (count_rows(database), count_packed(database)) == (500, 500)
    assert claim_numbers(database, range(1000)) == 0


def test_a_packer_that_dies_between_slices_is_followed_by_one_that_goes_on(
    database: Database,
) -> None:
    claim_numbers(database, range(1000))

    def die(_: float) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_ledger(database, MONDAY, keep_days=7, wait=die, size=SMALL)
    assert 0 < count_packed(database) < 200
    assert claim_numbers(database, range(1000)) == 0
    slices = pack(database)
    assert slices < 1000 / SMALL.rows + 1
    assert (count_rows(database), count_packed(database)) == (0, 1000)
    assert claim_numbers(database, range(1000)) == 0


def test_of_two_packers_one_works(database: Database) -> None:
    claim_numbers(database, range(500))
    others: list[int] = []

    def pack_too(_: float) -> bool:
        others.append(pack(database))
        return False

    pack_ledger(database, MONDAY, keep_days=7, wait=pack_too, size=SMALL)
    assert set(others) == {0}


@pytest.mark.parametrize("is_packed_first", [True, False])
def test_a_claim_and_a_packing_at_once_know_of_each_other(
    database: Database, is_packed_first: bool
) -> None:
    numbers = range(200)
    claim_numbers(database, numbers)
    results: list[int] = []

    def claim_again() -> None:
        results.append(claim_numbers(database, numbers))

    if is_packed_first:
        # The claim waits for the packer's transaction, and must see what that has moved.
        with database.engine.connect() as connection:
            pack_slice(driver(connection), UUID(int=0), MONDAY, keep_days=7)
            thread = threading.Thread(target=claim_again)
            thread.start()
            _wait_for_a_blocked_one(database)
            driver(connection).commit()
    else:
        # The packer waits for the claim's transaction, and must move what that has entered.
        with database.engine.connect() as connection:
            claim_messages(driver(connection), [Message("m999")])
            thread = threading.Thread(target=pack, args=(database,))
            thread.start()
            _wait_for_a_blocked_one(database)
            driver(connection).commit()
    thread.join(30)
    if is_packed_first:
        assert results == [0]
    else:
        assert (count_rows(database), count_packed(database)) == (0, 201)


def _wait_for_a_blocked_one(database: Database) -> None:
    pause = threading.Event()
    for _ in range(400):
        if count(database, "count(*) FROM pg_locks WHERE NOT granted"):
            return
        pause.wait(0.025)
    raise AssertionError("nobody waits")


def test_of_two_transactions_that_claim_one_message_one_gets_it(database: Database) -> None:
    results: list[int] = []
    with database.engine.connect() as connection:
        fresh, _ = claim_messages(driver(connection), [Message("m1"), Message("m2")])
        thread = threading.Thread(target=lambda: results.append(claim_numbers(database, (2, 1, 3))))
        thread.start()
        _wait_for_a_blocked_one(database)
        driver(connection).commit()
    thread.join(30)
    assert (len(fresh), results) == (2, [1])


def test_a_packed_message_takes_a_quarter_of_a_rows_place(database: Database) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO ledger SELECT gen_random_uuid() FROM generate_series(1, 60000)"
        )
    size = "pg_total_relation_size('{}')"
    as_rows = count(database, size.format("ledger")) / 60_000
    pack(database, size=SliceSize())
    packed = count(database, size.format("ledger_pages")) / 60_000
    assert as_rows > 70
    assert packed < 22
    # No key lies outside of its row.
    assert count(database, "coalesce(max(pg_column_size(keys)), 0) FROM ledger_pages") > 1700
    toast = "pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'ledger_pages'"
    assert count(database, toast) == 0
    assert count_packed(database) == 60_000


def test_what_the_ledger_by_week_knew_is_known_after_the_migration_and_after_its_undoing(
    postgres_server: PostgresServer,
) -> None:
    keys = [key_message("s", f"m{number}") for number in range(300)]
    with postgres_server.fresh_url(migrated=False) as url:
        database = Database(url)
        move_schema(database, command.upgrade, "0006")
        with database.transaction() as connection:
            tx = driver(connection)
            tx.execute(
                "CREATE TABLE ledger_20260302 PARTITION OF ledger"
                " FOR VALUES FROM ('2026-03-02') TO ('2026-03-09')"
            )
            tx.execute("INSERT INTO ledger SELECT '2026-03-02', unnest(%b::bytea[])", (keys,))
        move_schema(database, command.upgrade, "head")
        assert claim_numbers(database, range(301)) == 1
        # As if claimed on the last day of its week.
        pack(database, MONDAY + timedelta(days=6 + 7))
        assert count_packed(database) == 301
        move_schema(database, command.downgrade, "0006")
        assert count(database, "count(*) FROM ledger") == 301
        database.close()


def move_schema(database: Database, move: Callable[[Config, str], None], revision: str) -> None:
    config = _configure()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        move(config, revision)
        connection.commit()
