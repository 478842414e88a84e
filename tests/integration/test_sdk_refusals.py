"""Unmodified SDKs that are refused: a wrong or withdrawn key, a bad event. None asks for ever."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Future
from functools import partial

import pytest

from cdp.ingest.sources_store import patch_source
from cdp.storage.database import driver
from tests.support.chromium import check_page, run_chromium
from tests.support.fault_proxy import ProxyLoop
from tests.support.faults import Refuse, list_ids
from tests.support.ingest_server import wait_until
from tests.support.sdks import (
    BROWSER_SDKS,
    SERVER_SDKS,
    Call,
    Job,
    Sdk,
    list_params,
    new_story,
    open_page,
    start_on_servers,
    write_calls,
)
from tests.support.small_stack import SmallStack

# Before 3.1 analytics-node took 400 alone for final, and tried four times.
STUBBORN = {"segment-node-3.0.0": 4}
# Longer than the first retries of any browser SDK would take: 2 s, and 4 s after that.
LONG_ENOUGH = 7


# Two versions apart they would do the same, at the cost of a tab each.
NAMES = (
    "segment-browser", "segment-browser-batching", "segment-browser-1.83",
    "rudder-browser", "rudder-browser-batching", "rudder-browser-beacon",
)  # fmt: skip
BROWSERS = {name: BROWSER_SDKS[name] for name in NAMES}

Refused = dict[str, tuple[list[Job], Future[int]]]


@pytest.fixture(scope="module")
def on_servers(stack: SmallStack, proxies: ProxyLoop) -> Refused:
    """Each server SDK with a key nobody knows, and with each status that ends a message."""
    jobs = {}
    for name in SERVER_SDKS:
        scripts = [[], *([Refuse(status)] * 20 for status in (400, 403, 404, 413, 422))]
        jobs[name] = [
            Job(proxies.open(stack.url, faults), "nobody", write_calls(new_story()))
            for faults in scripts
        ]
    exits = start_on_servers((SERVER_SDKS[name], its) for name, its in jobs.items())
    return {name: (its, exits[name]) for name, its in jobs.items()}


@pytest.mark.parametrize("sdk", list_params(SERVER_SDKS.values()))
def test_a_server_sdk_drops_what_is_refused_for_good(sdk: Sdk, on_servers: Refused) -> None:
    jobs, exit_code = on_servers[sdk.name]
    # It came to an end by itself, and did not take its process along.
    assert exit_code.result() == 0, jobs[0].errors
    for job in jobs:
        counts = Counter(list_ids(job.proxy.posts))
        assert len(counts) == len(sdk.types)
        assert max(counts.values()) <= STUBBORN.get(sdk.name, 1)
        assert job.errors, "it must hear of it"


def test_a_wrong_key_is_said_in_a_form_that_every_sdk_reads(on_servers: Refused) -> None:
    """The Python SDKs take an error without ``code`` and ``message`` for a passing fault."""
    jobs, _ = on_servers["rudder-python"]
    for post in jobs[0].proxy.posts:
        assert post.status == 401
        assert b'"code":"unknown_write_key"' in post.answer
        assert b'"message":' in post.answer


def strip(sdk: Sdk, calls: list[Call]) -> list[Call]:
    return [call for call in calls if call["type"] in sdk.types]


def has_tried_all(sdk: Sdk, job: Job) -> bool:
    return len(set(list_ids(job.proxy.posts))) == len(sdk.types)


@pytest.fixture(scope="module")
def in_browsers(stack: SmallStack, proxies: ProxyLoop) -> dict[str, dict[str, Job]]:
    """Pages with a key nobody knows, and pages whose source is disabled while they are open."""
    wrong, withdrawn = {}, {}
    with run_chromium() as chromium:
        for name, sdk in BROWSERS.items():
            wrong[name] = Job(proxies.open(stack.url), "nobody", write_calls(new_story()))
            open_page(chromium, sdk, wrong[name])
        tabs = {}
        for name, sdk in BROWSERS.items():
            sender = stack.add_source("web")
            withdrawn[name] = Job(proxies.open(stack.url), sender.key, [])
            tabs[name] = open_page(chromium, sdk, withdrawn[name])
            check_page(tabs[name])
            with stack.database.transaction() as connection:
                patch_source(driver(connection), sender.source_id, disabled=True)
        stack.directory.refresh()
        for name, tab in tabs.items():
            for call in strip(BROWSERS[name], write_calls(new_story())):
                tab.evaluate("call => { window.say(call) }", call)
        for name, sdk in BROWSERS.items():
            wait_until(partial(has_tried_all, sdk, withdrawn[name]))
        # Nothing marks the end of not asking again.
        threading.Event().wait(LONG_ENOUGH)
    return {"wrong": wrong, "withdrawn": withdrawn}


@pytest.mark.parametrize("sdk", list_params(BROWSERS.values()))
def test_a_page_with_a_wrong_key_asks_for_its_settings_and_falls_silent(
    sdk: Sdk, in_browsers: dict[str, dict[str, Job]]
) -> None:
    requests = in_browsers["wrong"][sdk.name].proxy.requests
    asked = [one for one in requests if one.method != "OPTIONS"]
    assert {one.status for one in asked} == {401}
    assert len(asked) <= 3
    assert not any(one.message_ids for one in asked)


@pytest.mark.parametrize("sdk", list_params(BROWSERS.values()))
def test_a_page_whose_key_is_withdrawn_sends_each_event_once(
    sdk: Sdk, in_browsers: dict[str, dict[str, Job]]
) -> None:
    posts = in_browsers["withdrawn"][sdk.name].proxy.posts
    assert {post.status for post in posts} == {401}
    assert set(Counter(list_ids(posts)).values()) == {1}
