"""From the door to a receiver: consent that is withdrawn, time that passes, and what is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from standardwebhooks import Webhook

from cdp.runtime.clock import format_time
from tests.support.program import Program, run_program
from tests.support.receiver import Receiver, receive_webhooks

PRIVATE = {"CDP_ALLOW_PRIVATE_DESTINATIONS": "true"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with run_program(tmp_path_factory.mktemp("activation"), PRIVATE) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receive_webhooks() as found:
        yield found


def wait_until(holds: Callable[[], bool], say: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(httpx.HTTPError):
            if holds():
                return
        assert time.monotonic() < deadline, say()
        time.sleep(0.2)


def add_segment(program: Program, key: str, rule: Any) -> None:
    with program.client() as client:
        answer = client.post("/v1/segments", json={"key": key, "rule": rule})
    assert answer.status_code == 201, answer.text


def add_destination(program: Program, receiver: Receiver, key: str, **more: Any) -> dict[str, Any]:
    body = {"type": "webhook", "settings": {"url": receiver.url}, "segments": [key], **more}
    with program.client() as client:
        answer = client.post("/v1/destinations", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def held(receiver: Receiver) -> set[str]:
    """Whom the receiver holds, by e-mail address."""
    return {row["fields"]["email"] for row in receiver.held().values()}


def agree(user: str, *, yes: bool = True, **more: Any) -> dict[str, Any]:
    consent = {"consent": {"categoryPreferences": {"marketing": yes}}}
    email = {"email": f"{user}@example.com"}
    return {"type": "identify", "userId": user, "traits": email, "context": consent, **more}


def pull(program: Program, key: str) -> set[str]:
    """Whom a tool that asks for marketing gets, by e-mail address."""
    asked = {"consent": "marketing", "fields": "email", "limit": "100"}
    with program.client() as client:
        rows = client.get(f"/v1/segments/{key}/members", params=asked).json()["data"]
    return {row["email"] if "email" in row else row["fields"]["email"] for row in rows}


def test_a_consent_that_is_withdrawn_in_any_way_ends_pull_and_push(
    program: Program, receiver: Receiver
) -> None:
    users = ["by-sdk", "by-api", "by-merge", "stays"]
    add_segment(program, "reachable", {"trait": "email", "op": "exists"})
    add_destination(program, receiver, "reachable", fields=["email"], consent=["marketing"])
    program.post("/v1/batch", {"batch": [agree(user) for user in users]})
    program.post("/v1/batch", {"batch": [agree("other-half", yes=False)]})
    addresses = {f"{user}@example.com" for user in users}
    wait_until(lambda: held(receiver) == addresses, lambda: held(receiver))
    assert pull(program, "reachable") == addresses

    program.post("/v1/identify", agree("by-sdk", yes=False))
    path = quote("email:by-api@example.com", safe="")
    denied = {"purpose": "marketing", "granted": False, "source": "phone call"}
    names = [{"type": "user_id", "value": user} for user in ("by-merge", "other-half")]
    merge = {"identifiers": names, "reason": "one person", "allow_unique_conflict": True}
    with program.client() as client:
        for where, body in (
            (f"/v1/profiles/{path}/consent", denied),
            ("/v1/identity/merge", merge),
        ):
            answer = client.post(where, json=body)
            assert answer.status_code == 200, answer.text
    left = {"stays@example.com"}
    wait_until(lambda: pull(program, "reachable") == left, lambda: pull(program, "reachable"))
    wait_until(lambda: held(receiver) == left, lambda: held(receiver))


def test_who_falls_silent_is_pushed_signed_though_nothing_happens(
    program: Program, receiver: Receiver
) -> None:
    seen = {"event": "Visited", "within": {"last": "2m"}, "count": {"op": "eq", "value": 0}}
    add_segment(program, "silent", {"all": [{"event": "Visited"}, seen]})
    made = add_destination(program, receiver, "silent", fields=["email"])
    at = format_time(datetime.now(UTC) - timedelta(seconds=110))
    visit = {"type": "track", "event": "Visited", "userId": "quiet", "timestamp": at}
    program.post("/v1/batch", {"batch": [agree("quiet"), visit]})
    wait_until(lambda: bool(receiver.held()), lambda: receiver.received)
    (one,) = receiver.received
    assert [(row["change"], row["cause"]) for row in one.rows] == [("entered", "time")]
    body = Webhook(made["secret"]).verify(one.body, one.headers)
    assert body == json.loads(one.body)


def test_nothing_is_lost_while_receiver_and_program_are_away_and_the_deleted_leave(
    program: Program, receiver: Receiver
) -> None:
    add_segment(program, "buyers", {"event": "Bought"})
    made = add_destination(program, receiver, "buyers", fields=["email"])
    for _ in range(50):
        receiver.answer(503, retry_after="1")
    batch = [agree("loses"), agree("keeps")]
    batch += [{"type": "track", "event": "Bought", "userId": user} for user in ("loses", "keeps")]
    program.post("/v1/batch", {"batch": batch})
    wait_until(lambda: bool(receiver.received), lambda: "nothing was tried")
    program.kill_everything()
    refused = {one.id for one in receiver.received}
    receiver.answers.clear()
    receiver.received.clear()
    program.start()

    addresses = {"loses@example.com", "keeps@example.com"}
    wait_until(lambda: held(receiver) == addresses, lambda: receiver.received)
    assert refused <= {one.id for one in receiver.received}

    program.run("privacy", "delete", "user_id:loses")
    wait_until(lambda: held(receiver) == {"keeps@example.com"}, lambda: receiver.received)
    (gone,) = [row for one in receiver.received for row in one.rows if row["change"] == "left"]
    assert gone["cause"] == "privacy"
    assert "fields" not in gone
    with program.client() as client:
        found = client.get(f"/v1/destinations/{made['id']}").json()
    assert found["status"] == "active"
