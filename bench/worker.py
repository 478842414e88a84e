"""The identity worker against the raw Postgres floor, on the same rows, in one server.

The floor does for a batch what no such program can do without: look the identifiers up, update the
people, append the events under a unique key. Its ids are resolved and its rows prepared beforehand.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.payload import PEOPLE, make_lines, make_track
from bench.ratios import compare, take_turns
from bench.worker_processes import Line, WorkerProcesses
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
        self.append_events(BATCH * batches)

    def append_events(self, count: int) -> None:
        """The same, in number."""
        lines = make_lines(count, self._number)
        self._number += len(lines)
        self.append_lines(lines)

    def append_lines(self, lines: Sequence[bytes]) -> None:
        """Put events into the log, a hundred to a record."""
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
    """The statements of a batch of people who are known, or of such who are not."""

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
        self._newcomers = PEOPLE

    def make_batch(self) -> tuple[list[int], bytes]:
        """Prepared rows: the profile ids touched, and the COPY buffer."""
        return list(range(PEOPLE)), self._make_rows(0)

    def make_newcomers(self) -> tuple[list[int], bytes]:
        """The same for people who were never seen."""
        first = self._newcomers
        self._newcomers += PEOPLE
        return list(range(first, first + PEOPLE)), self._make_rows(first)

    def _make_rows(self, first: int) -> bytes:
        lines = make_lines(BATCH, self._number)
        rows = []
        for number, line in enumerate(lines, self._number):
            rows.append(
                f"{uuid.uuid4()}\t{first + number % PEOPLE}\t2026-03-01T08:00:00Z\ttrack\t"
                f"Product Viewed\t{line.decode()}\n"
            )
        self._number += BATCH
        return "".join(rows).encode()

    def work_off(self, batch: tuple[list[int], bytes], *, are_new: bool = False) -> float:
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
            if are_new:
                tx.execute(
                    "INSERT INTO floor.identifiers SELECT t, v, p"
                    " FROM unnest(%b::text[], %b::text[], %b::bigint[]) AS u (t, v, p)"
                    " ON CONFLICT DO NOTHING",
                    (
                        ["user_id"] * PEOPLE + ["anonymous_id"] * PEOPLE,
                        [f"user-{person}" for person in people]
                        + [f"anon-{person}" for person in people],
                        people * 2,
                    ),
                )
            tx.execute(
                "INSERT INTO floor.profiles AS p SELECT u, '{}', now(), 5"
                " FROM unnest(%b::bigint[]) AS u ON CONFLICT (profile_id) DO UPDATE"
                " SET last_seen = excluded.last_seen, events = p.events + excluded.events",
                (people,),
            )
            with tx.cursor() as cursor, cursor.copy("COPY floor.events FROM STDIN") as copy:
                copy.write(buffer)
        return time.perf_counter() - started


class Traffic:
    """Events for the worker: of known people, of new ones, and of such as turn out to be one."""

    def __init__(self) -> None:
        self._number = 0
        self._newcomers = PEOPLE

    def steady(self, batches: int) -> list[Line]:
        """Five events of each of the known people to a batch."""
        return self._draw(batches, 0)

    def newcomers(self, batches: int) -> list[Line]:
        """Batches of people who were never seen, five events each, with two identifiers."""
        lines: list[Line] = []
        for _ in range(batches):
            lines += self._draw(1, self._newcomers)
            self._newcomers += PEOPLE
        return lines

    def mergers(self, batches: int) -> tuple[list[Line], list[Line]]:
        """Visitors and customers who are known apart, and batches that tell who is who:

        of the five events of a person the third one names both.
        """
        apart: list[Line] = []
        told: list[Line] = []
        for _ in range(batches):
            people = range(self._newcomers, self._newcomers + PEOPLE)
            self._newcomers += PEOPLE
            for keep in (_BY_VISITOR, _BY_CUSTOMER):
                apart += [self._make(person, keep) for person in people]
            for keep in (_BY_VISITOR, _BY_CUSTOMER, _BY_BOTH, _BY_CUSTOMER, _BY_CUSTOMER):
                told += [self._make(person, keep) for person in people]
        return apart, told

    def _draw(self, batches: int, first: int) -> list[Line]:
        return [self._make(first + person % PEOPLE, _BY_BOTH) for person in range(BATCH * batches)]

    def _make(self, person: int, keep: frozenset[str]) -> Line:
        event = make_track(person, self._number)
        self._number += 1
        for name in _BY_BOTH - keep:
            del event[name]
        return person, json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


_BY_VISITOR = frozenset(("anonymousId",))
_BY_CUSTOMER = frozenset(("userId",))
_BY_BOTH = _BY_VISITOR | _BY_CUSTOMER


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure goals 7, 8 and 9, with one worker process and with one a processor."""
    rounds = 5 if quick else 15
    collect_rarely()
    rows: list[dict[str, Any]] = []
    with open_database() as database:
        floor = Floor(database)
        floor.work_off(floor.make_batch())
        for processes in sorted({1, os.cpu_count() or 1}):
            workers = WorkerProcesses(database, processes, BATCH)
            try:
                rows += _measure(workers, floor, rounds)
            finally:
                workers.close()
    return rows


def _measure(workers: WorkerProcesses, floor: Floor, rounds: int) -> list[dict[str, Any]]:
    traffic = Traffic()
    batches = BATCHES * workers.processes
    workers.work_off(traffic.steady(batches))

    def steady() -> float:
        return workers.work_off(traffic.steady(batches)) / batches

    def merge() -> float:
        apart, told = traffic.mergers(batches)
        workers.work_off(apart)
        return workers.work_off(told) / batches

    def meet() -> float:
        return workers.work_off(traffic.newcomers(batches)) / batches

    def known() -> float:
        prepared = [floor.make_batch() for _ in range(BATCHES)]
        return sum(floor.work_off(batch) for batch in prepared) / BATCHES

    def unknown() -> float:
        prepared = [floor.make_newcomers() for _ in range(BATCHES)]
        return sum(floor.work_off(batch, are_new=True) for batch in prepared) / BATCHES

    found = []
    for goal, name, ours, theirs, target in (
        (7, "five events per known person", steady, known, 0.60),
        (8, "one event in five merges two people", merge, known, 0.35),
        (9, "five events per new person", meet, unknown, 0.60),
    ):
        pairs = take_turns(rounds, ours, theirs)
        found.append(
            compare(
                goal,
                f"identity worker, {name}, {workers.processes} processes, to the Postgres floor",
                [floor_took / took for took, floor_took in pairs],
                at_least=target,
                events_per_second=[BATCH / took for took, _ in pairs],
            )
        )
    return found
