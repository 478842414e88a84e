"""Every route, called with what the served document allows and with what it forbids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cdp.access import tokens_store
from cdp.access.scopes import SCOPES
from cdp.app import build_app
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.port import NewRecord
from cdp.log.postgres_log import PostgresLog
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.ingest_server import serve
from tests.support.postgres import PostgresServer
from tests.support.small_stack import make_worker
from tests.support.wire import append_events, identify, track

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# The stream of live events does not end.
ENDLESS = {"/v1/sources/{source_id}/live"}
# While DuckDB is fed anew, all that reads it answers 503.
DISTURBING = {"/v1/analytics/rebuild"}
# Making them up is what costs, not calling: two of each kind, the simplest and a random one.
EXAMPLES = 2

run = hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Running:
    """A whole serving process in this one, with a source and a token for everything."""

    url: str
    session: requests.Session
    write_key: str
    known: dict[str, Any]
    """Path parameters that name something."""


@pytest.fixture(scope="module")
def running(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("serving")
    with postgres_server.fresh_url() as url:
        app = build_app(Settings(database_url=url, data_dir=folder), frozenset({"ingest", "api"}))
        with serve(app) as address, requests.Session() as session:
            database = Database(url)
            source_id, key = _add_people(database)
            with database.transaction() as connection:
                _, token = tokens_store.create_token(driver(connection), "test", SCOPES)
            database.close()
            session.headers["Authorization"] = f"Bearer {token}"
            rule = {"trait": "email", "op": "exists"}
            segment = {"key": "known", "rule": rule}
            made = session.post(f"{address}/v1/segments", json=segment, timeout=20)
            assert made.status_code == 201, made.text
            drop = {"type": "file", "settings": {"path": "known"}, "segments": ["known"]}
            sent = session.post(f"{address}/v1/destinations", json=drop, timeout=20)
            assert sent.status_code == 201, sent.text
            known = {
                "source_id": source_id,
                "p": "user_id:u1",
                "account_id": "acme",
                "rejected_id": 1,
                "letter_id": 1,
                "key": "known",
                "destination_id": sent.json()["id"],
            }
            yield Running(address, session, key, known)


def _add_people(database: Database) -> tuple[str, str]:
    """A source whose events made a person, an account, an order and a refused row."""
    with database.transaction() as connection:
        source, key = create_source(driver(connection), "shop", "server", {})
    log = PostgresLog(database, 8)
    events = [
        identify("1", userId="u1", traits={"email": "u1@example.com"}),
        {"type": "group", "messageId": "2", "userId": "u1", "groupId": "acme"},
        track("Order Completed", "3", userId="u1", properties={"order_id": "o1", "total": 5}),
        {"type": "nonsense", "messageId": "4", "userId": "u1"},
    ]
    append_events(log, source.source_id, events)
    log.append([NewRecord(0, None, {}, b"of another make")]).result(20)
    worker = make_worker(database, log, SourceDirectory(database))
    while worker.step(0):
        pass
    worker.close()
    log.close()
    return source.source_id, key


def test_no_call_fails_the_server_and_every_answer_is_as_documented(running: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    failures: list[str] = []
    called = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in ENDLESS | DISTURBING:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            called += 1
            try:
                _call(running, operation, mode)
            except hypothesis.errors.Unsatisfiable:
                # Nothing that is sent there can be wrong.
                pass
            except BaseException as error:
                failures.append(f"{operation.label} {mode.value}: {_describe(error)}")
    assert called > 100
    assert failures == [], "\n\n".join(failures)


def _call(running: Running, operation: Any, mode: GenerationMode) -> None:
    is_ingest = "write_key" in str(operation.definition.raw.get("security"))
    auth = {"auth": (running.write_key, "")} if is_ingest else {}

    # By turns: what is random may never name what is there, or always.
    names_something = cycle((False, True))

    @run
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        if next(names_something):
            for name in case.path_parameters or {}:
                case.path_parameters[name] = running.known.get(name, case.path_parameters[name])
        answer = case.call(session=running.session, timeout=20, **auth)
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 400:
            assert answer.json().keys() == {"code", "message", "details"}, answer.text
        if answer.status_code in (429, 503):
            assert int(answer.headers["retry-after"][0]) > 0

    call()


def _describe(error: BaseException) -> str:
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    return "; ".join(" ".join(str(part).split())[:700] for part in parts)
