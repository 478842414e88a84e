"""Reads of people against the same rows read by their keys, in one server; and beside a worker.

The reference reads what the answer is made of, no more: the profile's rows by primary key and the
newest events by the index, in one pipeline, without anything being made of them.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI

from bench.payload import PEOPLE
from bench.ratios import compare, take_turns
from bench.worker import BATCHES, Ours, open_database
from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.read_audit import ReadAudit, WatchReads
from cdp.access.token_directory import TokenDirectory
from cdp.profiles import feed_store, routes, search_routes
from cdp.profiles.search_store import TraitFilter, search_people
from cdp.receipts import Progress
from cdp.runtime.clock import now
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver

_EVENTS = 50
_READS = 200
_LOOKED_UP = 500
_SEARCHED = 200_000
_RATE = 500
_LOOK_SECONDS = 4.0


def build_app(database: Database, audit: ReadAudit) -> FastAPI:
    """The routes of people behind their guard, with reads audited, as they are served."""
    routers = [
        search_routes.create_router(database, lambda kind, value: value),
        routes.create_router(database, lambda kind, value: value),
    ]
    app = FastAPI()
    app.state.progress = Progress(lambda log: {}, lambda log: {})
    for router in routers:
        app.include_router(router)
    app.add_middleware(WatchReads, keep=audit.keep)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=TokenDirectory(database))
    install_error_answers(app)
    return app


class Reader:
    """Asks the routes in this process, and the rows behind them by key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._audit = ReadAudit(database)
        self._audit.start()
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
        self.app = build_app(database, self._audit)
        self.headers = {"Authorization": f"Bearer {token}"}
        self._people = routes.People(database, lambda kind, value: value)

    def close(self) -> None:
        self._audit.close()

    def read_store(self) -> float:
        """Seconds for profiles with their newest events, from the name to the shown document."""
        from cdp.access.scopes import Caller
        from cdp.profiles.profile_parts import INCLUDED

        caller = Caller("bench", frozenset({"profiles:read", "pii:read"}))
        started = time.perf_counter()
        for name in self.names[:_READS]:
            moment = now()
            with self._people.find(f"user_id:{name}") as (tx, asked, found):
                query = routes.make_query(self._people, tx, found, caller, moment, _EVENTS)
                routes.read_document(asked, found, query, None)
                INCLUDED["events"](query)
        return time.perf_counter() - started

    def read_keys(self) -> float:
        """Seconds for the same rows by key."""
        started = time.perf_counter()
        for name, number in zip(self.names[:_READS], self.numbers, strict=False):
            with self._database.snapshot() as connection:
                tx = driver(connection)
                with tx.pipeline():
                    cursors = [tx.execute(s, {"n": number, "v": name}) for s in _BY_KEY]
                for cursor in cursors:
                    cursor.fetchall()
        return time.perf_counter() - started

    def look_up(self) -> float:
        """Seconds for a look-up of 500 over the route."""
        asked = [{"type": "user_id", "value": name} for name in self.names[:_LOOKED_UP]]
        asked += [
            {"type": "user_id", "value": f"nobody-{n}"} for n in range(_LOOKED_UP - len(asked))
        ]

        async def ask() -> float:
            async with self._client() as client:
                await client.post("/v1/profiles/lookup", json={"identifiers": asked})
                started = time.perf_counter()
                for _ in range(10):
                    answer = await client.post("/v1/profiles/lookup", json={"identifiers": asked})
                    assert answer.status_code == 200, answer.text
                return (time.perf_counter() - started) / 10

        return asyncio.run(ask())

    def look_up_by_any(self) -> float:
        """Seconds for the same by one ``= any``."""
        names = self.names[:_LOOKED_UP]
        names += [f"nobody-{n}" for n in range(_LOOKED_UP - len(names))]
        started = time.perf_counter()
        for _ in range(10):
            with self._database.snapshot() as connection:
                driver(connection).execute(_ANY, (names,)).fetchall()
        return (time.perf_counter() - started) / 10

    def percentile(self, seconds: float = _LOOK_SECONDS) -> float:
        """The 99th percentile of the seconds of a profile, at 500 a second."""
        return asyncio.run(self._pace(seconds))

    async def _pace(self, seconds: float) -> float:
        taken: list[float] = []

        async def read(client: httpx.AsyncClient, name: str, due: float) -> None:
            answer = await client.get(f"/v1/profiles/user_id:{name}?fields=traits,consent")
            assert answer.status_code == 200
            # From when it was due: whoever waits for the others waits too.
            taken.append(time.perf_counter() - due)

        async with self._client() as client, asyncio.TaskGroup() as tasks:
            started = time.perf_counter()
            for number in range(int(_RATE * seconds)):
                due = started + number / _RATE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(read(client, self.names[number % len(self.names)], due))
        return statistics.quantiles(taken, n=100)[98]

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://cdp", headers=self.headers
        )


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
        reader = Reader(database)
        try:
            rows = _measure_reads(reader, rounds)
            rows.append(_measure_beside_worker(reader, ours, rounds))
            rows.append(_measure_changes(database, ours, rounds))
            rows.append(_measure_search(database))
        finally:
            reader.close()
    return rows


def _measure_reads(reader: Reader, rounds: int) -> list[dict[str, Any]]:
    pairs = take_turns(rounds, reader.read_store, reader.read_keys)
    name = f"profile and {_EVENTS} events, shown, to the same rows by key"
    looked = take_turns(rounds, reader.look_up, reader.look_up_by_any)
    return [
        compare(
            22, name, [a / b for a, b in pairs], at_most=2.0,
            ms=[1000 * a / _READS for a, _ in pairs],
        ),
        compare(
            "lookup", "look-up of 500 by HTTP, to one = any", [a / b for a, b in looked],
            at_most=3.0, ms=[1000 * a for a, _ in looked],
        ),
    ]  # fmt: skip


def _measure_beside_worker(reader: Reader, ours: Ours, rounds: int) -> dict[str, Any]:
    reader.percentile(1.0)

    def beside() -> float:
        stop = threading.Event()
        worker = threading.Thread(target=_keep_working, args=(ours, stop.is_set))
        worker.start()
        try:
            return reader.percentile()
        finally:
            stop.set()
            worker.join()

    pairs = take_turns(min(rounds, 5), beside, reader.percentile)
    return compare(
        "tail",
        f"p99 of a profile at {_RATE} reads/s beside a worker (one interpreter), to idle",
        [busy / idle for busy, idle in pairs],
        at_most=3.0,
        idle_ms=[1000 * idle for _, idle in pairs],
    )


def _keep_working(ours: Ours, is_over: Callable[[], bool]) -> None:
    while not is_over():
        ours.work_off(1)


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
