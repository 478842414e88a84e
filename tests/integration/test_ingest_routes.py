"""Sources, keys, accounting and refused events over the API, on a real Postgres."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.access.tokens_store import create_token
from cdp.ingest import rejected_routes, source_routes
from cdp.ingest.door import Door
from cdp.ingest.rejected_store import mask_raw
from cdp.ingest.replay_store import Replayer
from cdp.ingest.routes import create_router
from cdp.ingest.source_directory import SourceDirectory
from cdp.log.format import RejectedLine, RequestLines, pack_record
from cdp.log.postgres_log import PostgresLog
from cdp.model import RejectedEvent
from cdp.runtime.clock import format_time, now
from cdp.runtime.error_answers import install_error_answers
from cdp.runtime.metrics import Metrics
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from cdp.storage.outcomes_store import (
    count_outcomes,
    drop_refused_before,
    minute_of,
    write_rejected,
)
from cdp.storage.positions import advance_positions

RECEIVED = now().replace(microsecond=0)
MINUTE = format_time(minute_of(RECEIVED))


@pytest.fixture
def log(database: Database) -> Iterator[PostgresLog]:
    log = PostgresLog(database, 2)
    yield log
    log.close()


@pytest.fixture
def directory(database: Database) -> SourceDirectory:
    directory = SourceDirectory(database)
    directory.refresh()
    return directory


@pytest.fixture
def api(database: Database, directory: SourceDirectory, log: PostgresLog) -> FastAPI:
    replayer = Replayer(Door(log, Settings(), []), ["events"], directory.by_id)
    routers = [
        source_routes.create_router(database, directory),
        create_router(database, log),
        rejected_routes.create_router(database, log, replayer),
    ]
    app = FastAPI()
    for router in routers:
        app.include_router(router)
    tokens = TokenDirectory(database)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=tokens)
    install_error_answers(app)
    return app


def ask_as(api: FastAPI, database: Database, *scopes: str) -> TestClient:
    with database.transaction() as connection:
        _, token = create_token(driver(connection), "test", list(scopes))
    return TestClient(api, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def client(api: FastAPI, database: Database) -> TestClient:
    return ask_as(api, database, "sources:write", "pii:read")


def test_a_source_is_made_with_a_key_that_works_at_once(
    client: TestClient, directory: SourceDirectory
) -> None:
    made = client.post("/v1/sources", json={"name": "shop", "type": "web"})
    assert made.status_code == 201
    found = directory.by_key(made.json()["write_key"])
    assert found is not None
    assert (found.source_id, found.name, found.type) == (made.json()["id"], "shop", "web")


def test_sources_are_listed_oldest_first_in_pages(client: TestClient) -> None:
    for name in ("one", "two", "three"):
        client.post("/v1/sources", json={"name": name, "type": "server"})
    first = client.get("/v1/sources", params={"limit": 2}).json()
    second = client.get("/v1/sources", params={"limit": 2, "cursor": first["next"]}).json()
    assert [row["name"] for row in first["data"]] == ["one", "two"]
    assert [row["name"] for row in second["data"]] == ["three"]
    assert second["next"] is None


def test_keys_rotate_with_overlap_and_a_deleted_one_fails_at_once(
    client: TestClient, directory: SourceDirectory
) -> None:
    made = client.post("/v1/sources", json={"name": "shop", "type": "web"}).json()
    keys = f"/v1/sources/{made['id']}/keys"
    fresh = client.post(keys).json()
    assert directory.by_key(made["write_key"]) is not None
    assert directory.by_key(fresh["write_key"]) is not None
    (row,) = client.get("/v1/sources").json()["data"]
    old = next(key["id"] for key in row["keys"] if key["write_key"] == made["write_key"])
    assert client.delete(f"{keys}/{old}").status_code == 204
    assert directory.by_key(made["write_key"]) is None
    assert directory.by_key(fresh["write_key"]) is not None
    assert client.delete(f"{keys}/{old}").json()["code"] == "key_not_found"


def test_settings_are_merged_and_null_removes_one(client: TestClient) -> None:
    made = client.post(
        "/v1/sources", json={"name": "a", "type": "crm", "settings": {"x": 1, "y": 2}}
    ).json()
    path = f"/v1/sources/{made['id']}"
    changed = client.patch(
        path, json={"name": "b", "settings": {"x": None, "max_event_bytes": 100_000}}
    ).json()
    assert changed["name"] == "b"
    assert changed["settings"] == {"y": 2, "max_event_bytes": 100_000}
    assert client.patch(path, json={"disabled": True}).json()["disabled"] is True
    assert client.patch(path, json={"disabled": False}).json()["disabled"] is False


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"name": "a", "type": "toaster"}, "/type"),
        ({"name": "", "type": "web"}, "/name"),
        ({"type": "web"}, "/name"),
        (
            {"name": "a", "type": "web", "settings": {"max_event_bytes": 5_000_000}},
            "/settings/max_event_bytes",
        ),
        (
            {"name": "a", "type": "web", "settings": {"max_event_bytes": "x"}},
            "/settings/max_event_bytes",
        ),
    ],
)
def test_a_mistake_in_a_source_is_named_by_its_place(
    client: TestClient, body: dict[str, object], path: str
) -> None:
    answer = client.post("/v1/sources", json=body)
    assert answer.status_code == 422
    assert answer.json()["details"]["path"] == path


@pytest.mark.parametrize("path", ["/v1/sources/src_x", "/v1/sources/src_x/accounting"])
def test_an_unknown_source_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).json()["code"] == "source_not_found"


def test_sources_need_their_scope(api: FastAPI, database: Database) -> None:
    other = ask_as(api, database, "profiles:read")
    assert other.get("/v1/sources").status_code == 403
    assert other.post("/v1/sources", content=b"{").status_code == 403
    assert TestClient(api).get("/v1/rejected").status_code == 401


def test_a_minute_balances_while_events_are_on_their_way(
    client: TestClient, database: Database, log: PostgresLog
) -> None:
    source_id = client.post("/v1/sources", json={"name": "a", "type": "web"}).json()["id"]
    request = RequestLines("r", format_time(RECEIVED), None, [b"{}"] * 5)
    log.append([pack_record(0, None, source_id, [request])] * 2).result(30)
    log.append([pack_record(1, None, "src_other", [request])]).result(30)
    accounting = f"/v1/sources/{source_id}/accounting"
    (before,) = client.get(accounting).json()["data"]
    assert before == {
        "minute": MINUTE, "received": 10, "stored": 0, "duplicate": 0, "rejected": 0,
        "in_flight": 10, "balanced": True,
    }  # fmt: skip
    with database.transaction() as connection:
        minute = minute_of(RECEIVED)
        advance_positions(driver(connection), log.name, {0: (0, 1)})
        outcomes = {"received": 5, "stored": 2, "duplicate": 2, "rejected": 1}
        count_outcomes(
            driver(connection),
            {(source_id, minute, outcome): n for outcome, n in outcomes.items()},  # type: ignore[misc]
        )
    (after,) = client.get(accounting, params={"from": MINUTE}).json()["data"]
    assert after == {
        "minute": MINUTE, "in_flight": 5, "balanced": True, **outcomes, "received": 10,
    }  # fmt: skip
    assert client.get(accounting, params={"to": MINUTE}).json()["data"] == []


def test_a_line_without_an_outcome_is_an_imbalance_that_raises_the_alarm(
    client: TestClient, database: Database, log: PostgresLog
) -> None:
    good, bad = (
        client.post("/v1/sources", json={"name": "a", "type": "web"}).json()["id"] for _ in "ab"
    )
    minute = minute_of(RECEIVED)
    with database.transaction() as connection:
        counts = {(bad, "received"): 3, (bad, "stored"): 2, (good, "received"): 1}
        counts |= {(good, "duplicate"): 1}
        count_outcomes(
            driver(connection),
            {(source, minute, outcome): n for (source, outcome), n in counts.items()},  # type: ignore[misc]
        )
    (row,) = client.get(f"/v1/sources/{bad}/accounting").json()["data"]
    assert (row["received"], row["stored"], row["balanced"]) == (3, 2, False)
    metrics = Metrics()
    metrics.watch(database, log, None)
    shown = metrics.render().decode()
    assert f'cdp_accounting_unbalanced{{source_id="{bad}"}} 1.0' in shown
    assert f'cdp_accounting_unbalanced{{source_id="{good}"}} 0.0' in shown
    assert f'cdp_received_total{{source_id="{bad}"}} 3.0' in shown


def test_accounting_comes_in_pages_and_goes_back_a_day_unless_told_otherwise(
    client: TestClient, database: Database
) -> None:
    source_id = client.post("/v1/sources", json={"name": "a", "type": "web"}).json()["id"]
    minutes = [minute_of(RECEIVED) - timedelta(hours=hours) for hours in (25, 3, 2, 1)]
    with database.transaction() as connection:
        for minute in minutes:
            count_outcomes(
                driver(connection),
                {(source_id, minute, "received"): 1, (source_id, minute, "stored"): 1},
            )
    path = f"/v1/sources/{source_id}/accounting"
    first = client.get(path, params={"limit": 2}).json()
    rest = client.get(path, params={"limit": 2, "cursor": first["next"]}).json()
    shown = [row["minute"] for row in first["data"] + rest["data"]]
    assert (shown, rest["next"]) == ([format_time(minute) for minute in minutes[1:]], None)
    older = client.get(path, params={"from": format_time(minutes[0])}).json()
    assert len(older["data"]) == 4
    before = client.get(path, params={"to": format_time(minutes[2])}).json()
    assert [row["minute"] for row in before["data"]] == [format_time(m) for m in minutes[:2]]


def keep_refused(database: Database, *codes: str) -> None:
    raw = json.dumps(
        {"type": "identify", "userId": 1.5, "traits": {"email": "ann@example.com", "plan": "pro"}}
    ).encode()
    with database.transaction() as connection:
        write_rejected(
            driver(connection),
            [RejectedEvent("src_1", f"m-{code}", code, "why", RECEIVED, raw) for code in codes],
        )


def test_refused_events_are_listed_newest_first_with_their_bytes(
    client: TestClient, database: Database
) -> None:
    keep_refused(database, "unknown_type", "invalid_user_id", "no_identifier")
    first = client.get("/v1/rejected", params={"limit": 2}).json()
    assert [row["code"] for row in first["data"]] == ["no_identifier", "invalid_user_id"]
    assert json.loads(first["data"][0]["raw"])["traits"]["email"] == "ann@example.com"
    assert first["data"][0]["messageId"] == "m-no_identifier"
    rest = client.get("/v1/rejected", params={"limit": 2, "cursor": first["next"]}).json()
    assert ([row["code"] for row in rest["data"]], rest["next"]) == (["unknown_type"], None)
    by_code = client.get("/v1/rejected", params={"code": "no_identifier", "source": "src_1"})
    assert len(by_code.json()["data"]) == 1
    assert client.get("/v1/rejected", params={"source": "src_2"}).json()["data"] == []
    assert client.get("/v1/rejected", params={"to": format_time(RECEIVED)}).json()["data"] == []


def test_personal_values_in_refused_events_are_masked_without_the_scope(
    api: FastAPI, database: Database
) -> None:
    keep_refused(database, "invalid_user_id")
    client = ask_as(api, database, "sources:write")
    (row,) = client.get("/v1/rejected").json()["data"]
    assert "ann@example.com" not in row["raw"]
    assert json.loads(row["raw"])["traits"]["plan"] == "pro"


def test_members_of_a_refused_account_are_masked_too() -> None:
    account = {
        "account_id": "acme",
        "members": [{"identifier": {"type": "phone", "value": "+8613800138000"}, "role": "buyer"}],
    }
    masked = json.loads(mask_raw(json.dumps(account).encode()))
    assert masked["members"] == [
        {"identifier": {"type": "phone", "value": "+***"}, "role": "buyer"}
    ]
    assert "***" in mask_raw(b'{"members": ["ann@example.com"]}')
    assert "ann" not in mask_raw(b'{"members": ["ann@example.com"]}')


def test_refused_events_are_forgotten_when_their_time_is_over(
    client: TestClient, database: Database
) -> None:
    keep_refused(database, "one", "two", "three")
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE rejected SET received_at = received_at - interval '31 days' WHERE code <> 'one'"
        )
        for resolution in ("NULL, NULL", "now() - interval '31 days', 'discarded'"):
            connection.exec_driver_sql(
                "INSERT INTO dead_letters (log, partition, record_offset, reason, headers, value,"
                f" resolved_at, resolution) VALUES ('x', 0, 0, 'r', '{{}}', '', {resolution})"
            )
    before = now() - timedelta(days=30)
    assert drop_refused_before(database, before, limit=1) == 1
    assert drop_refused_before(database, before) == 1
    assert drop_refused_before(database, before) == 0
    assert [row["code"] for row in client.get("/v1/rejected").json()["data"]] == ["one"]
    (letter,) = client.get("/v1/dead-letters").json()["data"]
    assert letter["status"] == "open"


def test_a_refused_event_keeps_its_bytes_through_the_log() -> None:
    import msgspec

    line = msgspec.json.encode(RejectedLine("code", "why", b"\xff\n{", "m", 3))
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=RejectedLine).raw == b"\xff\n{"
