"""The hot statements find their rows by index, also in large tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdp.storage.batches import BatchChanges, open_batch
from cdp.storage.database import Database, driver
from tests.support.identity_rows import apply, make_store
from tests.support.identity_world import START, saw
from tests.support.postgres import PostgresServer

_MANY = 20_000


@pytest.fixture(scope="module")
def crowded(postgres_server: PostgresServer) -> Iterator[Database]:
    """A database of many people with one user id and one device each."""
    with postgres_server.fresh_url() as url:
        database = Database(url)
        store = make_store()
        for start in range(0, _MANY, 5_000):
            apply(
                database,
                store,
                *(
                    saw(f"user_id:{n} anonymous_id:{n}", n % 300)
                    for n in range(start, start + 5_000)
                ),
            )
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as one:
            driver(one).execute("VACUUM ANALYZE")
        yield database
        database.close()


def _scans(database: Database, *seen: object) -> dict[str, tuple[int, int]]:
    """Return (rows read by sequential scans, index scans) that a batch adds, per table."""
    store = make_store()
    counters = """SELECT relname, coalesce(seq_tup_read, 0), coalesce(idx_scan, 0)
                    FROM pg_stat_xact_user_tables"""
    with database.transaction() as connection:
        tx = driver(connection)
        before = {row[0]: row[1:] for row in tx.execute(counters)}
        store.apply(tx, open_batch(tx), seen, BatchChanges(), START)  # type: ignore[arg-type]
        after = {row[0]: row[1:] for row in tx.execute(counters)}
        tx.rollback()
    return {
        table: (after[table][0] - before[table][0], after[table][1] - before[table][1])
        for table in after
    }


@pytest.mark.parametrize("size", [1, 50])
def test_a_known_persons_batch_reads_no_table_from_end_to_end(crowded: Database, size: int) -> None:
    seen = [saw(f"user_id:{n} anonymous_id:{n}", 400) for n in range(size)]
    scans = _scans(crowded, *seen)
    for table in ("nodes", "links", "node_profiles", "profiles"):
        rows, index_scans = scans[table]
        assert rows == 0, table
        assert index_scans >= size, table


def test_a_merge_reads_only_the_components_that_meet(crowded: Database) -> None:
    seen = [saw(f"anonymous_id:{n} email:{n}@x", 400) for n in range(10)]
    seen += [saw(f"user_id:{n} crm_id:{n}", 400) for n in range(10)]
    scans = _scans(crowded, *seen)
    for table in ("nodes", "links", "node_profiles", "profiles"):
        assert scans[table][0] == 0, table


def test_counters_of_known_people_are_updated_in_place(crowded: Database) -> None:
    statement = """SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables
                    WHERE relname = 'nodes'"""
    store = make_store()
    with crowded.transaction() as connection:
        tx = driver(connection)
        # What earlier transactions of this session did may be counted still.
        before = tx.execute(statement).fetchone() or (0, 0)
        seen = [saw(f"user_id:{n * 150} anonymous_id:{n * 150}", 401) for n in range(100)]
        store.apply(tx, open_batch(tx), seen, BatchChanges(), START)
        after = tx.execute(statement).fetchone()
        tx.rollback()
    assert after is not None
    assert after[0] - before[0] == 200
    assert after[1] - before[1] >= 180
