"""The example page in a real browser: a stranger clicks, signs in, and is one person."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.chromium import CHROMIUM_FLAGS
from tests.support.parts import miss
from tests.support.program import Program, run_program
from tests.support.sdk_packages import find_program

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with run_program(tmp_path_factory.mktemp("example")) as running:
        if httpx.get(f"{running.url}/example/analytics.js").status_code != 200:
            miss("the example page's SDK", "npm ci in examples/web")
        yield running


@contextmanager
def open_page(program: Program) -> Iterator[Page]:
    """The example page in a browser of its own, with nothing to complain of at its end."""
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_program("chromium"), args=CHROMIUM_FLAGS
        )
        try:
            page = browser.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("requestfailed", lambda request: complaints.append(request.url))
            page.on("response", lambda r: complaints.append(r.url) if r.status >= 400 else None)
            page.goto(f"{program.url}/example")
            page.wait_for_function("document.getElementById('anonymous-id').textContent.length > 9")
            yield page
            page.wait_for_load_state("networkidle")
        finally:
            browser.close()
    assert complaints == []


def read_profile(program: Program, name: str, events: int) -> dict[str, Any]:
    """The profile once it has that many events."""
    deadline = time.monotonic() + 30
    seen = "nobody"
    with program.client() as client:
        while time.monotonic() < deadline:
            answer = client.get(f"/v1/profiles/{name}")
            if answer.status_code == 200 and answer.json()["events"] >= events:
                found: dict[str, Any] = answer.json()
                return found
            seen = answer.text
            time.sleep(0.2)
    raise AssertionError(f"{name} never had {events} events: {seen}")


def test_anonymous_clicks_become_the_persons_after_signing_in(program: Program) -> None:
    with open_page(program) as page:
        looks = page.get_by_role("button", name="Look")
        looks.nth(0).click()
        looks.nth(1).click()
        anonymous = page.locator("#anonymous-id").inner_text()
        stranger = read_profile(program, f"anonymous_id:{anonymous}", events=3)

        page.get_by_label("User id").fill("li-na")
        page.get_by_label("E-mail").fill("li.na@example.com")
        page.get_by_role("button", name="Sign in").click()
        person = read_profile(program, "email:li.na@example.com", events=4)

    assert [i["type"] for i in stranger["identifiers"]] == ["anonymous_id"]
    assert {(i["type"], i["value"]) for i in person["identifiers"]} == {
        ("anonymous_id", anonymous),
        ("user_id", "li-na"),
        ("email", "li.na@example.com"),
    }
    assert person["consent"]["marketing"]["granted"] is True
    with program.client() as client:
        events = client.get("/v1/profiles/email:li.na@example.com/events").json()["data"]
        redirected = client.get(f"/v1/profiles/id:{stranger['id']}").json()
    assert sorted(e["event"] or e["type"] for e in events) == [
        "Product Viewed", "Product Viewed", "identify", "page",
    ]  # fmt: skip
    assert redirected["id"] == person["id"]


def test_a_purchase_on_the_page_is_an_order_of_the_person(program: Program) -> None:
    with open_page(program) as page:
        page.get_by_label("User id").fill("wang")
        page.get_by_label("E-mail").fill("wang@example.com")
        page.get_by_label("I agree").uncheck()
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Buy").nth(1).click()
        person = read_profile(program, "user_id:wang", events=3)

    assert person["orders"] == 1
    assert person["net_revenue"] == [{"amount": 15800, "currency": "CNY"}]
    assert person["consent"]["marketing"]["granted"] is False


def test_after_signing_out_a_stranger_starts_anew(program: Program) -> None:
    with open_page(program) as page:
        page.get_by_label("User id").fill("zhao")
        page.get_by_label("E-mail").fill("zhao@example.com")
        page.get_by_role("button", name="Sign in").click()
        read_profile(program, "user_id:zhao", events=2)
        before = page.locator("#anonymous-id").inner_text()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="Look").first.click()
        page.wait_for_function(
            f"document.getElementById('anonymous-id').textContent !== '{before}'"
        )
        after = page.locator("#anonymous-id").inner_text()
        read_profile(program, f"anonymous_id:{after}", events=1)

    assert read_profile(program, "user_id:zhao", events=2)["events"] == 2
