"""Browser SDKs where pages come and go: leaving with requests out, keepalive, beacons, https."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page

from cdp.runtime.example_routes import create_router
from cdp.settings import Settings
from tests.support.chromium import Chromium, check_page, run_chromium
from tests.support.fault_proxy import ProxyLoop
from tests.support.faults import Late
from tests.support.ingest_server import wait_until
from tests.support.postgres import PostgresServer
from tests.support.sdk_packages import find_program, install_node_sdks
from tests.support.sdks import (
    BROWSER_SDKS,
    Job,
    Sdk,
    find_page,
    is_acknowledged,
    new_story,
    open_page,
    run_in_browser,
    write_calls,
    write_job,
)
from tests.support.small_stack import Sender, SmallStack, run_stack

pytestmark = pytest.mark.browser

NEVER = 3600
"""Seconds, in SDKs milliseconds: no interval of an SDK ends within a test."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with run_chromium() as chromium:
        yield chromium


@pytest.fixture
def sender(stack: SmallStack) -> Sender:
    return stack.add_source("web")


def check_stored_once(stack: SmallStack, sender: Sender, job: Job, calls: int) -> None:
    """All calls are stored, once each, and every further copy is counted as one."""
    delivered = job.proxy.forwarded_ids
    account = stack.wait_for(sender, len(delivered))
    assert account.stored == calls == len(set(delivered))
    assert account.duplicate == len(delivered) - calls
    assert (account.rejected, account.balanced) == (0, True)


def leave(chromium: Chromium, tab: Page) -> None:
    chromium.show(tab, "blank.html", {})


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("segment-browser", lambda post: post.header("x-retry-count") == "1"),
        ("segment-browser-1.83", lambda post: post.header("x-retry-count") is None),
        ("rudder-browser", lambda post: post.header("rsa-recovered") == "true"),
    ],
    ids=["segment-browser", "segment-browser-1.83", "rudder-browser"],
)
def test_a_page_left_with_requests_out_sends_them_again_from_the_next_page(
    stack: SmallStack,
    proxies: ProxyLoop,
    chromium: Chromium,
    sender: Sender,
    name: str,
    sign: Callable[[Any], bool],
) -> None:
    sdk = BROWSER_SDKS[name]
    proxy = proxies.open(stack.url, [Late(NEVER)])
    calls = 4
    # A browser has six connections to a host: more calls would not leave the page.
    job = Job(proxy, sender.key, write_calls(new_story())[:calls])
    tab = open_page(chromium, sdk, job)
    check_page(tab)
    wait_until(lambda: len(set(proxy.forwarded_ids)) == calls)
    first = set(proxy.forwarded_ids)
    leave(chromium, tab)
    chromium.show(tab, find_page(sdk), {**write_job(sdk, job), "calls": []})
    # RudderStack's waits some ten seconds for the old page to be gone.
    wait_until(lambda: len(proxy.acknowledged_ids) == calls, 40)
    tab.context.close()
    assert proxy.acknowledged_ids == first
    again = [post for post in proxy.posts if post.status == 200]
    assert all(sign(post) for post in again)
    check_stored_once(stack, sender, job, calls)


BATCHES: dict[str, Any] = {
    "strategy": "batching",
    "config": {"size": 100, "timeout": NEVER * 1000},
}
KEEPALIVE: dict[str, Any] = {"strategy": "standard", "config": {"keepalive": True}}
BEACON: dict[str, Any] = {
    "useBeacon": True,
    "beaconQueueOptions": {"flushQueueInterval": NEVER * 1000, "maxItems": 100},
}


@pytest.mark.parametrize(
    ("name", "options", "path"),
    [
        ("segment-browser", {"Segment.io": {"deliveryStrategy": BATCHES}}, "/v1/b"),
        ("rudder-browser", BEACON, "/beacon/v1/batch"),
    ],
    ids=["batches", "beacon"],
)
def test_what_a_page_has_collected_leaves_with_it(
    stack: SmallStack,
    proxies: ProxyLoop,
    chromium: Chromium,
    sender: Sender,
    name: str,
    options: dict[str, Any],
    path: str,
) -> None:
    sdk = BROWSER_SDKS[name]
    proxy = proxies.open(stack.url)
    job = Job(proxy, sender.key, write_calls(new_story()), options)
    tab = open_page(chromium, sdk, job)
    check_page(tab)
    # All calls have passed the SDK's own queue of promises.
    tab.wait_for_timeout(500)
    assert proxy.posts == []
    leave(chromium, tab)
    wait_until(lambda: len(set(proxy.forwarded_ids)) == len(sdk.types))
    tab.context.close()
    assert {post.path for post in proxy.posts} == {path}
    check_stored_once(stack, sender, job, len(sdk.types))


def test_keepalive_requests_outlive_their_page(
    stack: SmallStack, proxies: ProxyLoop, chromium: Chromium, sender: Sender
) -> None:
    sdk = BROWSER_SDKS["segment-browser"]
    # So slow a line that the page is gone before the first body, or even preflight, has arrived.
    proxy = proxies.open(stack.url, pace=1_000)
    options = {"Segment.io": {"deliveryStrategy": KEEPALIVE}}
    job = Job(proxy, sender.key, write_calls(new_story()), options)
    tab = open_page(chromium, sdk, job)
    check_page(tab)
    tab.wait_for_timeout(200)
    leave(chromium, tab)
    wait_until(lambda: len(set(proxy.forwarded_ids)) == len(sdk.types), 40)
    tab.context.close()
    check_stored_once(stack, sender, job, len(sdk.types))


def test_the_probe_for_ad_blockers_is_answered(
    stack: SmallStack, proxies: ProxyLoop, chromium: Chromium, sender: Sender
) -> None:
    sdk = BROWSER_SDKS["rudder-browser"]
    job = Job(proxies.open(stack.url), sender.key, write_calls(new_story()))
    job.options = {"sendAdblockPage": True, "sendAdblockPageOptions": {}}
    run_in_browser(chromium, [(sdk, job)], is_acknowledged)
    (probe,) = (one for one in job.proxy.requests if one.method == "HEAD")
    assert (probe.path, probe.query) == ("/sourceConfig/", {"view": ["ad"]})
    assert (probe.status, probe.answer) == (200, b"")


def test_no_page_posts_metrics_of_the_sdk(
    stack: SmallStack, proxies: ProxyLoop, chromium: Chromium, sender: Sender
) -> None:
    """They would be sent after half a minute, unless the settings say that none are wanted."""
    job = Job(proxies.open(stack.url), sender.key, write_calls(new_story()))
    tab = open_page(chromium, BROWSER_SDKS["segment-browser"], job)
    check_page(tab)
    rate = tab.evaluate("window.analytics.settings.cdnSettings.metrics.sampleRate")
    tab.context.close()
    assert rate == 0


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody has signed."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    make_certificate(key, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def make_certificate(key: Path, certificate: Path) -> None:
    subprocess.run(
        [
            find_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(key), "-out", str(certificate),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


HTTPS_SDKS = {
    "segment-browser-1.83-batching": Sdk(
        "segment-browser-1.83-batching",
        "segment",
        "browser",
        BROWSER_SDKS["segment-browser-1.83"].package,
        options=BROWSER_SDKS["segment-browser-batching"].options,
    ),
    "segment-browser": BROWSER_SDKS["segment-browser"],
    "rudder-browser": BROWSER_SDKS["rudder-browser"],
}


@pytest.mark.parametrize("name", HTTPS_SDKS)
def test_behind_https_the_settings_lead_to_https(
    stack: SmallStack,
    proxies: ProxyLoop,
    chromium: Chromium,
    sender: Sender,
    tls: ssl.SSLContext,
    name: str,
) -> None:
    """1.83 posts batches to https whatever the settings say, so it is tried here alone."""
    sdk = HTTPS_SDKS[name]
    job = Job(proxies.open(stack.url, tls=tls), sender.key, write_calls(new_story()))
    run_in_browser(chromium, [(sdk, job)], is_acknowledged)
    check_stored_once(stack, sender, job, len(sdk.types))


def test_a_script_element_with_this_host_as_its_cdn_needs_no_more_than_its_key(
    postgres_server: PostgresServer, proxies: ProxyLoop, chromium: Chromium, tls: ssl.SSLContext
) -> None:
    """The SDK takes its CDN from the address of its own script, when that is https."""
    api = FastAPI()
    api.include_router(create_router(Settings(), install_node_sdks()))
    with run_stack(postgres_server, fallback=api) as stack:
        sender = stack.add_source("web")
        calls = [c for c in write_calls(new_story()) if c["type"] in ("track", "identify")]
        job = Job(proxies.open(stack.url, tls=tls), sender.key, calls)
        sdk = BROWSER_SDKS["segment-browser"]
        tab = chromium.open("segment_snippet.html", write_job(sdk, job))
        check_page(tab)
        wait_until(lambda: len(job.proxy.acknowledged_ids) == len(calls))
        tab.context.close()
        check_stored_once(stack, sender, job, len(calls))
