"""SQL over HTTP, against rows that a real Postgres was asked for."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI

from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.analytics import routes
from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.runtime.error_answers import install_error_answers
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.committed import committing

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine(database: Database, tmp_path: Path) -> Iterator[Engine]:
    """Two people: Ann, whose visitor she was, and Bob."""
    engine = Engine(tmp_path / "analytics.duckdb", "256MB", 2)
    feed = Feed(database, engine)
    with committing(database) as batch:
        ann = batch.add_person("ann@example.com", "email")
        visitor = batch.add_person("a-1", "anonymous_id")
        bob = batch.add_person("+8613800000000", "phone")
        batch.add_event(visitor, "Home", {"name": "Home", "ref": "ann@example.com"}, kind="page")
        batch.add_event(
            ann, "Order Completed", {"total": 100, "email": "ann@example.com", "lines": [{"n": 1}]}
        )
        batch.add_event(bob, "Order Completed", {"total": 12.5, "coupon": "=SUM(1)"})
        batch.set_trait(ann, "email", "ann@example.com")
        batch.set_trait(ann, "plan", "pro")
        batch.set_trait(ann, "age", 42)
        batch.set_trait(ann, "address", {"city": "上海"})
        batch.merge([visitor], into=ann)
    feed.step(0)
    yield engine
    feed.close()
    engine.close()


@pytest.fixture
async def client(database: Database, engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    async with _serve(database, engine, seconds=30) as client:
        yield client


@pytest.fixture
async def hurried(database: Database, engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    """A server that lets no statement go on for long."""
    async with _serve(database, engine, seconds=1) as client:
        yield client


@asynccontextmanager
async def _serve(
    database: Database, engine: Engine, *, seconds: int
) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(query_timeout_seconds=seconds, query_max_rows=1_000)
    router = routes.create_router(engine, settings)
    app = FastAPI()
    app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements([router]), tokens=TokenDirectory(database))
    install_error_answers(app)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://cdp"
    ) as client:
        yield client


def _as(database: Database, *scopes: str) -> dict[str, str]:
    with database.transaction() as connection:
        token = tokens_store.create_token(driver(connection), "test", scopes)[1]
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def analyst(database: Database) -> dict[str, str]:
    """May see everything."""
    return _as(database, "sql:read", "pii:read")


@pytest.fixture
def stranger(database: Database) -> dict[str, str]:
    """May ask, but not see personal values."""
    return _as(database, "sql:read")


async def _ask(
    client: httpx.AsyncClient, who: dict[str, str], sql: str, **more: Any
) -> httpx.Response:
    return await client.post("/v1/query", json={"sql": sql, **more}, headers=who)


async def _rows(client: httpx.AsyncClient, who: dict[str, str], sql: str, **more: Any) -> Any:
    answer = await _ask(client, who, sql, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_an_answer_has_columns_rows_and_its_freshness(
    client: httpx.AsyncClient, analyst: dict[str, str]
) -> None:
    answer = (
        await _ask(
            client, analyst, "select event, count(*) as n from events group by all order by 1"
        )
    ).json()
    assert answer["columns"] == [
        {"name": "event", "type": "VARCHAR"}, {"name": "n", "type": "BIGINT"},
    ]  # fmt: skip
    assert answer["data"] == [{"event": "Order Completed", "n": 2}, {"event": "page", "n": 1}]
    assert answer["truncated"] is False
    assert answer["as_of"].endswith("Z")
    assert answer["lag_ms"] >= 0


async def test_every_event_is_the_current_profiles(
    client: httpx.AsyncClient, analyst: dict[str, str]
) -> None:
    found = await _rows(
        client,
        analyst,
        """select i.value, count(*) as n from events e join identifiers i using (profile_id)
            where i.type = $kind group by all""",
        params={"kind": "email"},
    )
    assert found == [{"value": "ann@example.com", "n": 2}]


async def test_event_tables_have_typed_columns(
    client: httpx.AsyncClient, analyst: dict[str, str]
) -> None:
    for table in ('"Order Completed"', "order_completed"):
        assert await _rows(client, analyst, f"select sum(total) as t from {table}") == [
            {"t": 112.5}
        ]


async def test_trait_values_keep_their_type_and_at_needs_no_quotes(
    client: httpx.AsyncClient, analyst: dict[str, str]
) -> None:
    found = await _rows(client, analyst, "select name, value, at from traits order by name")
    assert {row["name"]: row["value"] for row in found} == {
        "address": {"city": "上海"}, "age": 42, "email": "ann@example.com", "plan": "pro",
    }  # fmt: skip
    assert all(row["at"].endswith("Z") for row in found)
    where = "select name from traits where value = ? or (name = 'age' and value > 41) order by 1"
    assert await _rows(client, analyst, where, params=["pro"]) == [
        {"name": "age"},
        {"name": "plan"},
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from identifiers",
        "select name, value from traits",
        "select properties from events",
        'select * from "Order Completed"',
        "select * from page",
        "select max(value) as v from identifiers where type = 'email'",
        "select json_extract_string(properties, '$.email') as e from events",
    ],
)
async def test_personal_values_stay_hidden_without_pii_read(
    client: httpx.AsyncClient, analyst: dict[str, str], stranger: dict[str, str], sql: str
) -> None:
    personal = ("ann@example.com", "8613800000000", "上海")
    open_answer = (await _ask(client, analyst, sql)).text
    assert any(text in open_answer for text in personal)
    hidden = await _ask(client, stranger, sql)
    assert hidden.status_code == 200
    assert not any(text in hidden.text for text in personal)


async def test_masked_values_are_what_is_compared(
    client: httpx.AsyncClient, stranger: dict[str, str]
) -> None:
    for sql in (
        "select 1 from identifiers where value = 'ann@example.com'",
        "select 1 from traits where value like 'ann%'",
        "select 1 from order_completed where email = 'ann@example.com'",
        "select 1 from events where properties::varchar like '%ann@example.com%'",
    ):
        assert await _rows(client, stranger, sql) == []
    assert await _rows(client, stranger, "select sum(total) as t from order_completed") == [
        {"t": 112.5}
    ]


async def test_without_pii_read_the_plain_tables_are_out_of_reach(
    client: httpx.AsyncClient, stranger: dict[str, str]
) -> None:
    for sql in ("from main.identifiers", "from core.nodes", "from query('from main.identifiers')"):
        answer = await _ask(client, stranger, sql)
        assert (answer.status_code, answer.json()["code"]) == (422, "sql_refused")
        assert "ann@" not in answer.text


async def test_rows_beyond_the_limit_are_cut_and_said(
    client: httpx.AsyncClient, analyst: dict[str, str]
) -> None:
    cut = (await _ask(client, analyst, "from range(10) t(n) order by n", limit=3)).json()
    assert ([row["n"] for row in cut["data"]], cut["truncated"]) == ([0, 1, 2], True)
    whole = (await _ask(client, analyst, "from range(3)", limit=3)).json()
    assert (len(whole["data"]), whole["truncated"]) == (3, False)
    capped = (await _ask(client, analyst, "from range(1000000000000)")).json()
    assert (len(capped["data"]), capped["truncated"]) == (1_000, True)


@pytest.mark.parametrize(
    ("sql", "params", "code"),
    [
        ("selec 1", None, "sql_error"),
        ("select nothing from events", None, "sql_error"),
        ("select 1 / 'x'", None, "sql_error"),
        ("select $a", {"b": 1}, "sql_error"),
        ("select ?", [], "sql_error"),
        ("select 1", [1], "sql_error"),
        ("delete from events", None, "sql_refused"),
        ("select 1; select 2", None, "sql_refused"),
    ],
)
async def test_mistakes_are_answered_with_their_reason(
    client: httpx.AsyncClient, analyst: dict[str, str], sql: str, params: Any, code: str
) -> None:
    answer = await _ask(client, analyst, sql, params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["message"]


async def test_a_statement_without_end_is_ended(
    hurried: httpx.AsyncClient, analyst: dict[str, str]
) -> None:
    endless = "select count(*) from range(1000000000000) t(n) where hash(n) = 1"
    answer = await _ask(hurried, analyst, endless)
    assert (answer.status_code, answer.json()["code"]) == (422, "sql_timeout")


@pytest.mark.parametrize(
    "sql",
    [
        "select list(n) from range(1000000000000) t(n)",
        "select n from range(1000000000000) t(n) where n < 500 or hash(n) = 1",
    ],
)
async def test_what_ends_a_statement_in_the_middle_is_told(
    hurried: httpx.AsyncClient, analyst: dict[str, str], sql: str
) -> None:
    answer = await _ask(hurried, analyst, sql)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in ("sql_error", "sql_timeout")


async def test_csv_arrow_and_parquet_hold_the_same_rows(
    client: httpx.AsyncClient, analyst: dict[str, str]
) -> None:
    sql = "select total, coupon from order_completed order by total"
    as_csv = await _ask(client, analyst, sql, format="csv")
    assert as_csv.headers["content-type"].startswith("text/csv")
    assert as_csv.text == "total,coupon\r\n12.5,'=SUM(1)\r\n100.0,\r\n"
    expected = [{"total": 12.5, "coupon": "=SUM(1)"}, {"total": 100.0, "coupon": None}]
    as_arrow = await _ask(client, analyst, sql, format="arrow")
    assert pa.ipc.open_stream(as_arrow.content).read_all().to_pylist() == expected
    as_parquet = await _ask(client, analyst, sql, format="parquet")
    assert pq.read_table(io.BytesIO(as_parquet.content)).to_pylist() == expected


async def test_the_schema_lists_what_sql_may_read(
    client: httpx.AsyncClient, database: Database
) -> None:
    answer = await client.get("/v1/schema", headers=_as(database, "segments:read"))
    tables = {table["name"]: table["columns"] for table in answer.json()["tables"]}
    assert set(tables) == {
        "profiles", "identifiers", "traits", "events", "orders", "order_lines", "accounts",
        "account_members", "tags", "rates", "tickets",
        "memberships", "membership_changes", "segments", "tracks", "pages", "screens",
        "identifies", "groups", "aliases", "sessions", "touches", "Order Completed",
        "order_completed", "page",
    }  # fmt: skip
    total = {
        "name": "total",
        "type": "DOUBLE",
        "description": "The property total, as it was sent.",
    }
    assert total in tables["order_completed"]
    assert str(database.url) not in answer.text


async def test_asking_takes_the_scope(client: httpx.AsyncClient, database: Database) -> None:
    assert (await client.post("/v1/query", json={})).status_code == 401
    answer = await client.post(
        "/v1/query", content=b"not json", headers=_as(database, "segments:read", "pii:read")
    )
    assert answer.status_code == 403
    assert (await client.get("/v1/schema")).status_code == 401


@pytest.mark.parametrize("format", ["ndjson", "csv", "parquet", "arrow"])
async def test_a_whole_table_is_streamed_in_every_format(
    client: httpx.AsyncClient, analyst: dict[str, str], format: str
) -> None:
    answer = await client.get(
        "/v1/export/Order Completed", params={"format": format}, headers=analyst
    )

    assert answer.status_code == 200, answer.text
    assert count_rows(format, answer.content) == 2
    assert answer.headers["x-as-of"]


async def test_an_export_is_masked_and_safe_to_open_in_a_spreadsheet(
    client: httpx.AsyncClient, analyst: dict[str, str], stranger: dict[str, str]
) -> None:
    params = {"format": "csv"}
    plain = await client.get("/v1/export/traits", params=params, headers=analyst)
    hidden = await client.get("/v1/export/traits", params=params, headers=stranger)
    orders = await client.get("/v1/export/Order Completed", params=params, headers=analyst)

    assert "ann@example.com" in plain.text
    assert "ann@example.com" not in hidden.text
    assert "'=SUM(1)" in orders.text


async def test_only_listed_tables_can_be_exported(
    client: httpx.AsyncClient, analyst: dict[str, str]
) -> None:
    for table in ("nodes", "core.nodes", "duckdb_settings", "x"):
        answer = await client.get(f"/v1/export/{table}", headers=analyst)
        assert (answer.status_code, answer.json()["code"]) == (404, "table_not_found")


def count_rows(format: str, body: bytes) -> int:
    match format:
        case "parquet":
            return int(pq.read_table(io.BytesIO(body)).num_rows)
        case "arrow":
            return int(pa.ipc.open_stream(body).read_all().num_rows)
        case "csv":
            return len(body.splitlines()) - 1
        case _:
            return len(body.splitlines())
