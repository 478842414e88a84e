"""Accounts: from the door through the log and the worker to what is shown of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.accounts import routes as account_routes
from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.identifiers import normalise
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.port import Log
from cdp.log.postgres_log import PostgresLog
from cdp.profiles import routes as profile_routes
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver
from cdp.worker import Worker
from tests.support.ingest_server import run_ingest

RULES = default_rules("CN")
ANN = {"type": "email", "value": "Ann@Example.com"}
BOB = {"type": "user_id", "value": "bob"}


def member(identifier: dict[str, str], **said: Any) -> dict[str, Any]:
    return {"identifier": identifier, **said}


def version(hour: int, **said: Any) -> dict[str, Any]:
    """What is said of the account acme at ``hour``."""
    return {"account_id": "acme", "updated_at": f"2026-03-01T{hour:02}:00:00Z", **said}


class Company:
    """A door, the routes behind it, and a worker."""

    def __init__(self, database: Database, log: Log, url: str) -> None:
        self.database, self._log, self._url = database, log, url
        self.keys: dict[str, str] = {}
        with database.transaction() as connection:
            tx = driver(connection)
            self._salt = ensure_salt(tx)
            for kind in ("crm", "web"):
                self.keys[kind] = create_source(tx, kind, kind, {})[1]  # type: ignore[arg-type]
            scopes = ("profiles:read",)
            self._blind = tokens_store.create_token(tx, "blind", scopes)[1]
            self._token = tokens_store.create_token(tx, "all", (*scopes, "pii:read"))[1]

    def post(self, *accounts: Any, key: str = "crm") -> httpx.Response:
        body = {"accounts": list(accounts)}
        return httpx.post(f"{self._url}/v1/accounts", json=body, auth=(self.keys[key], ""))

    def call(self, kind: str, key: str = "web", **call: Any) -> None:
        answer = httpx.post(
            f"{self._url}/v1/batch",
            json={"batch": [{"type": kind, **call}]},
            auth=(self.keys[key], ""),
        )
        assert answer.json()["accepted"] == 1, answer.text
        self.work()

    def tell(self, *accounts: Any) -> None:
        answer = self.post(*accounts)
        assert answer.json()["rejected"] == [], answer.text
        self.work()

    def work(self) -> None:
        worker = Worker(
            self.database,
            self._log,
            SourceDirectory(self.database),
            IdentityStore(RULES, self._salt),
            partial(identify_claims, rules=RULES),
        )
        while worker.step(0):
            pass
        worker.close()

    def get(self, path: str, *, blind: bool = False) -> Any:
        token = self._blind if blind else self._token
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{self._url}/v1/{path}", headers=headers).json()

    def roles(self) -> dict[str, str | None]:
        """Return the role of each member of acme, by their first identifier."""
        return {
            self.get(f"profiles/id:{row['profile_id']}")["identifiers"][0]["value"]: row["role"]
            for row in self.get("accounts/acme")["members"]
        }

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.database.transaction() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]


@pytest.fixture
def company(database: Database) -> Iterator[Company]:
    log = PostgresLog(database, 4)
    directory = SourceDirectory(database)
    routers = [
        account_routes.create_router(database, lambda name: name),
        profile_routes.create_router(database, partial(normalise, rules=RULES)),
    ]
    app = FastAPI()
    for router in routers:
        app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=TokenDirectory(database))
    install_error_answers(app)
    with run_ingest(directory, log, app) as url:
        made = Company(database, log, url)
        directory.start()
        yield made
    directory.close()
    log.close()


def test_a_posted_account_is_shown_with_its_traits_members_and_what_they_come_to(
    company: Company,
) -> None:
    members = [member(ANN, role="decision maker"), member(BOB, role="user")]
    traits = {"name": "Acme", "seats": 50, "address": {"city": "上海"}}
    company.tell(version(1, type="company", traits=traits, members=members))
    order = {"order_id": "1", "currency": "JPY", "total": 500, "identifiers": [ANN]}
    httpx.post(
        f"{company._url}/v1/orders", json={"orders": [order]}, auth=(company.keys["crm"], "")
    )
    company.call("track", userId="bob", event="Login", messageId="e1")

    shown = company.get("accounts/acme")

    assert (shown["account_id"], shown["type"], shown["traits"]) == ("acme", "company", traits)
    assert company.roles() == {"ann@example.com": "decision maker", "bob": "user"}
    told = {"members": 2, "events": 1, "orders": 1}
    assert {name: shown["figures"][name] for name in told} == told
    assert shown["figures"]["net_revenue"] == [{"amount": 500, "currency": "JPY"}]
    assert company.get("profiles/email:ann@example.com")["accounts"] == [
        {"account_id": "acme", "role": "decision maker"}
    ]
    hidden = company.get("accounts/acme", blind=True)["traits"]
    assert (hidden["name"], hidden["seats"], hidden["address"]) == ("A***", 50, {"city": "上***"})


def test_each_account_of_a_request_has_its_own_verdict_and_all_are_counted(
    company: Company,
) -> None:
    answer = company.post(
        version(1), {"account_id": " "}, version(2, members=[{"role": "buyer"}])
    ).json()
    assert (answer["success"], answer["accepted"]) == (True, 1)
    assert [(row["index"], row["code"]) for row in answer["rejected"]] == [
        (1, "missing_account_id"),
        (2, "invalid_identifiers"),
    ]
    company.work()
    company.tell(version(1))
    assert company.ask("SELECT sum(stored), sum(duplicate), sum(rejected) FROM accounting") == [
        (1, 1, 2)
    ]


def test_lines_are_taken_as_well_as_a_list(company: Company) -> None:
    answer = httpx.post(
        f"{company._url}/v1/accounts",
        content=b'{"account_id": "a"}\n{"account_id": "b"}\n',
        headers={"Content-Type": "application/x-ndjson"},
        auth=(company.keys["crm"], ""),
    )
    assert answer.json()["accepted"] == 2
    company.work()
    page = company.get("accounts?limit=1")
    rest = company.get(f"accounts?limit=1&cursor={page['next']}")
    ids = {row["account_id"] for row in (*page["data"], *rest["data"])}
    assert (ids, rest["next"]) == ({"a", "b"}, None)


def test_a_key_that_lies_in_the_open_cannot_post_accounts(company: Company) -> None:
    assert company.post(version(1), key="web").status_code == 403


def test_a_record_changes_whom_and_what_it_names_and_leaves_the_rest(company: Company) -> None:
    company.tell(
        version(1, type="company", traits={"plan": "free", "seats": 5}, members=[member(ANN)]),
        version(2, traits={"plan": "pro"}, members=[member(BOB, role="user")]),
    )
    assert company.get("accounts/acme")["traits"] == {"plan": "pro", "seats": 5}
    assert company.roles() == {"ann@example.com": None, "bob": "user"}
    company.tell(
        version(3, traits={"seats": None}, type=None, members=[member(ANN, removed=True)]),
        version(4, members=[member(BOB, role=None)]),
    )
    shown = company.get("accounts/acme")
    assert (shown["type"], shown["traits"]) == (None, {"plan": "pro"})
    assert company.roles() == {"bob": None}
    assert company.get("profiles/email:ann@example.com/accounts")["data"] == []


def test_late_versions_change_nothing_that_is_known_better(company: Company) -> None:
    company.tell(version(5, traits={"plan": "pro"}, members=[member(ANN, removed=True)]))
    company.tell(version(2, traits={"plan": "free", "seats": 5}, members=[member(ANN)]))
    assert company.get("accounts/acme")["traits"] == {"plan": "pro", "seats": 5}
    assert company.roles() == {}


def test_a_group_call_makes_its_caller_a_member_and_its_traits_the_accounts(
    company: Company,
) -> None:
    company.tell(version(1, traits={"plan": "free"}, members=[member(BOB, role="buyer")]))
    traits = {"plan": "pro", "industry": "tea"}
    company.call("group", userId="bob", groupId="acme", traits=traits, messageId="g1")
    company.call("group", anonymousId="a1", groupId=" acme ", messageId="g2")
    assert company.get("accounts/acme")["traits"] == traits
    # As what, a group call does not say.
    assert company.roles() == {"bob": "buyer", "a1": None}


def test_members_are_shown_once_however_many_of_their_identifiers_were_named(
    company: Company,
) -> None:
    company.call("group", anonymousId="a1", groupId="acme", messageId="g1")
    company.tell(version(1, members=[member(BOB, role="buyer")]))
    assert company.get("accounts/acme")["figures"]["members"] == 2
    company.call("identify", anonymousId="a1", userId="bob", messageId="i1")
    shown = company.get("accounts/acme")
    assert (shown["figures"]["members"], [row["role"] for row in shown["members"]]) == (
        1,
        ["buyer"],
    )
    # Whichever identifier is named: it is the person who leaves.
    company.call("group", anonymousId="a1", groupId="beta", messageId="g2")
    gone = [member({"type": "anonymous_id", "value": "a1"}, removed=True)]
    company.tell({"account_id": "acme", "members": gone})
    assert company.get("accounts/acme")["members"] == []
    assert company.get("profiles/user_id:bob")["accounts"] == [{"account_id": "beta", "role": None}]


def test_accounts_stand_below_others_and_a_circle_has_an_end(company: Company) -> None:
    company.tell(
        {"account_id": "acme", "parent_account_id": "holding"},
        {"account_id": "holding", "parent_account_id": "group"},
    )
    acme = company.get("accounts/acme")
    assert (acme["parent_account_id"], acme["ancestors"]) == ("holding", ["holding", "group"])
    assert company.get("accounts/group")["children"] == ["holding"]
    company.tell({"account_id": "group", "parent_account_id": "acme"})
    assert company.get("accounts/group")["ancestors"] == ["acme", "holding"]
    own = company.post({"account_id": "x", "parent_account_id": "x"}).json()
    assert own["rejected"][0]["code"] == "invalid_parent"


def test_members_are_listed_page_by_page(company: Company) -> None:
    named = [member({"type": "user_id", "value": f"u{n}"}) for n in range(5)]
    company.tell(version(1, members=named))
    found, cursor = [], ""
    while cursor is not None:
        page = company.get(f"accounts/acme/members?limit=2{cursor and '&cursor=' + cursor}")
        found += [row["profile_id"] for row in page["data"]]
        cursor = page["next"]
    assert len(found) == len(set(found)) == 5


def test_an_account_that_nobody_named_is_not_found(company: Company) -> None:
    assert company.get("accounts/nobody")["code"] == "account_not_found"
    assert company.get("accounts/nobody/members")["code"] == "account_not_found"
