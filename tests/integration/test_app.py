"""The serving process as a whole over a real Postgres: who is let in, what it says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from structlog.testing import capture_logs

from cdp.access import tokens_store
from cdp.access.guard import read_requirements
from cdp.access.scopes import SCOPES
from cdp.app import build_api, build_app
from cdp.ingest.sources_store import create_source
from cdp.services import open_services
from cdp.serving import Serving
from cdp.settings import Settings
from cdp.storage.database import Database, driver

pytestmark = pytest.mark.anyio

BOTH = frozenset({"ingest", "api"})
PUBLIC = {
    "/health/live", "/health/ready", "/metrics", "/example", "/example/analytics.js",
    "/analytics.js/v1/{write_key}/analytics.min.js", "/analytics-next/bundles/{name}",
}  # fmt: skip


@asynccontextmanager
async def _serve(
    url: str, folder: Path, roles: frozenset[str] = BOTH, **settings: Any
) -> AsyncIterator[tuple[Serving, httpx.AsyncClient]]:
    app = build_app(Settings(database_url=url, data_dir=folder, **settings), roles)
    assert isinstance(app, Serving)
    await app.services.start()
    try:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://cdp") as client:
            yield app, client
    finally:
        await app.services.stop()


@pytest.fixture
async def served(
    database_url: str, tmp_path: Path
) -> AsyncIterator[tuple[Serving, httpx.AsyncClient]]:
    """Both roles in one process, and a client without a token."""
    async with _serve(database_url, tmp_path) as served:
        yield served


def _make_token(database: Database, *scopes: str) -> dict[str, str]:
    with database.transaction() as connection:
        _, token = tokens_store.create_token(driver(connection), "test", scopes)
    return {"Authorization": f"Bearer {token}"}


def _list_routes(app: Serving) -> list[tuple[str, str]]:
    """Every method and path that FastAPI serves, from the application itself."""
    api = build_api(app.services)
    return [
        (method, context.path or "")
        for context in iter_route_contexts(api.routes)
        if isinstance(context.original_route, APIRoute)
        for method in sorted(context.methods or ())
    ]


def _fill(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "nobody", path)


async def test_every_route_refuses_a_stranger_before_anything_else(
    served: tuple[Serving, httpx.AsyncClient],
) -> None:
    app, client = served
    routes = [(m, p) for m, p in _list_routes(app) if p not in PUBLIC]
    assert len(routes) > 15
    for method, path in routes:
        for body in (b"", b"{", b'{"unknown": 1}'):
            answer = await client.request(method, _fill(path), content=body)
            assert (answer.status_code, answer.json()["code"]) == (401, "missing_token"), path
            headers = {"Authorization": "Bearer cdp_" + "x" * 32}
            answer = await client.request(method, _fill(path), content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unknown_token"), path


async def test_every_route_names_the_scope_that_is_lacking_before_anything_else(
    served: tuple[Serving, httpx.AsyncClient], database: Database
) -> None:
    app, client = served
    # Holds one scope that no route asks for alone.
    nobody = _make_token(database, "pii:read")
    api = build_api(app.services)
    any_token = set()
    for context in iter_route_contexts(api.routes):
        route = context.original_route
        if not isinstance(route, APIRoute) or context.path in PUBLIC:
            continue
        for method in route.methods:
            path = _fill(context.path or "")
            answer = await client.request(method, path, content=b"{", headers=nobody)
            if answer.status_code == 403:
                missing = answer.json()["details"]["missing"]
                assert missing
                # Where one of several will do, the message names them in words.
                assert all(one in answer.json()["message"] for one in missing[0].split("|"))
            else:
                any_token.add(context.path)
    assert any_token <= {"/v1/receipts/{receipt}", "/v1/schema", "/v1/status"}


async def test_no_route_fails_at_text_that_postgres_cannot_hold(
    served: tuple[Serving, httpx.AsyncClient], database: Database
) -> None:
    app, client = served
    everything = _make_token(database, *SCOPES)
    odd = "a\0\ud800"
    body = json.dumps(
        {
            "name": odd,
            "type": "web",
            "reason": odd,
            "sql": odd,
            "scopes": ["sql:read"],
            "identifiers": [{"type": kind, "value": odd} for kind in (odd, "email")],
        }
    )
    for method, path in _list_routes(app):
        # Public ones take nothing; the live stream does not end.
        if path in PUBLIC or path.endswith("/live"):
            continue
        filled = re.sub(r"\{[^}]*\}", "user_id:a%00", path)
        query = "q=a%00&event=a%00&source=a%00&code=a%00&with=a%00:b&field=a%00"
        headers = {**everything, "Content-Type": "application/json"}
        answer = await client.request(
            method, f"{filled}?{query}", content=body.encode(), headers=headers
        )
        assert answer.status_code < 500, (method, path, answer.text)


async def test_only_the_known_routes_are_public_and_all_others_say_what_they_need(
    served: tuple[Serving, httpx.AsyncClient],
) -> None:
    app, _ = served
    api = build_api(app.services)
    guard = next(m for m in api.user_middleware if "routes" in m.kwargs)
    found = guard.kwargs["routes"]
    assert {route.template for route in found if route.scopes is None} == PUBLIC
    assert {(m, r.template) for r in found for m in r.methods} == set(_list_routes(app))
    assert len(_list_routes(app)) == len(set(_list_routes(app)))
    for_admin = {route.template for route in found if route.scopes == ("admin",)}
    assert for_admin == {
        "/v1/tokens", "/v1/tokens/{token_id}", "/v1/audit", "/v1/analytics/rebuild",
        "/v1/archive", "/v1/archive/run", "/v1/rates", "/v1/retention", "/v1/traits/{name}",
    }  # fmt: skip


async def test_the_document_describes_every_route_the_ingest_ones_too(
    served: tuple[Serving, httpx.AsyncClient],
) -> None:
    app, client = served
    document = (await client.get("/openapi.json")).json()
    described = {(m.upper(), p) for p, operations in document["paths"].items() for m in operations}
    hidden = {("GET", p) for p in PUBLIC if p.startswith(("/example", "/analytics"))}
    assert set(_list_routes(app)) - described <= hidden
    assert ("POST", "/v1/batch") in described
    for path in ("/v1/batch", "/v1/orders", "/v1/accounts", "/v1/hooks/{source_id}"):
        later = document["paths"][path]["post"]["responses"]["503"]
        assert "Retry-After" in later["headers"]
    assert document["paths"]["/v1/profiles/{p}"]["get"]["x-scopes"] == ["profiles:read"]
    assert "HTTPValidationError" not in str(document)


async def test_unknown_paths_and_methods_are_answered_in_the_one_shape(
    served: tuple[Serving, httpx.AsyncClient],
) -> None:
    _, client = served
    for method, path, status in (("GET", "/v1/nothing", 404), ("PUT", "/v1/tokens", 405)):
        answer = await client.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()) == {"code", "message", "details"}


async def test_it_lives_and_is_ready_once_everything_answers(
    served: tuple[Serving, httpx.AsyncClient],
) -> None:
    _, client = served
    assert (await client.get("/health/live")).json()["live"] is True
    answer = await client.get("/health/ready")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "ready": True,
        "missing": [],
        "checks": {"postgres": "ok", "log": "ok", "schema": "ok", "feed": "ok"},
    }


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/example"])
async def test_what_can_be_got_can_be_asked_for_its_head(
    served: tuple[Serving, httpx.AsyncClient], path: str
) -> None:
    _, client = served
    answer = await client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == (await client.get(path)).headers["content-type"]
    assert (await client.head("/v1/profiles/lookup")).status_code in (401, 405)
    counted = (await client.get("/metrics")).text
    assert f'method="HEAD",route="{path}",status="200"' in counted


async def test_an_old_schema_is_named_as_missing(
    served: tuple[Serving, httpx.AsyncClient], database: Database
) -> None:
    _, client = served
    with database.transaction() as connection:
        driver(connection).execute("UPDATE alembic_version SET version_num = '0000'")
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["code"] == "not_ready"
    assert answer.json()["details"]["missing"] == ["schema"]
    assert "cdp migrate" in answer.json()["message"]


async def test_posted_events_are_counted_shown_in_metrics_and_wait_in_the_lag(
    served: tuple[Serving, httpx.AsyncClient], database: Database
) -> None:
    app, client = served
    with database.transaction() as connection:
        _, key = create_source(driver(connection), "shop", "server", {})
    app.services.sources.refresh()
    batch = {"batch": [{"type": "track", "event": "Seen", "userId": "7"}]}
    posted = await client.post("/v1/batch", json=batch, auth=(key, ""))
    assert posted.status_code == 200, posted.text

    text = (await client.get("/metrics")).text
    counted = 'cdp_http_requests_total{method="POST",route="/v1/batch",status="200"} 1.0'
    assert counted in [line for line in text.splitlines() if "requests_total" in line]
    assert "cdp_postgres_up 1.0" in text
    assert "cdp_log_up 1.0" in text
    lag = re.findall(r'cdp_lag_records\{partition="\d+",stage="worker"\} ([\d.]+)', text)
    assert sum(map(float, lag)) == 1.0

    receipt = posted.json()["receipt"]
    token = _make_token(database, "sql:read")
    told = await client.get(f"/v1/receipts/{receipt}?wait=10ms", headers=token)
    assert told.json() == {"logged": True, "profiles": False, "analytics": False}

    status = (await client.get("/v1/status", headers=token)).json()
    assert status["roles"] == ["api", "ingest"]
    assert status["lag"]["worker"]["records"] == 1
    assert status["follower"]["running"] is True
    assert status["dead_letters"] == {"count": 0, "last": []}


async def test_metrics_name_templates_and_never_paths(
    served: tuple[Serving, httpx.AsyncClient], database: Database
) -> None:
    _, client = served
    token = _make_token(database, "profiles:read")
    await client.get("/v1/profiles/email:ann@example.com", headers=token)
    await client.get("/ann@example.com")
    text = (await client.get("/metrics")).text
    assert "ann@example.com" not in text
    assert 'route="/v1/profiles/{p}",status="404"' in text
    assert 'route="other",status="404"' in text


async def test_a_process_that_only_ingests_serves_nothing_else(
    database_url: str, tmp_path: Path, database: Database
) -> None:
    token = _make_token(database, "admin")
    async with _serve(database_url, tmp_path, frozenset({"ingest"})) as (_, client):
        assert (await client.get("/health/ready")).json()["missing"] == []
        assert (await client.get("/v1/tokens", headers=token)).status_code == 404
        posted = await client.post("/v1/batch", json={"batch": []}, auth=("nobody", ""))
        assert (posted.status_code, posted.json()["code"]) == (401, "unknown_write_key")
    assert list(tmp_path.iterdir()) == []


async def test_a_process_without_ingest_takes_no_events(database_url: str, tmp_path: Path) -> None:
    async with _serve(database_url, tmp_path, frozenset({"api"})) as (_, client):
        answer = await client.post("/v1/batch", json={"batch": []})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        document = (await client.get("/openapi.json")).json()
        assert "/v1/batch" not in document["paths"]


async def test_a_body_sent_as_curl_sends_it_is_read_as_json(
    served: tuple[Serving, httpx.AsyncClient], database: Database
) -> None:
    _, client = served
    headers = _make_token(database, "admin")
    for kind in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        answer = await client.post(
            "/v1/tokens", content='{"name": "x", "scopes": ["sql:read"]}', headers=headers | kind
        )
        assert answer.status_code == 201, answer.text


async def test_sources_are_listed_oldest_first_even_those_of_one_transaction(
    served: tuple[Serving, httpx.AsyncClient], database: Database
) -> None:
    _, client = served
    with database.transaction() as connection:
        made = [create_source(driver(connection), str(n), "web", {})[0] for n in range(6)]
    headers = _make_token(database, "sources:write")
    listed = (await client.get("/v1/sources", headers=headers)).json()["data"]
    assert [row["id"] for row in listed] == [source.source_id for source in made]


async def test_browsers_may_ask_every_route(served: tuple[Serving, httpx.AsyncClient]) -> None:
    _, client = served
    answer = await client.get("/v1/tokens", headers={"Origin": "https://shop.example"})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] in ("*", "https://shop.example")


async def test_a_fault_is_answered_without_a_trace_and_remembered(
    served: tuple[Serving, httpx.AsyncClient], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = served

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("ann@example.com")

    monkeypatch.setattr("cdp.profiles.pages.read_page", fail)
    with database.transaction() as connection:
        tx = driver(connection)
        tx.execute(
            """INSERT INTO nodes (type, value, profile_id, component_id, first_seen, last_seen)
               VALUES ('user_id', '7', 'prf_7', 1, now(), now())"""
        )
        tx.execute(
            """INSERT INTO node_profiles (node_id, since, until, profile_no)
               SELECT node_id, '-infinity', 'infinity', node_id FROM nodes"""
        )
        tx.execute(
            "INSERT INTO profiles (profile_no, profile_id) SELECT node_id, 'prf_7' FROM nodes"
        )
    token = _make_token(database, "profiles:read")
    with capture_logs() as logged:
        answer = await client.get("/v1/profiles/user_id:7", headers=token)
    assert [line["event"] for line in logged] == ["unexpected_error"]
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "ann@example.com" not in answer.text
    errors = (await client.get("/v1/status", headers=token)).json()["last_errors"]
    assert [(e["where"], e["error"]) for e in errors] == [("/v1/profiles/{p}", "RuntimeError")]


async def test_without_postgres_callers_are_told_to_come_back(
    postgres_server: Any, tmp_path: Path
) -> None:
    with postgres_server.fresh_url() as url:
        services = open_services(Settings(database_url=url, data_dir=tmp_path), BOTH)
        database = Database(url)
        token = _make_token(database, "profiles:read")
        database.close()
        app = Serving(build_api(services), services)
    # The database is gone now.
    services.database.engine.dispose()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://cdp", headers=token
    ) as client:
        answer = await client.get("/v1/profiles/user_id:7")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert "postgres" in ready.json()["details"]["missing"]
        assert (await client.get("/health/live")).status_code == 200
        assert "cdp_postgres_up 0.0" in (await client.get("/metrics")).text
    assert services.analytics is not None
    services.analytics.close()


async def test_the_program_says_in_one_line_that_it_has_no_database(tmp_path: Path) -> None:
    from cdp.errors import SetupError

    with pytest.raises(SetupError, match="CDP_DATABASE_URL"):
        build_app(Settings(data_dir=tmp_path), BOTH)
    assert read_requirements([]) == []
