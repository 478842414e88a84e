"""The SDKs of both families, unmodified, against door and worker: all arrives, and means it.

What each of them sends is written down in docs/wire.md; the tables here are its proof.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.rules import default_rules
from cdp.ingest.read_line import read_line
from cdp.log.format import LoggedLine
from cdp.model import Event, Identifier, Source
from tests.support.chromium import run_chromium
from tests.support.fault_proxy import ProxyLoop
from tests.support.faults import Seen
from tests.support.sdks import (
    BROWSER_SDKS,
    SERVER_SDKS,
    Job,
    Sdk,
    Story,
    is_acknowledged,
    list_params,
    new_story,
    run_in_browser,
    start_on_servers,
    write_calls,
)
from tests.support.small_stack import Sender, SmallStack

ALL_SDKS = list_params((*SERVER_SDKS.values(), *BROWSER_SDKS.values()))
# What each runtime lets through to the wire that no strict reader takes.
ODD: dict[str, Any] = {"python": float("nan"), "node": "\ud800", "browser": "a\u0000b"}
FLAGS = {"python": "non_finite_number", "node": "lone_surrogate", "browser": "nul_character"}


@dataclass
class Told:
    """A story, who told it, and to whom."""

    story: Story
    job: Job
    sender: Sender


def prepare(stack: SmallStack, proxies: ProxyLoop, sdk: Sdk) -> Told:
    story = new_story()
    sender = stack.add_source("web" if sdk.runtime == "browser" else "server")
    calls = write_calls(story, odd=ODD[sdk.runtime])
    return Told(story, Job(proxies.open(stack.url), sender.key, calls), sender)


@pytest.fixture(scope="module")
def told_by_servers(stack: SmallStack, proxies: ProxyLoop) -> dict[str, tuple[Told, Future[int]]]:
    told = {name: prepare(stack, proxies, sdk) for name, sdk in SERVER_SDKS.items()}
    exits = start_on_servers((sdk, [told[name].job]) for name, sdk in SERVER_SDKS.items())
    return {name: (told[name], exits[name]) for name in told}


@pytest.fixture(scope="module")
def told_by_browsers(stack: SmallStack, proxies: ProxyLoop) -> dict[str, Told]:
    told = {name: prepare(stack, proxies, sdk) for name, sdk in BROWSER_SDKS.items()}
    with run_chromium() as chromium:
        jobs = [(sdk, told[name].job) for name, sdk in BROWSER_SDKS.items()]
        run_in_browser(chromium, jobs, is_acknowledged)
    return told


@pytest.fixture
def told(sdk: Sdk, request: pytest.FixtureRequest) -> Told:
    """What the SDK of this test told; all of them told at once."""
    if sdk.runtime == "browser":
        by_browsers: dict[str, Told] = request.getfixturevalue("told_by_browsers")
        return by_browsers[sdk.name]
    told, exit_code = request.getfixturevalue("told_by_servers")[sdk.name]
    # Raises what the SDK lacks on this machine.
    assert exit_code.result() == 0, told.job.errors
    found: Told = told
    return found


def read_story(sdk: Sdk, stack: SmallStack, told: Told) -> list[Event]:
    """The events of the log as the worker reads them."""
    kind = "web" if sdk.runtime == "browser" else "server"
    source = Source(told.sender.source_id, 1, "shop", kind)  # type: ignore[arg-type]
    identify = partial(identify_claims, rules=default_rules("CN"))
    lines: list[LoggedLine] = stack.read_lines(told.sender)
    read = [read_line(line, source, identify) for line in lines]
    return [event for event in read if isinstance(event, Event)]


@pytest.mark.parametrize("sdk", ALL_SDKS)
def test_every_call_arrives_once_and_is_accounted_for(
    sdk: Sdk, told: Told, stack: SmallStack
) -> None:
    account = stack.wait_for(told.sender, len(sdk.types))
    assert (account.stored, account.duplicate, account.rejected) == (len(sdk.types), 0, 0)
    stored = {row["message_id"] for row in stack.read_events(told.sender)}
    assert stored == set(told.job.proxy.acknowledged_ids)
    assert told.job.errors == []


@pytest.mark.parametrize("sdk", ALL_SDKS)
def test_every_call_means_what_the_caller_said(sdk: Sdk, told: Told, stack: SmallStack) -> None:
    events = read_story(sdk, stack, told)
    story = told.story
    assert Counter(event.type for event in events) == Counter(sdk.types)
    (identified,) = (event for event in events if event.type == "identify")
    assert set(identified.identifiers) >= {
        Identifier("user_id", story.userId),
        Identifier("anonymous_id", story.anonymousId),
        Identifier("email", story.email),
    }
    assert identified.traits["name"] == "安妮"
    (grouped,) = (event for event in events if event.type == "group")
    assert grouped.group_id == "acme"
    assert json.loads(grouped.properties)["name"] == "Acme"
    (aliased,) = (event for event in events if event.type == "alias")
    assert Identifier("anonymous_id", f"{story.anonymousId}-before") in aliased.identifiers
    assert {event.name for event in events if event.type == "track"} == {
        "Product Viewed",
        "Order Completed",
    }
    for event in events:
        assert abs((event.received_at - event.at).total_seconds()) < 60


@pytest.mark.parametrize("sdk", ALL_SDKS)
def test_what_no_strict_reader_takes_costs_a_value_and_no_event(
    sdk: Sdk, told: Told, stack: SmallStack
) -> None:
    events = read_story(sdk, stack, told)
    (viewed,) = (event for event in events if event.name == "Product Viewed")
    odd = json.loads(viewed.properties)["odd"]
    flags = json.loads(viewed.context).get("cdp", {}).get("flags", [])
    assert odd == ("a\ufffdb" if sdk.runtime == "browser" else None)
    assert flags == [FLAGS[sdk.runtime]]


KEYS = {
    "segment-python": {"basic", "body"},
    "segment-python-2.3.4": {"body"},
    "rudder-python": {"basic"},
    "rudder-python-2.1.4": {"basic"},
    "segment-node": {"basic", "body"},
    "segment-node-3.0.0": {"body"},
    "rudder-node": {"basic"},
    "rudder-node-3.0.12": {"basic"},
    "segment-browser": {"basic", "body"},
    "segment-browser-batching": {"basic", "body"},
    "segment-browser-1.84.1": {"basic", "body"},
    "segment-browser-1.83": {"body"},
    "rudder-browser": {"basic"},
    "rudder-browser-batching": {"basic"},
    "rudder-browser-beacon": {"query"},
    "rudder-browser-3.31.6": {"basic"},
}


def find_keys(post: Seen, key: str) -> set[str]:
    """Where a request carries the write key."""
    places = {
        "basic": post.header("authorization") == f"Basic {b64encode(f'{key}:'.encode()).decode()}",
        "body": isinstance(post.json, dict) and post.json.get("writeKey") == key,
        "query": post.query.get("writeKey") == [key],
    }
    return {place for place, is_there in places.items() if is_there}


@pytest.mark.parametrize("sdk", ALL_SDKS)
def test_the_key_is_where_the_contract_says(sdk: Sdk, told: Told) -> None:
    for post in told.job.proxy.posts:
        assert find_keys(post, told.job.key) == KEYS[sdk.name]


LETTERS = {f"/v1/{letter}" for letter in "ptigsa"}
NAMES = {"/v1/page", "/v1/track", "/v1/identify", "/v1/group", "/v1/alias"}
BODIES: dict[str, tuple[set[str], str, str | None]] = {
    "segment-python": ({"/v1/batch"}, "application/json", None),
    "rudder-python": ({"/v1/batch"}, "application/json", "gzip"),
    "segment-node": ({"/v1/batch"}, "application/json", None),
    "rudder-node": ({"/v1/batch"}, "application/x-www-form-urlencoded", "gzip"),
    "segment-browser": (LETTERS, "text/plain", None),
    "segment-browser-batching": ({"/v1/b"}, "text/plain", None),
    "rudder-browser": (NAMES, "application/json;charset=UTF-8", None),
    "rudder-browser-batching": ({"/v1/batch"}, "application/json;charset=UTF-8", None),
    "rudder-browser-beacon": ({"/beacon/v1/batch"}, "text/plain", None),
}


@pytest.mark.parametrize("sdk", ALL_SDKS)
def test_paths_types_and_packing_are_as_the_contract_says(sdk: Sdk, told: Told) -> None:
    newest = sdk.name if sdk.name in BODIES else sdk.name.rpartition("-")[0]
    paths, content_type, packing = BODIES[newest]
    posts = told.job.proxy.posts
    assert {post.path for post in posts} == paths
    assert {post.header("content-type") for post in posts} == {content_type}
    assert {post.header("content-encoding") for post in posts} == {packing}


BASIC = "anonymousid,authorization,content-type,sentat"
PREFLIGHTS = {
    "segment-browser": {"authorization"},
    "segment-browser-batching": {"authorization"},
    "segment-browser-1.84.1": {"authorization"},
    "segment-browser-1.83": set(),
    "rudder-browser": {BASIC},
    "rudder-browser-batching": {BASIC},
    "rudder-browser-beacon": set(),
    "rudder-browser-3.31.6": {BASIC},
}


@pytest.mark.parametrize("sdk", list_params(BROWSER_SDKS.values()))
def test_preflights_ask_for_what_the_contract_says_and_get_it(sdk: Sdk, told: Told) -> None:
    requests = told.job.proxy.requests
    asked = [
        one
        for one in requests
        if one.method == "OPTIONS" and not one.path.startswith("/sourceConfig")
    ]
    wanted = {one.header("access-control-request-headers") for one in asked}
    assert wanted == PREFLIGHTS[sdk.name]
    for one in requests:
        origin = one.header("origin")
        assert one.answer_headers["access-control-allow-origin"] == origin
        assert one.answer_headers["access-control-allow-credentials"] == "true"
        if one.method == "OPTIONS":
            allowed = one.answer_headers["access-control-allow-headers"]
            assert allowed == one.header("access-control-request-headers")
