"""The SDKs of both families, unmodified, each telling one small story.

The story: a visitor looks at a product, signs in, buys, belongs to a company. It is written once,
as calls; every SDK runs them by a script in ``tests/sdk``, several jobs at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

import pytest
from _pytest.mark import ParameterSet
from playwright.sync_api import Page

from tests.support.chromium import Chromium, check_page
from tests.support.fault_proxy import FaultProxy
from tests.support.sdk_packages import (
    SCRIPTS,
    find_program,
    install_node_sdks,
    install_python_sdk,
)

TYPES = ("page", "track", "identify", "track", "group", "screen", "alias")
"""The calls of the story; RudderStack's browser SDK has no screen."""

Call = dict[str, Any]


@dataclass(frozen=True)
class Story:
    """Whom the story is about."""

    anonymousId: str  # noqa: N815
    userId: str  # noqa: N815
    email: str


def new_story() -> Story:
    """A story about somebody nobody has heard of."""
    name = uuid4().hex[:12]
    return Story(f"anon-{name}", f"user-{name}", f"{name}@example.com")


def write_calls(story: Story, **odd: Any) -> list[Call]:
    """The calls of the story; ``odd`` are properties that the first track call has besides."""
    stranger, known = {"anonymousId": story.anonymousId}, {"userId": story.userId}
    return [
        {"type": "page", **stranger, "name": "Home", "properties": {"path": "/"}},
        {
            "type": "track",
            **stranger,
            "event": "Product Viewed",
            "properties": {"sku": "a", **odd},
        },
        {
            "type": "identify",
            **stranger,
            **known,
            "traits": {"email": story.email, "name": "安妮"},
        },
        {
            "type": "track",
            **known,
            "event": "Order Completed",
            "properties": {"order_id": "1", "total": 12.5},
        },
        {"type": "group", **known, "groupId": "acme", "traits": {"name": "Acme"}},
        {"type": "screen", **known, "name": "Cart"},
        {"type": "alias", **known, "previousId": f"{story.anonymousId}-before"},
    ]


@dataclass
class Job:
    """Calls that an SDK is to make through a proxy."""

    proxy: FaultProxy
    key: str
    calls: list[Call]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Besides those of the SDK's mode."""
    errors: list[str] = field(default_factory=list)
    """What the SDK told its error handler."""


@dataclass(frozen=True)
class Sdk:
    """One SDK in one version and one way of delivery."""

    name: str
    family: Literal["segment", "rudderstack"]
    runtime: Literal["python", "node", "browser"]
    package: str
    version: str = ""
    """Another one than the newest, for Python."""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def types(self) -> tuple[str, ...]:
        """The types of calls that it makes of the story."""
        has_screen = self.runtime != "browser" or self.family == "segment"
        return tuple(kind for kind in TYPES if has_screen or kind != "screen")


def run_on_server(sdk: Sdk, jobs: Sequence[Job], *, seconds: float = 90) -> int:
    """Let a Python or Node SDK do its jobs side by side in one process; return its exit code."""
    environment = dict(os.environ)
    if sdk.runtime == "python":
        if sdk.version:
            environment["PYTHONPATH"] = str(install_python_sdk(sdk.package, sdk.version))
        command = [sys.executable, str(SCRIPTS / "python_sdk.py"), sdk.family]
        folder = SCRIPTS
    else:
        script = {"segment": "segment_node.mjs", "rudderstack": "rudder_node.mjs"}[sdk.family]
        command = [find_program("node"), script, sdk.package]
        folder = install_node_sdks()
    told = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        input=json.dumps([write_job(sdk, job) for job in jobs]),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if told.returncode == 0:
        for job, report in zip(jobs, json.loads(told.stdout), strict=True):
            job.errors += report["errors"]
    else:
        for job in jobs:
            job.errors.append(told.stderr[-2000:])
    return told.returncode


def run_in_browser(
    chromium: Chromium,
    jobs: Sequence[tuple[Sdk, Job]],
    is_done: Callable[[Sdk, Job], bool],
    *,
    seconds: float = 120,
) -> None:
    """Open a page for each job and keep them all open until each is done."""
    tabs = [open_page(chromium, sdk, job) for sdk, job in jobs]
    try:
        for tab in tabs:
            check_page(tab)
        deadline = time.monotonic() + seconds
        while waiting := [sdk.name for sdk, job in jobs if not is_done(sdk, job)]:
            assert time.monotonic() < deadline, f"still not done: {waiting}"
            time.sleep(0.05)
    finally:
        for tab in tabs:
            tab.context.close()


def open_page(chromium: Chromium, sdk: Sdk, job: Job) -> Page:
    """Open the page of a browser SDK, which begins its job."""
    return chromium.open(find_page(sdk), write_job(sdk, job))


def is_acknowledged(sdk: Sdk, job: Job) -> bool:
    """Whether the SDK was told of all its calls that they are safe."""
    wanted = sum(call["type"] in sdk.types for call in job.calls)
    return len(job.proxy.acknowledged_ids) >= wanted


def list_params(sdks: Iterable[Sdk]) -> list[ParameterSet]:
    """SDKs as parameters of a test, marked with the part of a machine that each needs."""
    marks = {"node": [pytest.mark.node], "browser": [pytest.mark.browser], "python": []}
    return [pytest.param(sdk, marks=marks[sdk.runtime], id=sdk.name) for sdk in sdks]


def start_on_servers(jobs: Iterable[tuple[Sdk, Sequence[Job]]]) -> dict[str, Future[int]]:
    """Let several SDKs do their jobs, two at a time; return their exit codes, or why they miss."""
    with ThreadPoolExecutor(2) as pool:
        return {sdk.name: pool.submit(run_on_server, sdk, its) for sdk, its in jobs}


def find_page(sdk: Sdk) -> str:
    """The page of ``tests/sdk`` that runs a browser SDK."""
    page = {"segment": "segment_browser.html", "rudderstack": "rudder_browser.html"}[sdk.family]
    return f"{page}?package={sdk.package}"


def write_job(sdk: Sdk, job: Job) -> dict[str, Any]:
    """A job as the scripts and pages read it."""
    return {
        "url": job.proxy.url,
        "key": job.key,
        "options": {**sdk.options, **job.options},
        "calls": job.calls,
    }


def _batching(size: int) -> dict[str, Any]:
    strategy = {"strategy": "batching", "config": {"size": size, "timeout": 200}}
    return {"Segment.io": {"deliveryStrategy": strategy}}


_NEXT, _RUDDER = "@segment/analytics-next", "@rudderstack/analytics-js"
_BATCHES = {"queueOptions": {"batch": {"enabled": True, "maxItems": 3, "flushInterval": 300}}}
_BEACON = {"useBeacon": True, "beaconQueueOptions": {"flushQueueInterval": 500, "maxItems": 3}}
_OLDER_NEXT = "analytics-next-before-authorization"

_SDKS = (
    Sdk("segment-python", "segment", "python", "segment-analytics-python"),
    Sdk("segment-python-2.3.4", "segment", "python", "segment-analytics-python", "2.3.4"),
    Sdk("rudder-python", "rudderstack", "python", "rudder-sdk-python"),
    Sdk("rudder-python-2.1.4", "rudderstack", "python", "rudder-sdk-python", "2.1.4"),
    Sdk("segment-node", "segment", "node", "@segment/analytics-node"),
    Sdk("segment-node-3.0.0", "segment", "node", "analytics-node-before-authorization"),
    Sdk("rudder-node", "rudderstack", "node", "@rudderstack/rudder-sdk-node"),
    Sdk("rudder-node-3.0.12", "rudderstack", "node", "rudder-sdk-node-3.0.12"),
    Sdk("segment-browser", "segment", "browser", _NEXT),
    Sdk("segment-browser-batching", "segment", "browser", _NEXT, options=_batching(3)),
    Sdk("segment-browser-1.84.1", "segment", "browser", "analytics-next-1.84.1"),
    Sdk("segment-browser-1.83", "segment", "browser", _OLDER_NEXT),
    Sdk("rudder-browser", "rudderstack", "browser", _RUDDER),
    Sdk("rudder-browser-batching", "rudderstack", "browser", _RUDDER, options=_BATCHES),
    Sdk("rudder-browser-beacon", "rudderstack", "browser", _RUDDER, options=_BEACON),
    Sdk("rudder-browser-3.31.6", "rudderstack", "browser", "analytics-js-3.31.6"),
)
SERVER_SDKS = {sdk.name: sdk for sdk in _SDKS if sdk.runtime != "browser"}
BROWSER_SDKS = {sdk.name: sdk for sdk in _SDKS if sdk.runtime == "browser"}
"""1.83 in batches needs https, and is tried apart."""
