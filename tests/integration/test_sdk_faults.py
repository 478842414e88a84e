"""Unmodified SDKs while things go wrong: every event is stored once, every copy accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from tests.support.chromium import run_chromium
from tests.support.fault_proxy import ProxyLoop
from tests.support.faults import CutAfter, CutBefore, Fault, Late, Refuse, list_ids
from tests.support.sdks import (
    BROWSER_SDKS,
    SERVER_SDKS,
    Job,
    Sdk,
    is_acknowledged,
    list_params,
    new_story,
    run_in_browser,
    start_on_servers,
    write_calls,
)
from tests.support.small_stack import Sender, SmallStack

# Others differ from these in nothing that matters here; beacons never come again.
NAMES = (
    "segment-python", "segment-python-2.3.4", "rudder-python",
    "segment-node", "segment-node-3.0.0", "rudder-node",
    "segment-browser", "segment-browser-batching", "segment-browser-1.83",
    "rudder-browser", "rudder-browser-batching",
)  # fmt: skip
SDKS = {name: sdk for name, sdk in {**SERVER_SDKS, **BROWSER_SDKS}.items() if name in NAMES}
# Shorter than the SDKs would wait by themselves.
PATIENCE: dict[str, dict[str, Any]] = {
    "python": {"timeout": 1},
    "node": {"timeout": 700, "httpRequestTimeout": 700},
}


@dataclass(frozen=True)
class Trouble:
    """What every message meets, one after the other, before it gets through."""

    name: str
    faults: Sequence[Fault] = ()
    pace: int | None = None
    """Bytes a second."""
    rate_limit: Mapping[str, int] | None = None
    """Of the source: here it is the server itself that says not now."""
    for_browsers: bool = True
    is_short_of_patience: bool = False
    resends_what_is_stored: bool = False
    """Whether each message comes to the server again after it has committed it."""


TROUBLES = {
    trouble.name: trouble
    for trouble in (
        Trouble("outage", [Refuse(503)]),
        Trouble("outage-with-retry-after", [Refuse(503, retry_after=1)]),
        Trouble("rate-limit", [Refuse(429, retry_after=1)]),
        Trouble("cut-before", [CutBefore()], for_browsers=False),
        Trouble("cut-after-commit", [CutAfter()], resends_what_is_stored=True),
        Trouble(
            "outage-and-cut",
            [Refuse(500), CutAfter()],
            for_browsers=False,
            resends_what_is_stored=True,
        ),
        Trouble(
            "late-answer",
            [Late(1.5)],
            for_browsers=False,
            is_short_of_patience=True,
            resends_what_is_stored=True,
        ),
        Trouble("slow-line", pace=5_000),
        Trouble("own-rate-limit", rate_limit={"events_per_second": 1, "burst": 1}),
    )
}


@dataclass
class Ordeal:
    """One SDK's story, told in spite of one trouble."""

    sdk: Sdk
    trouble: Trouble
    job: Job
    sender: Sender
    exit_code: Future[int] | None = field(default=None)


def prepare(stack: SmallStack, proxies: ProxyLoop, sdk: Sdk, trouble: Trouble) -> Ordeal:
    settings = {"rate_limit": trouble.rate_limit} if trouble.rate_limit else {}
    sender = stack.add_source("web" if sdk.runtime == "browser" else "server", settings)
    proxy = proxies.open(stack.url, trouble.faults, pace=trouble.pace)
    options = PATIENCE[sdk.runtime] if trouble.is_short_of_patience else {}
    job = Job(proxy, sender.key, write_calls(new_story()), options)
    return Ordeal(sdk, trouble, job, sender)


Ordeals = Mapping[tuple[str, str], Ordeal]


@pytest.fixture(scope="module")
def on_servers(stack: SmallStack, proxies: ProxyLoop) -> Ordeals:
    """Every server SDK through every trouble: all troubles of an SDK at once, in one process."""
    found: dict[tuple[str, str], Ordeal] = {}
    jobs: list[tuple[Sdk, list[Job]]] = []
    for sdk in SDKS.values():
        if sdk.runtime != "browser":
            its = {t: prepare(stack, proxies, sdk, TROUBLES[t]) for t in TROUBLES}
            found |= {(sdk.name, trouble): ordeal for trouble, ordeal in its.items()}
            jobs.append((sdk, [ordeal.job for ordeal in its.values()]))
    exit_codes = start_on_servers(jobs)
    for ordeal in found.values():
        ordeal.exit_code = exit_codes[ordeal.sdk.name]
    return found


@pytest.fixture(scope="module")
def in_browsers(stack: SmallStack, proxies: ProxyLoop) -> Ordeals:
    """Every browser SDK through every trouble, trouble by trouble."""
    found: dict[tuple[str, str], Ordeal] = {}
    sdks = [sdk for sdk in SDKS.values() if sdk.runtime == "browser"]
    names = [name for name, trouble in TROUBLES.items() if trouble.for_browsers]
    with run_chromium() as chromium:
        # Three troubles at a time: as many tabs as a laptop bears.
        for start in range(0, len(names), 3):
            its = [
                prepare(stack, proxies, sdk, TROUBLES[name])
                for name in names[start : start + 3]
                for sdk in sdks
            ]
            run_in_browser(chromium, [(one.sdk, one.job) for one in its], is_acknowledged)
            found |= {(one.sdk.name, one.trouble.name): one for one in its}
    return found


@pytest.fixture
def ordeal(sdk: Sdk, trouble: str, request: pytest.FixtureRequest) -> Ordeal:
    where = "in_browsers" if sdk.runtime == "browser" else "on_servers"
    ordeals: Ordeals = request.getfixturevalue(where)
    found = ordeals[sdk.name, trouble]
    if found.exit_code is not None:
        # Raises what the SDK lacks on this machine.
        assert found.exit_code.result() == 0, found.job.errors
    return found


def list_pairs() -> list[ParameterSet]:
    """Every SDK with every trouble that it can meet."""
    return [
        pytest.param(*sdk.values, trouble.name, marks=sdk.marks, id=f"{sdk.id}-{trouble.name}")
        for sdk in list_params(SDKS.values())
        for trouble in TROUBLES.values()
        if trouble.for_browsers or sdk.id not in BROWSER_SDKS
    ]


@pytest.mark.parametrize(("sdk", "trouble"), list_pairs())
def test_every_event_is_stored_once_whatever_happened_on_its_way(
    sdk: Sdk, trouble: str, ordeal: Ordeal, stack: SmallStack
) -> None:
    proxy = ordeal.job.proxy
    for fault in ordeal.trouble.faults:
        met = set(list_ids(post for post in proxy.posts if post.fault == fault))
        assert len(met) == len(sdk.types), f"not every message met {fault}"
    # What the server refused for the time being counts as not delivered.
    delivered = list_ids(post for post in proxy.posts if post.forwarded and post.status != 429)
    account = stack.wait_for(ordeal.sender, len(delivered))
    stored = [row["message_id"] for row in stack.read_events(ordeal.sender)]
    assert sorted(stored) == sorted(set(delivered))
    assert len(stored) == len(sdk.types)
    assert account.received == len(delivered)
    assert (account.stored, account.rejected) == (len(stored), 0)
    assert account.duplicate == len(delivered) - len(stored)
    assert account.balanced
    # rudder-node takes a time-out of its own for final; the server had what it sent.
    gives_up = sdk.name == "rudder-node" and trouble == "late-answer"
    assert bool(ordeal.job.errors) == gives_up
    if ordeal.trouble.resends_what_is_stored and not gives_up:
        assert account.duplicate >= len(stored)


ONE_BY_ONE = ["segment-browser", "segment-browser-1.83", "rudder-browser"]


@pytest.mark.browser
@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_a_key_over_its_limit_is_told_when_to_come_back(in_browsers: Ordeals, name: str) -> None:
    posts = in_browsers[name, "own-rate-limit"].job.proxy.posts
    refused = [post for post in posts if post.status == 429]
    assert refused
    for post in refused:
        assert int(post.answer_headers["retry-after"]) >= 1
        assert post.answer_headers["x-ratelimit-reset"] == post.answer_headers["retry-after"]
        assert post.answer_headers["access-control-allow-origin"] == post.header("origin")


def find_asked(ordeal: Ordeal) -> set[str | None]:
    """What the preflights of events asked for."""
    return {
        one.header("access-control-request-headers")
        for one in ordeal.job.proxy.requests
        if one.method == "OPTIONS" and not one.path.startswith("/sourceConfig")
    }


RUDDER = "anonymousid,authorization,content-type,"
RUDDER_AGAIN = (
    "rsa-retry-attempt,rsa-retry-reason,rsa-since-first-attempt,rsa-since-last-attempt,sentat"
)
RETRY_PREFLIGHTS = {
    "segment-browser": {"authorization", "authorization,x-retry-count"},
    "segment-browser-batching": {"authorization", "authorization,x-retry-count"},
    "segment-browser-1.83": set(),
    "rudder-browser": {f"{RUDDER}sentat", f"{RUDDER}{RUDDER_AGAIN}"},
    "rudder-browser-batching": {f"{RUDDER}sentat", f"{RUDDER}{RUDDER_AGAIN}"},
}


@pytest.mark.parametrize("sdk", list_params(s for s in SDKS.values() if s.runtime == "browser"))
def test_a_retry_asks_for_other_headers_and_gets_them(sdk: Sdk, in_browsers: Ordeals) -> None:
    ordeal = in_browsers[sdk.name, "outage"]
    assert find_asked(ordeal) == RETRY_PREFLIGHTS[sdk.name]
    for one in ordeal.job.proxy.requests:
        if one.method == "OPTIONS":
            allowed = one.answer_headers["access-control-allow-headers"]
            assert allowed == one.header("access-control-request-headers")


COUNTED = ["segment-python", "segment-node", "segment-browser", "segment-browser-batching"]


@pytest.mark.parametrize("sdk", list_params(SDKS[name] for name in COUNTED))
def test_segments_sdks_count_their_attempts_and_it_harms_nothing(
    sdk: Sdk, request: pytest.FixtureRequest
) -> None:
    where = "in_browsers" if sdk.runtime == "browser" else "on_servers"
    ordeals: Ordeals = request.getfixturevalue(where)
    found = ordeals[sdk.name, "outage"]
    counts = [post.header("x-retry-count") for post in found.job.proxy.posts if post.forwarded]
    # In batches analytics-next counts on from batch to batch.
    assert all(count is not None and int(count) >= 1 for count in counts)
