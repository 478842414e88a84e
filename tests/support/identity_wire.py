"""Stories about identity through the real door, log and workers, read back over the API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.access.tokens_store import create_token
from cdp.current_rules import CurrentRules
from cdp.identity import routes as identity_routes
from cdp.model import Identifier
from cdp.profiles import routes as profile_routes
from cdp.profiles import search_routes
from cdp.profiles.profile_names import parse_profile_name
from cdp.runtime.clock import format_time, now
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import driver
from tests.support.identity_scenarios import Call, Scenario
from tests.support.postgres import PostgresServer
from tests.support.small_stack import Sender, SmallStack, run_stack


@dataclass
class IdentityWire:
    """A door, two workers behind it, and the API; a trusted source and a public one."""

    stack: SmallStack
    client: TestClient
    trusted: Sender
    public: Sender
    sent: dict[str, int]
    """Events received so far, by source."""

    def tell(self, scenario: Scenario) -> None:
        """Send a story and wait until it is worked off."""
        start = now() - timedelta(days=max(call.day for call in scenario.calls), hours=12)
        bodies = [
            (call.public, write_event(scenario, number, call, start))
            for number, call in enumerate(scenario.calls)
            for _ in range(2 if call.again else 1)
        ]
        if scenario.at_once:
            with ThreadPoolExecutor(len(bodies)) as pool:
                list(pool.map(lambda one: self.post([one[1]], public=one[0]), bodies))
        else:
            while bodies:
                public = bodies[0][0]
                run = next((n for n, one in enumerate(bodies) if one[0] != public), len(bodies))
                self.post([body for _, body in bodies[:run]], public=public)
                del bodies[:run]
        self.wait()

    def post(self, events: list[dict[str, Any]], *, public: bool = False) -> None:
        """Send events as one batch."""
        sender = self.public if public else self.trusted
        answer = httpx.post(
            f"{self.stack.url}/v1/batch",
            json={"batch": events},
            auth=(sender.key, ""),
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        assert not answer.json().get("rejected"), answer.text
        self.sent[sender.key] = self.sent.get(sender.key, 0) + len(events)

    def wait(self) -> None:
        """Wait until all that was sent is worked off."""
        for sender in (self.trusted, self.public):
            self.stack.wait_for(sender, self.sent.get(sender.key, 0))

    def decide(self, verb: str, names: list[Identifier], **more: Any) -> str:
        """Let a steward decide; return the decision's id."""
        body = {"identifiers": [name._asdict() for name in names], "reason": "a story", **more}
        answer = self.client.post(f"/v1/identity/{verb}", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def undo(self, decision_id: str) -> None:
        """Let the steward take a decision back."""
        answer = self.client.post(f"/v1/identity/undo/{decision_id}", json={"reason": "a mistake"})
        assert answer.status_code == 200, answer.text

    def read(self, name: Identifier | str) -> dict[str, Any]:
        """The profile of an identifier."""
        answer = self.client.get(f"/v1/profiles/{quote(str(name), safe='')}")
        assert answer.status_code == 200, answer.text
        profile: dict[str, Any] = answer.json()
        return profile

    def lookup(self, names: list[Identifier]) -> dict[Identifier, str]:
        """The profile id of each identifier that somebody has."""
        found: dict[Identifier, str] = {}
        for start in range(0, len(names), 500):
            part = names[start : start + 500]
            body = {"identifiers": [name._asdict() for name in part]}
            answer = self.client.post("/v1/profiles/lookup", json=body)
            assert answer.status_code == 200, answer.text
            for row in answer.json()["data"]:
                if row["profile_id"] is not None:
                    found[Identifier(row["type"], row["value"])] = row["profile_id"]
        return found

    def count_events(self, profile_id: str) -> int:
        """How many events stand in a person's timeline."""
        count, cursor = 0, None
        while True:
            asked = {"limit": 1000} | ({"cursor": cursor} if cursor else {})
            page = self.client.get(f"/v1/profiles/id:{profile_id}/events", params=asked).json()
            count += len(page["data"])
            cursor = page["next"]
            if cursor is None:
                return count

    def list_refused(self) -> list[dict[str, Any]]:
        """Everything that was refused, of all stories."""
        rows: list[dict[str, Any]] = []
        cursor = None
        while True:
            asked = {"limit": 1000} | ({"cursor": cursor} if cursor else {})
            page = self.client.get("/v1/identity/refused", params=asked).json()
            rows += page["data"]
            cursor = page["next"]
            if cursor is None:
                return rows


def write_event(scenario: Scenario, number: int, call: Call, start: datetime) -> dict[str, Any]:
    """Write a call as an SDK would."""
    body: dict[str, Any] = {
        "type": "track",
        "event": "Seen",
        "messageId": f"s{scenario.number}{scenario.part}-{number}",
        "timestamp": format_time(start + timedelta(days=call.day)),
    }
    context: dict[str, Any] = {}
    for kind, value in scenario.claims_of(call):
        match kind:
            case "user_id" if "userId" not in body:
                body["userId"] = value
            case "anonymous_id" if "anonymousId" not in body:
                body["anonymousId"] = value
            case "anonymous_id" if call.previous:
                body["previousId"] = value
            case "email" | "phone":
                context.setdefault("traits", {})[kind] = value
            case "device_id":
                context.setdefault("device", {}).setdefault("id", value)
                if context["device"]["id"] != value:
                    context.setdefault("externalIds", []).append(_external(kind, value))
            case _:
                context.setdefault("externalIds", []).append(_external(kind, value))
    if call.previous:
        body["type"] = "alias"
        body.setdefault("previousId", body.get("userId"))
    return {**body, "context": context}


def _external(kind: str, value: object) -> dict[str, object]:
    return {"type": kind, "id": value, "collection": "users", "encoding": "none"}


@contextlib.contextmanager
def run_identity_wire(postgres: PostgresServer) -> Iterator[IdentityWire]:
    """A stack with the API of people and identity beside it."""
    with run_stack(postgres, workers=2) as stack:
        rules = CurrentRules(stack.database, "CN")
        routers = [
            search_routes.create_router(stack.database, rules.normalise),
            profile_routes.create_router(stack.database, rules.normalise),
            identity_routes.create_router(
                stack.database,
                rules.get,
                lambda name: parse_profile_name(name, rules.normalise),
                rules.forget,
            ),
        ]
        app = FastAPI()
        for router in routers:
            app.include_router(router)
        tokens = TokenDirectory(stack.database)
        app.add_middleware(Guard, routes=read_requirements(routers), tokens=tokens)
        install_error_answers(app)
        with stack.database.transaction() as connection:
            scopes = ("profiles:read", "identity:write", "pii:read")
            _, token = create_token(driver(connection), "test", scopes)
        client = TestClient(app, headers={"Authorization": f"Bearer {token}"})
        yield IdentityWire(stack, client, stack.add_source("server"), stack.add_source("web"), {})
