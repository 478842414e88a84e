"""What somebody may try with SQL: none of it reaches further, costs others, or unmasks anything."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.analytics import routes
from cdp.analytics.descriptions import TABLES
from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.runtime.error_answers import install_error_answers
from cdp.settings import Settings
from cdp.storage.database import Database
from tests.support.committed import committing
from tests.support.segments import make_token

SECRETS = ("ann@example.com", "ann@", "+8613800000000", "13800000000", "Ann Lee")
# Cannot be computed in the time of any test, and is found nowhere in between.
ENDLESS = "select count(*) as n from range(1000000000000) t(n) where hash(n) = 1"
ATTACKS = (
    "from read_text('/etc/passwd')", "from '/etc/passwd'", "from glob('/*')",
    "from 'https://example.com/x.csv'", "from 's3://bucket/x.parquet'", "install httpfs",
    "attach '/tmp/x.db' as x", "copy (select 1) to '/tmp/x.csv'", "set memory_limit = '64GB'",
    "set enable_external_access = true", "reset lock_configuration", "select 1; select 2",
    "from duckdb_settings()", "from duckdb_secrets()", "from duckdb_views()",
    "from information_schema.columns", "from pg_catalog.pg_class", "from core.nodes",
    "from main.identifiers", "from query('from main.identifiers')",
    "from query_table('main.identifiers')", "select getenv('HOME')",
    "select current_setting('secret_directory')", "create secret s (type s3)",
    "create macro m() as (from core.nodes)", "explain analyze select 1",
    "select (select value from core.nodes limit 1)",
    "from (describe main.identifiers)", "from json_execute_serialized_sql('{}')",
    "with recursive x as (from core.nodes union from x) from x",
)  # fmt: skip
# Each holds far more at once than the memory of the file that is asked.
BOMBS = (
    "select list(n) from range(100000000) t(n)",
    "select string_agg(n::varchar, ',') from range(100000000) t(n)",
    "with recursive r as (select 'x' as t union all select t || t from r) select max(t) from r",
)


class Place:
    """A small file that is fed, and asked by people with and without ``pii:read``."""

    def __init__(self, database: Database, folder: Path, seconds: float) -> None:
        self.database = database
        self.engine = Engine(folder / "analytics.duckdb", "128MB", 2)
        self.feed = Feed(database, self.engine)
        with committing(database) as batch:
            ann = batch.add_person("ann@example.com", "email")
            bob = batch.add_person("+8613800000000", "phone")
            told = {"email": "ann@example.com", "deep": {"phone": "+8613800000000"}}
            batch.add_event(ann, "Signed Up", told)
            batch.set_trait(ann, "name", "Ann Lee")
            batch.set_trait(bob, "contact", {"email": "ann@example.com"})
        self.feed.step(0)
        router = routes.create_router(self.engine, Settings(query_timeout_seconds=seconds))
        app = FastAPI()
        app.include_router(router)
        guarded = read_requirements([router])
        app.add_middleware(Guard, routes=guarded, tokens=TokenDirectory(database))
        install_error_answers(app)
        self.client = TestClient(app)
        self._analyst = make_token(database, "sql:read", "pii:read")
        self._stranger = make_token(database, "sql:read")

    def ask(self, sql: str, *, is_masked: bool = True) -> Any:
        headers = self._stranger if is_masked else self._analyst
        return self.client.post("/v1/query", json={"sql": sql}, headers=headers)

    def schema(self) -> Any:
        return self.client.get("/v1/schema", headers=self._stranger).json()["tables"]

    def feed_one(self) -> int:
        """Let something arrive and DuckDB follow; return how many events arrived.

        While a query holds all memory a step may fail; it leaves no trace and is tried again, as
        the follower does.
        """
        with committing(self.database) as batch:
            batch.add_event(batch.add_person(f"u{time.time_ns()}"), "Came", {})
        with contextlib.suppress(duckdb.OutOfMemoryException):
            self.feed.step(0)
        return 1


@pytest.fixture
def place(database: Database, tmp_path: Path) -> Iterator[Place]:
    yield from _open(Place(database, tmp_path, seconds=60))


@pytest.fixture
def hasty(database: Database, tmp_path: Path) -> Iterator[Place]:
    """A place that gives statements hardly any time."""
    yield from _open(Place(database, tmp_path, seconds=2))


def _open(place: Place) -> Iterator[Place]:
    # One event loop for all requests, as in a server.
    with place.client:
        yield place
    place.feed.close()
    place.engine.close()


def test_every_table_and_column_is_described(place: Place) -> None:
    for table in place.schema():
        assert table["description"], table["name"]
        for column in table["columns"]:
            assert column["description"], (table["name"], column["name"])
    assert set(TABLES) <= {table["name"] for table in place.schema()}


def test_nothing_outside_and_nothing_behind_is_reached(place: Place) -> None:
    for sql, is_masked in itertools.product(ATTACKS, (True, False)):
        answer = place.ask(sql, is_masked=is_masked)
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] in ("sql_refused", "sql_error")
        assert "root:" not in answer.text


def test_no_function_unmasks_what_is_masked(place: Place) -> None:
    attempts = (
        """select {c}, upper({c}::varchar), hex(encode({c}::varchar)), to_json(t), t::varchar,
                  reverse({c}::varchar), md5({c}::varchar), string_split({c}::varchar, '@')
             from {t} t""",
        """select list({c}), histogram({c}::varchar), max({c}::varchar), json_group_array({c})
             from {t}""",
        "summarize {t}",
    )
    places = (
        ("identifiers", "value"), ("traits", "value"), ("events", "properties"),
        ('"Signed Up"', "email"), ("signed_up", "deep"),
    )  # fmt: skip
    hidden = [*SECRETS, *(text[::-1] for text in SECRETS), *(text.upper() for text in SECRETS)]
    hidden += [text.encode().hex().upper() for text in SECRETS]
    hidden += [hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() for text in SECRETS]
    for table, column in places:
        for attempt in attempts:
            answer = place.ask(attempt.format(t=table, c=column))
            assert not any(text in answer.text for text in hidden), (attempt, table)
        plain = place.ask(f"from {table}", is_masked=False)
        assert any(text in plain.text for text in SECRETS)


def test_a_query_that_would_eat_all_memory_ends_and_what_arrives_is_taken(place: Place) -> None:
    fed = 0
    for bomb in BOMBS:
        answers: list[Any] = []
        asking = threading.Thread(target=_ask_into, args=(place, bomb, answers))
        asking.start()
        while asking.is_alive():
            fed += place.feed_one()
        asking.join()
        assert answers[0].status_code == 422, answers[0].text
        assert answers[0].json()["code"] == "sql_error"
        assert "memory" in answers[0].json()["message"]

    assert not place.engine.is_lost
    place.feed.catch_up()
    count = place.ask("select count(*) as n from came", is_masked=False).json()
    assert count["data"] == [{"n": fed}]


def _ask_into(place: Place, sql: str, answers: list[Any]) -> None:
    answers.append(place.ask(sql, is_masked=False))


def test_a_stopped_query_leaves_its_threads_to_the_others(hasty: Place) -> None:
    stopped = hasty.ask(ENDLESS)
    assert (stopped.status_code, stopped.json()["code"]) == (422, "sql_timeout")
    assert hasty.ask("select 1 as n").json()["data"] == [{"n": 1}]
    running = hasty.engine.read("SELECT count(*) AS n FROM core.events")
    assert running["n"][0].as_py() == 1


def test_queries_beyond_the_cap_wait_for_the_others_and_are_answered(hasty: Place) -> None:
    answers: list[Any] = []
    asking = [
        threading.Thread(target=lambda: answers.append(hasty.ask(ENDLESS).json()["code"]))
        for _ in range(4)
    ]
    for one in asking:
        one.start()
    assert hasty.ask("select 1 as n").json()["data"] == [{"n": 1}]
    for one in asking:
        one.join()
    assert answers == ["sql_timeout"] * 4
