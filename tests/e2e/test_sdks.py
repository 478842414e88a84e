"""Unmodified SDKs of both families against the running program: from a call to one person."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tests.support.chromium import run_chromium
from tests.support.fault_proxy import ProxyLoop
from tests.support.program import Program, run_program
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


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with run_program(tmp_path_factory.mktemp("sdks")) as running:
        yield running


@pytest.fixture(scope="module")
def proxies() -> Iterator[ProxyLoop]:
    with ProxyLoop() as proxies:
        yield proxies


def prepare(program: Program, proxies: ProxyLoop) -> tuple[Story, Job]:
    story = new_story()
    key = program.credentials["web_write_key"]
    return story, Job(proxies.open(program.url), key, write_calls(story))


def check_person(program: Program, story: Story, events: int) -> None:
    """The person of the story is one, has all of it, and answers to every identifier."""
    person = read_person(program, story, events)
    assert person["events"] == events
    assert person["traits"]["name"] == "安妮"
    assert {(i["type"], i["value"]) for i in person["identifiers"]} == {
        ("user_id", story.userId),
        ("anonymous_id", story.anonymousId),
        ("anonymous_id", f"{story.anonymousId}-before"),
        ("email", story.email),
    }
    with program.client() as client:
        by_device = client.get(f"/v1/profiles/anonymous_id:{story.anonymousId}").json()
    assert by_device["id"] == person["id"]


def read_person(program: Program, story: Story, events: int) -> dict[str, Any]:
    """The person of the story, once all of it has arrived."""
    person: dict[str, Any] = {}
    deadline = time.monotonic() + 30
    with program.client() as client:
        while time.monotonic() < deadline:
            answer = client.get(f"/v1/profiles/email:{story.email}")
            if answer.status_code == 200:
                person = answer.json()
                if person["events"] >= events:
                    return person
            time.sleep(0.2)
    raise AssertionError(f"{story} did not arrive whole: {person}")


@pytest.fixture(scope="module")
def told_by_servers(
    program: Program, proxies: ProxyLoop
) -> dict[str, tuple[Story, Job, Future[int]]]:
    told = {name: prepare(program, proxies) for name in SERVER_SDKS}
    exits = start_on_servers((sdk, [told[name][1]]) for name, sdk in SERVER_SDKS.items())
    return {name: (*told[name], exits[name]) for name in told}


@pytest.fixture(scope="module")
def told_by_browsers(program: Program, proxies: ProxyLoop) -> dict[str, Story]:
    told = {name: prepare(program, proxies) for name in BROWSER_SDKS}
    jobs = [(sdk, told[name][1]) for name, sdk in BROWSER_SDKS.items()]
    with run_chromium() as chromium:
        run_in_browser(chromium, jobs, is_acknowledged)
    return {name: story for name, (story, _) in told.items()}


@pytest.mark.parametrize("sdk", list_params(SERVER_SDKS.values()))
def test_what_a_server_sdk_says_becomes_one_person(
    program: Program, told_by_servers: dict[str, tuple[Story, Job, Future[int]]], sdk: Sdk
) -> None:
    story, job, exit_code = told_by_servers[sdk.name]
    assert exit_code.result() == 0, job.errors
    check_person(program, story, len(sdk.types))


@pytest.mark.parametrize("sdk", list_params(BROWSER_SDKS.values()))
def test_what_a_browser_sdk_says_becomes_one_person(
    program: Program, told_by_browsers: dict[str, Story], sdk: Sdk
) -> None:
    check_person(program, told_by_browsers[sdk.name], len(sdk.types))
