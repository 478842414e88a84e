"""A program with a population that it did not have to take in: people and events by SQL alone.

Postgres gets the people, so that events which arrive later belong to somebody known; DuckDB gets
people, traits and events as the feed would have written them. Minutes instead of hours, and nothing
of it is special to the program: it opens a folder that it has left before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import psycopg

from cdp.analytics_service import ANALYTICS_FILE
from cdp.runtime.run_folder import read_run
from tests.support.program import Program, find_free_port

HISTORY_DAYS = 180

_PEOPLE = """
INSERT INTO nodes (node_id, type, value, profile_id, component_id, first_seen, last_seen, events)
SELECT i, 'user_id', 'user-' || i, 'prf_' || lpad(i::text, 26, '0'), i,
       now() - interval '180 days', now() - interval '1 day', 20
  FROM generate_series(1, {people}) i;
INSERT INTO node_profiles SELECT i, '-infinity', 'infinity', i FROM generate_series(1, {people}) i;
INSERT INTO profiles (profile_no, profile_id)
SELECT i, 'prf_' || lpad(i::text, 26, '0') FROM generate_series(1, {people}) i;
SELECT setval(pg_get_serial_sequence('nodes', 'node_id'), {people});
ANALYZE nodes, node_profiles, profiles;
"""
# Of events a tenth are orders and three tenths are pages. Batches are numbered below those that the
# program counts, so that nothing looks as if it had yet to come.
_WORLD = """
INSERT INTO core.nodes
SELECT i, 'user_id', 'user-' || i, '', 'prf_' || lpad(i::VARCHAR, 26, '0'),
       now() - INTERVAL 180 DAY, now() - INTERVAL 1 DAY, 20, [1]
  FROM range(1, {people} + 1) t(i);
INSERT INTO core.node_profiles
SELECT i, '-infinity', 'infinity', i FROM range(1, {people} + 1) t(i);
INSERT INTO core.profiles
SELECT i, 'prf_' || lpad(i::VARCHAR, 26, '0'), NULL, 1 FROM range(1, {people} + 1) t(i);
INSERT INTO core.node_traits (node_id, name, value, "at", message_id, source_number)
SELECT i, 'country', CASE WHEN hash(i) % 10 = 0 THEN '"FR"' ELSE '"CN"' END,
       now() - INTERVAL 180 DAY, 'm' || i, 1 FROM range(1, {people} + 1) t(i);
INSERT INTO core.node_traits (node_id, name, value, "at", message_id, source_number)
SELECT i, 'name', '"Person ' || i || '"', now() - INTERVAL 180 DAY, 'n' || i, 1
  FROM range(1, {people} + 1) t(i);
INSERT INTO core.events
SELECT i // 1000 - {events} // 1000 - 1, i % 1000, (hash(i * 7) % {people})::BIGINT + 1, 's',
       'm' || i, 'track',
       CASE WHEN hash(i) % 10 < 3 THEN 'Page Viewed' WHEN hash(i) % 10 < 4 THEN 'Order Completed'
            ELSE 'Event ' || (hash(i) % 10)::VARCHAR END,
       now() - INTERVAL 180 DAY + to_microseconds((i * (180 * 86400000000.0 / {events}))::BIGINT),
       now() - INTERVAL 180 DAY + to_microseconds((i * (180 * 86400000000.0 / {events}))::BIGINT),
       '{{"total":' || (hash(i * 3) % 50000) / 100.0 || ',"currency":"CNY","sku":"sku-'
         || hash(i * 5) % 1000 || '"}}',
       '{{}}', NULL
  FROM range({events}) t(i);
"""


@contextmanager
def run_populated(people: int, events: int) -> Iterator[Program]:
    """``cdp up`` as it comes, over ``people`` called user-1, user-2, … with ``events`` of theirs.

    Everything is removed when the block ends.
    """
    with tempfile.TemporaryDirectory(prefix="cdp-bench-") as folder:
        program = Program(Path(folder) / "data", find_free_port())
        try:
            program.start()
            _fill_postgres(program, people)
            program.stop()
            _fill_duckdb(program, people, events)
            program.start()
            yield program
        finally:
            if program.is_running:
                program.stop()


@contextmanager
def open_duckdb(program: Program) -> Iterator[duckdb.DuckDBPyConnection]:
    """The file of a program that is not running."""
    path = program.data_dir / ANALYTICS_FILE
    with duckdb.connect(str(path), config={"memory_limit": "2GB", "threads": 2}) as duck:
        duck.execute("SET TimeZone = 'UTC'")
        duck.execute("SET preserve_insertion_order = true")
        yield duck
        duck.execute("CHECKPOINT")


def _fill_postgres(program: Program, people: int) -> None:
    url = read_run(program.data_dir)["database_url"]
    with psycopg.connect(url) as connection:
        for statement in _PEOPLE.format(people=people).split(";\n"):
            connection.execute(statement)


def _fill_duckdb(program: Program, people: int, events: int) -> None:
    with open_duckdb(program) as duck:
        duck.execute(_WORLD.format(people=people, events=events))
