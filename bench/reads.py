"""Reads of people against the same rows read by their keys, in one server; and beside a worker.

Ours is the program as it is served, asked over a socket. The reference reads what the answer is
made of, no more: the profile's rows by primary key and the newest events by the index, in one
pipeline, without anything being made of them. ``strict`` spares it the transaction and the JSON.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from bench.paced_load import measure_latencies
from bench.payload import PEOPLE
from bench.ratios import compare, take_turns
from bench.worker import BATCHES, Ours, open_database
from cdp.access import tokens_store
from cdp.profiles import feed_store
from cdp.profiles.search_store import TraitFilter, search_people
from cdp.storage.database import Database, driver
from tests.support.program import find_free_port

_EVENTS = 50
_READS = 200
_LOOKED_UP = 500
_LOOK_UPS = 10
_SEARCHED = 200_000
_RATE = 500
_CONNECTIONS = 16
_STEADY = 1_000
"""Events a second beside which reads are measured."""
_LOOK_SECONDS = 4.0


@contextmanager
def run_program(database: Database, *words: str, port: int = 0) -> Iterator[None]:
    """A process of the program over ``database``, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="cdp-bench-") as folder:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CDP_")}
        given = {"CDP_DATABASE_URL": database.libpq_url, "CDP_DATA_DIR": folder}
        with (Path(folder) / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "cdp", *words],
                env={**kept, **given, "CDP_PORT": str(port)},
                stdout=output,
                stderr=output,
            )
            try:
                yield
            finally:
                process.terminate()
                process.wait(30)


class Wire:
    """One kept-alive connection, as thin as a client can be."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        self._socket = self._connect()

    def make_request(self, line: str, body: bytes = b"") -> bytes:
        """Return the bytes of a request for ``line``, such as ``GET /v1/profiles``."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        return f"{line} HTTP/1.1\r\n{self._head}{length}\r\n".encode() + body

    def ask(self, request: bytes) -> bytes:
        """Return the body of the answer, which must be 200."""
        self._socket.sendall(request)
        received = self._socket.recv(1 << 20)
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(1 << 20)
        head, _, body = received.partition(b"\r\n\r\n")
        assert b" 200 " in head[:13], received
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        parts = [body]
        while (left := length - sum(map(len, parts))) > 0:
            parts.append(self._socket.recv(left))
        return b"".join(parts)

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                return socket.create_connection(("127.0.0.1", self._port), timeout=60)
            time.sleep(0.1)
        raise AssertionError("the server does not come up")


class Reader:
    """Asks the program, and for the rows behind its answers by key."""

    def __init__(self, database: Database, port: int) -> None:
        self._database = database
        with database.transaction() as connection:
            tx = driver(connection)
            _, token = tokens_store.create_token(tx, "bench", ["profiles:read", "pii:read"])
            found = tx.execute(
                """SELECT n.value, np.profile_no FROM nodes n JOIN node_profiles np USING (node_id)
                    WHERE n.type = 'user_id' ORDER BY n.node_id LIMIT %s""",
                (PEOPLE,),
            ).fetchall()
        self.names = [name for name, _ in found]
        self.numbers = [number for _, number in found]
        self.port = port
        self._wire = Wire(port, token)
        self._strict = psycopg.connect(database.libpq_url, autocommit=True)
        self._pages = [
            self._wire.make_request(f"GET /v1/profiles/user_id:{name}?include=events&limit=50")
            for name in self.names[:_READS]
        ]
        asked = ",".join(
            f'{{"type":"user_id","value":"{name}"}}' for name in self._list_looked_up()
        )
        self._look_up = self._wire.make_request(
            "POST /v1/profiles/lookup", f'{{"identifiers":[{asked}]}}'.encode()
        )

    def _list_looked_up(self) -> list[str]:
        names = self.names[: _LOOKED_UP // 2]
        return names + [f"nobody-{n}" for n in range(_LOOKED_UP - len(names))]

    def close(self) -> None:
        self._strict.close()

    def read_pages(self) -> float:
        """Seconds for profiles with their newest events, over HTTP."""
        started = time.perf_counter()
        for request in self._pages:
            self._wire.ask(request)
        return time.perf_counter() - started

    def read_keys(self) -> float:
        """Seconds for the same rows by key."""
        started = time.perf_counter()
        for name, number in zip(self.names[:_READS], self.numbers, strict=False):
            with self._database.snapshot() as connection:
                _read_keys(driver(connection), _BY_KEY, name, number)
        return time.perf_counter() - started

    def read_keys_strictly(self) -> float:
        """The same without a transaction, and with JSON as text."""
        started = time.perf_counter()
        for name, number in zip(self.names[:_READS], self.numbers, strict=False):
            _read_keys(self._strict, _BY_KEY_AS_TEXT, name, number)
        return time.perf_counter() - started

    def look_up(self) -> float:
        """Seconds for a look-up of 500 over HTTP."""
        started = time.perf_counter()
        for _ in range(_LOOK_UPS):
            self._wire.ask(self._look_up)
        return (time.perf_counter() - started) / _LOOK_UPS

    def look_up_by_any(self) -> float:
        """Seconds for the same by one ``= any``."""
        names = self._list_looked_up()
        started = time.perf_counter()
        for _ in range(_LOOK_UPS):
            with self._database.snapshot() as connection:
                driver(connection).execute(_ANY, (names,)).fetchall()
        return (time.perf_counter() - started) / _LOOK_UPS

    def percentile(self, rate: int = _RATE, seconds: float = _LOOK_SECONDS) -> float:
        """The 99th percentile of the seconds of a profile, at ``rate`` a second."""
        request = self._wire.make_request(f"GET /v1/profiles/user_id:{self.names[0]}")
        taken = measure_latencies(
            self.port, request, per_second=rate, seconds=seconds, connections=_CONNECTIONS
        )
        return statistics.quantiles(taken, n=100)[98]

    def find_rate(self) -> float:
        """Profiles a second that one connection after the other gets at most."""
        started = time.perf_counter()
        for name in self.names:
            self._wire.ask(self._wire.make_request(f"GET /v1/profiles/user_id:{name}"))
        return len(self.names) / (time.perf_counter() - started)


def _read_keys(
    tx: psycopg.Connection[Any], statements: Sequence[str], name: str, number: int
) -> None:
    with tx.pipeline():
        cursors = [tx.execute(statement, {"n": number, "v": name}) for statement in statements]
    for cursor in cursors:
        cursor.fetchall()


_BY_KEY = (
    "SELECT * FROM nodes WHERE type = 'user_id' AND value = %(v)s AND variant = ''",
    "SELECT * FROM profiles WHERE profile_no = %(n)s",
    """SELECT n.* FROM node_profiles np JOIN nodes n USING (node_id) WHERE np.profile_no = %(n)s""",
    """SELECT t.* FROM node_profiles np JOIN traits t USING (node_id)
        WHERE np.profile_no = %(n)s""",
    """SELECT c.* FROM node_profiles np JOIN consents c USING (node_id)
        WHERE np.profile_no = %(n)s""",
    """SELECT o.* FROM node_profiles np JOIN orders o USING (node_id)
        WHERE np.profile_no = %(n)s""",
    """SELECT m.* FROM node_profiles np JOIN account_members m USING (node_id)
        WHERE np.profile_no = %(n)s""",
    f"""SELECT e.* FROM node_profiles np CROSS JOIN LATERAL (
            SELECT * FROM events e WHERE e.node_id = np.node_id
             ORDER BY e.at DESC LIMIT {_EVENTS}) e
         WHERE np.profile_no = %(n)s ORDER BY e.at DESC LIMIT {_EVENTS}""",
)
_BY_KEY_AS_TEXT = (
    *_BY_KEY[:-1],
    _BY_KEY[-1].replace(
        "SELECT e.*",
        "SELECT e.source_number, e.message_id, e.type, e.name, e.at, e.received_at, e.original_at,"
        " e.properties::text, e.context::text, e.group_id",
        1,
    ),
)
_ANY = """
SELECT n.value, p.profile_id
  FROM nodes n JOIN node_profiles np ON np.node_id = n.node_id AND np.until = 'infinity'
  JOIN profiles p ON p.profile_no = np.profile_no
 WHERE n.type = 'user_id' AND n.variant = '' AND n.value = ANY(%s)
"""


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure goal 22, the look-up, the tail beside a worker, the search, and the changes."""
    rounds = 5 if quick else 15
    with open_database() as database:
        ours = Ours(database)
        for _ in range(4):
            ours.work_off(BATCHES)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as one:
            driver(one).execute("VACUUM ANALYZE")
        port = find_free_port()
        with run_program(database, "serve", "--role", "api", port=port):
            reader = Reader(database, port)
            try:
                rows = _measure_reads(reader, rounds)
                rows += _measure_beside_worker(database, reader, ours, min(rounds, 5))
            finally:
                reader.close()
        rows.append(_measure_changes(database, ours, rounds))
        rows.append(_measure_search(database))
    return rows


def _measure_reads(reader: Reader, rounds: int) -> list[dict[str, Any]]:
    for warm in (reader.read_pages, reader.read_keys, reader.read_keys_strictly, reader.look_up):
        warm()
    pairs = take_turns(rounds, reader.read_pages, reader.read_keys)
    strict = take_turns(rounds, reader.read_pages, reader.read_keys_strictly)
    looked = take_turns(rounds, reader.look_up, reader.look_up_by_any)
    name = f"profile and {_EVENTS} events by HTTP, to the same rows by key"
    return [
        compare(
            22, name, [a / b for a, b in pairs], at_most=2.0,
            ms=[1000 * a / _READS for a, _ in pairs],
        ),
        compare(
            "strict", f"{name}, no transaction, JSON as text", [a / b for a, b in strict],
            at_most=2.0, ms=[1000 * a / _READS for a, _ in strict],
        ),
        compare(
            "lookup", "look-up of 500 by HTTP, to one = any", [a / b for a, b in looked],
            at_most=3.0, ms=[1000 * a for a, _ in looked],
        ),
    ]  # fmt: skip


def _measure_beside_worker(
    database: Database, reader: Reader, ours: Ours, rounds: int
) -> list[dict[str, Any]]:
    """The tail at 500 reads a second, idle and beside a worker under steady events."""
    reader.percentile(seconds=1.0)
    idle = [reader.percentile() for _ in range(rounds)]
    most = reader.find_rate()
    with run_program(database, "worker"), _keep_posting(ours):
        time.sleep(3)
        busy = [reader.percentile() for _ in range(rounds)]
        most_busy = reader.find_rate()
    return [
        compare(
            "tail",
            f"p99 of a profile at {_RATE} reads/s beside a worker at {_STEADY} events/s, to idle",
            [one / other for one, other in zip(sorted(busy), sorted(idle), strict=True)],
            at_most=3.0,
            idle_ms=[1000 * one for one in idle],
            busy_ms=[1000 * one for one in busy],
            most_per_second=[most, most_busy],
        )
    ]


@contextmanager
def _keep_posting(ours: Ours) -> Iterator[None]:
    """Steady events of known people in the log."""
    over = threading.Event()

    def post() -> None:
        while not over.wait(0.1):
            ours.append_events(_STEADY // 10)

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _measure_changes(database: Database, ours: Ours, rounds: int) -> dict[str, Any]:
    """What it costs to tell of a batch's changes, to what the batch costs itself."""
    feed_store.catch_up(database)
    shares = []
    for _ in range(rounds):
        seconds = ours.work_off(BATCHES)
        started = time.perf_counter()
        feed_store.catch_up(database)
        shares.append((time.perf_counter() - started) / BATCHES / seconds)
    return compare("changes", "telling a batch's changes, to the batch", shares, at_most=0.05)


def _measure_search(database: Database) -> dict[str, Any]:
    """A name within 200,000 people, to counting their traits once."""
    with database.transaction() as connection:
        tx = driver(connection)
        tx.execute(_MANY_NODES, (_SEARCHED,))
        tx.execute(_MANY_PROFILES)
        tx.execute(_MANY_TRAITS)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as one:
        driver(one).execute("VACUUM ANALYZE")
    taken, counted = [], []
    for _ in range(5):
        with database.snapshot() as connection:
            tx = driver(connection)
            started = time.perf_counter()
            search_people(tx, words="阳小", limit=101)
            taken.append(time.perf_counter() - started)
            search_people(tx, traits=[TraitFilter("city", (), "上海9")], limit=101)
            started = time.perf_counter()
            tx.execute("SELECT count(value::text) FROM traits").fetchone()
            counted.append(time.perf_counter() - started)
    return compare(
        "search",
        f"a name's middle among {_SEARCHED} people, to reading their traits once",
        [a / b for a, b in zip(taken, counted, strict=True)],
        at_most=6.0,
        ms=[1000 * one for one in taken],
    )


_MANY_NODES = """
INSERT INTO nodes (type, value, profile_id, component_id, first_seen, last_seen)
SELECT 'crm_id', 'c' || i, 'prf_c' || i, 0, now(), now() FROM generate_series(1, %s) i
"""
_MANY_PROFILES = """
WITH made AS (INSERT INTO profiles (profile_no, profile_id)
              SELECT node_id, profile_id FROM nodes WHERE type = 'crm_id' RETURNING profile_no)
INSERT INTO node_profiles SELECT profile_no, '-infinity', 'infinity', profile_no FROM made
"""
_MANY_TRAITS = """
INSERT INTO traits (node_id, name, value, at, message_id, source_number)
SELECT node_id, t.name, to_json(t.value), now(), 'm', 1
  FROM nodes CROSS JOIN LATERAL (VALUES
       ('name', CASE node_id % 1000 WHEN 7 THEN '欧阳小明' ELSE '王丽' || node_id END),
       ('city', '上海' || node_id % 50), ('plan', 'pro'),
       ('email', 'c' || node_id || '@example.com'),
       ('phone', '+86138' || node_id)) t (name, value)
 WHERE type = 'crm_id'
"""
