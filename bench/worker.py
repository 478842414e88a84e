"""The identity worker against the raw Postgres floor, on the same rows, in one server.

The floor does for a batch what no such program can do without: look the identifiers up, update the
people, append the events under a unique key. Its ids are resolved and its rows prepared beforehand.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.payload import PEOPLE, make_lines
from bench.ratios import compare, take_turns
from cdp.identity.identifiers import identify
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.sources_store import SourceDirectory, create_source
from cdp.log.format import RequestLines, pack_record
from cdp.log.postgres_log import PostgresLog
from cdp.runtime.clock import format_time, now
from cdp.runtime.embedded_postgres import EmbeddedPostgres
from cdp.runtime.memory import collect_rarely
from cdp.storage.database import Database, driver
from cdp.storage.migrate import migrate
from cdp.storage.partitions import ensure_partitions
from cdp.worker import Worker

BATCH = 5_000
BATCHES = 4

_FLOOR_SCHEMA = """
CREATE SCHEMA floor;
CREATE TABLE floor.identifiers (type text, value text, profile_id bigint,
                                PRIMARY KEY (type, value));
CREATE TABLE floor.profiles (profile_id bigint PRIMARY KEY, traits jsonb, last_seen timestamptz,
                             events bigint) WITH (fillfactor = 70);
CREATE TABLE floor.events (message_id uuid PRIMARY KEY, profile_id bigint, at timestamptz,
                           type text, name text, properties jsonb);
"""


@contextmanager
def open_database() -> Iterator[Database]:
    """A migrated database on a throw-away server, as ``cdp up`` would tune it."""
    with tempfile.TemporaryDirectory(prefix="cdp-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        database = Database(server.start())
        try:
            migrate(database)
            ensure_partitions(database, [now().date()])
            yield database
        finally:
            database.close()
            server.stop()


class Ours:
    """The worker as it runs: reading from the log, several batches in a row."""

    def __init__(self, database: Database) -> None:
        with database.transaction() as connection:
            source, _ = create_source(driver(connection), "bench", "server", {})
            salt = ensure_salt(driver(connection))
        self.source_id = source.source_id
        self.log = PostgresLog(database, 1)
        rules = default_rules("CN")
        self.worker = Worker(
            database,
            self.log,
            SourceDirectory(database),
            IdentityStore(rules, salt),
            partial(identify, rules=rules),
            batch_events=BATCH,
        )
        self._number = 0

    def append(self, batches: int) -> None:
        """Put fresh events of known people into the log, a hundred to a record."""
        lines = make_lines(BATCH * batches, self._number)
        self._number += len(lines)
        at = format_time(now())
        records = [
            pack_record(
                0, None, self.source_id, [RequestLines("req", at, None, lines[start : start + 100])]
            )
            for start in range(0, len(lines), 100)
        ]
        self.log.append(records).result(timeout=60)

    def work_off(self, batches: int) -> float:
        """Return the seconds that one batch takes, of ``batches`` that wait in the log."""
        self.append(batches)
        started = time.perf_counter()
        while self.worker.step(0):
            pass
        return (time.perf_counter() - started) / batches


class Floor:
    """The three statements."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.transaction() as connection:
            connection.exec_driver_sql(_FLOOR_SCHEMA)
            tx = driver(connection)
            tx.execute(
                "INSERT INTO floor.identifiers"
                " SELECT 'user_id', 'user-' || i, i FROM generate_series(0, %s) i",
                (PEOPLE - 1,),
            )
            tx.execute(
                "INSERT INTO floor.profiles SELECT i, '{}', now(), 0 FROM generate_series(0, %s) i",
                (PEOPLE - 1,),
            )
        self._number = 0

    def make_batch(self) -> tuple[list[int], bytes]:
        """Prepared rows: the profile ids touched, and the COPY buffer."""
        lines = make_lines(BATCH, self._number)
        rows = []
        for number, line in enumerate(lines, self._number):
            rows.append(
                f"{uuid.uuid4()}\t{number % PEOPLE}\t2026-03-01T08:00:00Z\ttrack\tProduct Viewed\t"
                f"{line.decode()}\n"
            )
        self._number += BATCH
        return list(range(PEOPLE)), "".join(rows).encode()

    def work_off(self, batch: tuple[list[int], bytes]) -> float:
        """Return the seconds that the batch takes."""
        people, buffer = batch
        started = time.perf_counter()
        with self._database.transaction() as connection:
            tx = driver(connection)
            tx.execute(
                "SELECT i.value, i.profile_id FROM unnest(%b::text[]) AS u (value)"
                " JOIN floor.identifiers i ON i.type = 'user_id' AND i.value = u.value",
                ([f"user-{person}" for person in people],),
            ).fetchall()
            tx.execute(
                "INSERT INTO floor.profiles AS p SELECT u, '{}', now(), 5"
                " FROM unnest(%b::bigint[]) AS u ON CONFLICT (profile_id) DO UPDATE"
                " SET last_seen = excluded.last_seen, events = p.events + excluded.events",
                (people,),
            )
            with tx.cursor() as cursor, cursor.copy("COPY floor.events FROM STDIN") as copy:
                copy.write(buffer)
        return time.perf_counter() - started


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure goal 7."""
    rounds = 7 if quick else 15
    collect_rarely()
    with open_database() as database:
        ours, floor = Ours(database), Floor(database)
        ours.work_off(2)
        floor.work_off(floor.make_batch())

        def our_turn() -> float:
            return ours.work_off(BATCHES)

        def their_turn() -> float:
            prepared = [floor.make_batch() for _ in range(BATCHES)]
            return sum(floor.work_off(batch) for batch in prepared) / BATCHES

        pairs = take_turns(rounds, our_turn, their_turn)
        ours.worker.close()
        ours.log.close()
    return [
        compare(
            7,
            "identity worker, five events per known person, to the raw Postgres floor",
            [theirs / mine for mine, theirs in pairs],
            at_least=0.45,
            events_per_second=[BATCH / mine for mine, _ in pairs],
        )
    ]
