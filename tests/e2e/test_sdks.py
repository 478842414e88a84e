"""Unmodified SDKs of both families against the running program: from a call to one person."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.program import Program, run_program
from tests.support.sdks import BROWSER_SDKS, SERVER_SDKS, Story, Tell, new_story


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with run_program(tmp_path_factory.mktemp("sdks")) as running:
        yield running


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


def check_story(program: Program, tell: Tell, events: int) -> None:
    story = new_story()
    tell(program.url, program.credentials["web_write_key"], story)
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


@pytest.mark.parametrize("name", SERVER_SDKS)
def test_what_a_server_sdk_says_becomes_one_person(program: Program, name: str) -> None:
    check_story(program, SERVER_SDKS[name], 7)


@pytest.mark.browser
@pytest.mark.parametrize("name", BROWSER_SDKS)
def test_what_a_browser_sdk_says_becomes_one_person(program: Program, name: str) -> None:
    check_story(program, BROWSER_SDKS[name], 6 if name.startswith("rudder") else 7)
