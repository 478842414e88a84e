"""What callers put into unmodified SDKs: numbers as ids, times of their own, aliases, packing."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.identity.identifiers import identify
from cdp.identity.rules import default_rules
from cdp.ingest.read_line import read_line
from cdp.model import Event, Identifier, Source, SourceType
from tests.support.chromium import run_chromium
from tests.support.fault_proxy import ProxyLoop
from tests.support.sdks import (
    BROWSER_SDKS,
    SERVER_SDKS,
    Job,
    Sdk,
    is_acknowledged,
    list_params,
    run_in_browser,
    start_on_servers,
)
from tests.support.small_stack import Sender, SmallStack

THEIRS = datetime(2021, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
DATE = {"$date": "2021-02-03T04:05:06.789+00:00"}
HUGE = 2**70

COMMON = [
    {"type": "track", "userId": "u1", "event": "Backfilled", "timestamp": DATE},
    {"type": "alias", "userId": "u1", "previousId": "u0"},
    {"type": "identify", "userId": "u1", "traits": {"email": "Ann@Example.com", "plan": None}},
    {"type": "page", "userId": "u1", "name": "Home"},
    {"type": "track", "userId": "u1", "event": "Measured", "properties": {"n": HUGE}},
]
NUMBERS = [
    {"type": "track", "userId": 42, "event": "Numbered"},
    {"type": "group", "userId": 42, "groupId": 7, "traits": {"seats": 3}},
    {"type": "alias", "userId": 42, "previousId": 41},
]
SAY_PACKING: dict[str, dict[str, Any]] = {
    "segment-python": {"gzip": True},
    "rudder-python": {"gzip": False},
    "rudder-node": {"gzip": False},
}
"""The opposite of what each does by itself; analytics-node cannot pack."""
NEWEST = [
    SERVER_SDKS[n] for n in ("segment-python", "rudder-python", "segment-node", "rudder-node")
]


@dataclass
class Sent:
    """What an SDK sent, and how the worker reads it."""

    job: Job
    events: list[Event]

    def find(self, name: str) -> Event:
        """The one event of a name."""
        (found,) = (event for event in self.events if event.name == name)
        return found


def read_events(stack: SmallStack, sender: Sender, kind: SourceType = "server") -> list[Event]:
    source = Source(sender.source_id, 1, "sdk", kind)
    rules = default_rules("CN")
    read = [
        read_line(line, source, lambda claims: identify(claims, rules=rules))
        for line in stack.read_lines(sender)
    ]
    return [event for event in read if isinstance(event, Event)]


@pytest.fixture(scope="module")
def on_servers(stack: SmallStack, proxies: ProxyLoop) -> dict[str, tuple[Job, Sender, Future[int]]]:
    prepared = {}
    for sdk in NEWEST:
        sender = stack.add_source()
        options = SAY_PACKING.get(sdk.name, {})
        job = Job(proxies.open(stack.url), sender.key, [*COMMON, *NUMBERS], options)
        prepared[sdk.name] = (job, sender)
    exits = start_on_servers((sdk, [prepared[sdk.name][0]]) for sdk in NEWEST)
    return {name: (*found, exits[name]) for name, found in prepared.items()}


@pytest.fixture
def sent(
    sdk: Sdk, stack: SmallStack, on_servers: dict[str, tuple[Job, Sender, Future[int]]]
) -> Sent:
    job, sender, exit_code = on_servers[sdk.name]
    assert exit_code.result() == 0, job.errors
    account = stack.wait_for(sender, len(job.proxy.forwarded_ids))
    events = read_events(stack, sender)
    assert (account.stored, account.rejected) == (len(events), 0)
    return Sent(job, events)


@pytest.mark.parametrize("sdk", list_params(NEWEST))
def test_a_time_that_the_caller_gives_is_the_time_of_the_event(sdk: Sdk, sent: Sent) -> None:
    """rudder-node sends it beside an ``originalTimestamp`` of now."""
    event = sent.find("Backfilled")
    assert event.at == THEIRS
    (raw,) = (e for p in sent.job.proxy.posts for e in p.events if e.get("event") == "Backfilled")
    assert ("originalTimestamp" in raw) == (sdk.name == "rudder-node")


@pytest.mark.parametrize("sdk", list_params(NEWEST))
def test_numbers_as_ids_are_their_digits_or_never_leave_the_sdk(sdk: Sdk, sent: Sent) -> None:
    numbered = [e for e in sent.events if Identifier("user_id", "42") in e.identifiers]
    if sdk.name == "segment-node":
        assert numbered == []
        assert len(sent.job.errors) == 3
        return
    assert {event.type for event in numbered} == {"track", "group", "alias"}
    (group,) = (event for event in numbered if event.type == "group")
    (alias,) = (event for event in numbered if event.type == "alias")
    assert group.group_id == "7"
    assert Identifier("anonymous_id", "41") in alias.identifiers
    raw = [event for post in sent.job.proxy.posts for event in post.events]
    assert {type(e["groupId"]) for e in raw if "groupId" in e} == {int}
    assert {
        type(e["previousId"]) for e in raw if e.get("previousId") != "u0" and "previousId" in e
    } == {int}


@pytest.mark.parametrize("sdk", list_params(NEWEST))
def test_an_alias_from_a_server_names_both_sides(sdk: Sdk, sent: Sent) -> None:
    aliases = [e for e in sent.events if e.type == "alias"]
    assert any(
        {Identifier("user_id", "u1"), Identifier("anonymous_id", "u0")} <= set(alias.identifiers)
        for alias in aliases
    )


@pytest.mark.parametrize("sdk", list_params(NEWEST))
def test_traits_are_the_persons_wherever_the_sdk_puts_them(sdk: Sdk, sent: Sent) -> None:
    (event,) = (event for event in sent.events if event.type == "identify")
    assert Identifier("email", "ann@example.com") in event.identifiers
    assert event.traits["email"] == "Ann@Example.com"
    (raw,) = (e for p in sent.job.proxy.posts for e in p.events if e["type"] == "identify")
    places = {"traits": "traits" in raw, "context": "traits" in raw["context"]}
    assert (
        places
        == {
            "segment-python": {"traits": True, "context": False},
            "rudder-python": {"traits": False, "context": True},
            "segment-node": {"traits": True, "context": False},
            "rudder-node": {"traits": True, "context": True},
        }[sdk.name]
    )


@pytest.mark.parametrize("sdk", list_params(NEWEST))
def test_a_number_beyond_64_bits_is_kept_whole_as_text(sdk: Sdk, sent: Sent) -> None:
    measured = json.loads(sent.find("Measured").properties)["n"]
    # JavaScript has made a fraction of it before the SDK sees it.
    assert measured == (float(HUGE) if sdk.runtime == "node" else str(HUGE))


@pytest.mark.parametrize("sdk", list_params(s for s in NEWEST if s.name in SAY_PACKING))
def test_packed_or_not_is_the_callers_choice(sdk: Sdk, sent: Sent) -> None:
    is_packed = {post.header("content-encoding") == "gzip" for post in sent.job.proxy.posts}
    assert is_packed == {SAY_PACKING[sdk.name]["gzip"]}


BROWSERS = ["segment-browser", "segment-browser-1.83", "rudder-browser"]
STRANGERS_CALLS = [{"type": "alias", "userId": "u2"}]
BROWSER_CALLS = [
    {"type": "identify", "userId": "u1", "traits": {"email": "ann@example.com"}},
    {
        "type": "track",
        "event": "Backfilled",
        "properties": {},
        "options": {"timestamp": "2021-02-03T04:05:06.789Z"},
    },
    {"type": "group", "groupId": "acme", "traits": {"name": "Acme"}},
    {"type": "alias", "userId": "u3"},
]
RUDDER_CALLS = [
    call | {"options": {"originalTimestamp": "2021-02-03T04:05:06.789Z"}}
    if call["type"] == "track"
    else call
    for call in BROWSER_CALLS
]


@pytest.fixture(scope="module")
def in_browsers(stack: SmallStack, proxies: ProxyLoop) -> dict[str, Sent]:
    """Two pages of each: one of somebody known, and one of a stranger."""
    prepared: dict[str, tuple[Sdk, Sender, Job]] = {}
    for name in BROWSERS:
        known = RUDDER_CALLS if name.startswith("rudder") else BROWSER_CALLS
        for page, calls in ((name, known), (f"{name}, stranger", STRANGERS_CALLS)):
            sender = stack.add_source("web")
            job = Job(proxies.open(stack.url), sender.key, calls)
            prepared[page] = (BROWSER_SDKS[name], sender, job)
    with run_chromium() as chromium:
        jobs = [(sdk, job) for sdk, _, job in prepared.values()]
        run_in_browser(chromium, jobs, is_acknowledged)
    return {
        name: Sent(job, read_events(stack, sender, "web"))
        for name, (_, sender, job) in prepared.items()
    }


@pytest.mark.browser
@pytest.mark.parametrize("name", BROWSERS)
def test_a_browser_may_date_back_too(in_browsers: dict[str, Sent], name: str) -> None:
    event = in_browsers[name].find("Backfilled")
    assert abs(event.at - THEIRS) < timedelta(minutes=1)


@pytest.mark.browser
@pytest.mark.parametrize("name", BROWSERS)
def test_an_alias_from_a_browser_fills_in_whom_it_knew(
    in_browsers: dict[str, Sent], name: str
) -> None:
    sent = in_browsers[f"{name}, stranger"]
    (alias,) = sent.events
    (raw,) = list_aliases(sent, "u2")
    assert raw["previousId"] == raw["anonymousId"]
    assert set(alias.identifiers) == {
        Identifier("user_id", "u2"),
        Identifier("anonymous_id", raw["anonymousId"]),
    }


def list_aliases(sent: Sent, user_id: str) -> list[dict[str, Any]]:
    """The alias calls of a user id, as they were sent."""
    raw = [event for post in sent.job.proxy.posts for event in post.events]
    return [event for event in raw if event["type"] == "alias" and event["userId"] == user_id]


@pytest.mark.browser
@pytest.mark.parametrize("name", ["segment-browser", "segment-browser-1.83"])
def test_an_alias_of_somebody_known_to_analytics_next_names_nobody_else(
    in_browsers: dict[str, Sent], name: str
) -> None:
    """It sends the stored user id on both sides, and not the one that it was given."""
    (raw,) = list_aliases(in_browsers[name], "u1")
    assert (raw["previousId"], list_aliases(in_browsers[name], "u3")) == ("u1", [])
    aliases = [event for event in in_browsers[name].events if event.type == "alias"]
    (alias,) = (e for e in aliases if Identifier("user_id", "u1") in e.identifiers)
    assert set(alias.identifiers) == {
        Identifier("user_id", "u1"),
        Identifier("anonymous_id", raw["anonymousId"]),
    }


@pytest.mark.browser
def test_an_alias_of_somebody_known_to_rudderstacks_sdk_names_both(
    in_browsers: dict[str, Sent],
) -> None:
    (raw,) = list_aliases(in_browsers["rudder-browser"], "u3")
    assert raw["previousId"] == "u1"


@pytest.mark.browser
@pytest.mark.parametrize("name", BROWSERS)
def test_the_traits_of_a_group_are_not_the_persons(in_browsers: dict[str, Sent], name: str) -> None:
    (group,) = (event for event in in_browsers[name].events if event.type == "group")
    assert json.loads(group.properties) == {"name": "Acme"}
    assert "name" not in group.traits
