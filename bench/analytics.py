"""The feed against a plain insert of the same rows, both into a DuckDB file, taking turns.

The plain insert is given its Arrow tables ready; the feed has to fetch them from Postgres, replace
by key, find new properties and keep its position.
"""

from __future__ import annotations

import json
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bench.payload import PEOPLE, make_track
from bench.ratios import compare, take_turns
from bench.worker import open_database
from cdp.analytics.changes_store import ChangesStore
from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.runtime.clock import now
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, Driver, driver

BATCH = 5_000
BATCHES = 20
MEMORY, THREADS = "512MB", 2

_PLAIN = """
CREATE TABLE events (
    seq BIGINT, ordinal INTEGER, node_id BIGINT, source_number INTEGER, message_id VARCHAR,
    type VARCHAR, event VARCHAR, "at" TIMESTAMPTZ, received_at TIMESTAMPTZ, properties JSON,
    context JSON, group_id VARCHAR)
"""


class World:
    """Events in Postgres, in batches of which ever more are committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._at = now()
        with database.transaction() as connection:
            tx = driver(connection)
            tx.execute(
                """INSERT INTO nodes (type, value, profile_id, component_id, first_seen, last_seen)
                   SELECT 'user_id', 'user-' || i, 'prf_' || i, i, now(), now()
                     FROM generate_series(1, %s) i""",
                (PEOPLE,),
            )
            tx.execute("INSERT INTO node_profiles SELECT node_id, '-infinity', 'infinity', node_id"
                       " FROM nodes")  # fmt: skip
            tx.execute("INSERT INTO profiles (profile_no, profile_id)"
                       " SELECT node_id, profile_id FROM nodes")  # fmt: skip
            tx.execute("INSERT INTO sources (source_id, name, type) VALUES ('s', 's', 'server')")
            self._people = [row[0] for row in tx.execute("SELECT node_id FROM nodes").fetchall()]
            self._template = self._commit(tx, self._copy)

    def grow(self) -> None:
        """Commit another round's batches."""
        for _ in range(BATCHES):
            with self._database.transaction() as connection:
                self._commit(driver(connection), self._repeat)

    def _commit(self, tx: Driver, write: Any) -> int:
        batch_id = open_batch(tx)
        write(tx, batch_id)
        changes = BatchChanges(nodes=set(self._people), profiles=set(self._people))
        close_batch(tx, batch_id, changes, events=BATCH, received_until=self._at)
        return batch_id

    def _copy(self, tx: Driver, batch_id: int) -> None:
        with tx.cursor().copy(
            """COPY events (batch_id, ordinal, node_id, source_number, message_id, type, name, at,
                            received_at, properties, context) FROM STDIN"""
        ) as copy:
            for number in range(BATCH):
                person = self._people[number % PEOPLE]
                copy.write_row((batch_id, number, person, *_make_row(number, self._at)))

    def _repeat(self, tx: Driver, batch_id: int) -> None:
        tx.execute(
            """INSERT INTO events (batch_id, ordinal, node_id, source_number, message_id, type,
                                   name, at, received_at, properties, context)
               SELECT %s, ordinal, node_id, source_number, message_id, type, name, at, received_at,
                      properties, context FROM events WHERE batch_id = %s""",
            (batch_id, self._template),
        )


def _make_row(number: int, at: datetime) -> tuple[Any, ...]:
    track = make_track(number % PEOPLE, number)
    documents = [json.dumps(track[part], ensure_ascii=False) for part in ("properties", "context")]
    return (1, track["messageId"], "track", track["event"], at, at, *documents)


def _fetch(url: str, after: int) -> list[pa.Table]:
    """The rows of a round, as the feed would fetch them in one go."""
    store = ChangesStore(url)
    tables: list[pa.Table] = []
    while True:
        changes = store.read(after, BATCH * 10)
        if not changes.batches:
            break
        tables.append(changes.changed["events"])
        after = changes.seq
    store.close()
    return tables


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure goal 21."""
    rounds = 5 if quick else 9
    with open_database() as database, tempfile.TemporaryDirectory(prefix="cdp-bench-") as folder:
        world = World(database)
        engine = Engine(Path(folder) / "ours.duckdb", MEMORY, THREADS)
        feed = Feed(database, engine)
        feed.catch_up()
        plain = duckdb.connect(
            str(Path(folder) / "plain.duckdb"),
            config={"memory_limit": MEMORY, "threads": str(THREADS)},
        )
        plain.execute(_PLAIN)
        world.grow()
        rows = _fetch(database.libpq_url, engine.applied_seq())
        feed.catch_up()

        def ours() -> float:
            world.grow()
            started = time.perf_counter()
            feed.catch_up()
            return time.perf_counter() - started

        def theirs() -> float:
            started = time.perf_counter()
            for incoming in rows:  # noqa: B007  (DuckDB reads it by its name)
                plain.execute("INSERT INTO events FROM incoming")
            return time.perf_counter() - started

        ours()
        theirs()
        pairs = take_turns(rounds, ours, theirs)
        feed.close()
        plain.close()
        engine.close()
    events = BATCH * BATCHES
    return [
        compare(
            21,
            "feed Postgres to DuckDB, to a plain insert of the same rows from Arrow",
            [theirs / mine for mine, theirs in pairs],
            at_least=0.50,
            events_per_second=[events / mine for mine, _ in pairs],
            plain_rows_per_second=[events / theirs for _, theirs in pairs],
        )
    ]
