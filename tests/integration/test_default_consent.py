"""What the settings of a source take people to agree to, while they have said nothing."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from cdp.ingest.sources_store import create_source
from cdp.model import Identifier
from cdp.profiles.people import read_person_at
from cdp.profiles.profile_document import show_consent
from cdp.profiles.profile_store import find_people, read_people, read_sources
from cdp.runtime.clock import now
from cdp.storage.database import driver
from tests.support.small_stack import Sender, SmallStack

CONTEXT = {"consent": {"categoryPreferences": {"marketing": True}}}
_numbers = itertools.count(1)


def add_till(stack: SmallStack, **consent: bool) -> Sender:
    with stack.database.transaction() as connection:
        settings = {"default_consent": consent}
        source, key = create_source(driver(connection), "till", "store", settings)
    stack.directory.refresh()
    return Sender(source.source_id, source.number, key)


def send(stack: SmallStack, sender: Sender, **event: Any) -> None:
    before = stack.read_account(sender).received
    body = {"batch": [{"type": "identify", "timestamp": "2026-03-01T00:00:00Z"} | event]}
    answer = httpx.post(f"{stack.url}/v1/batch", json=body, auth=(sender.key, ""), trust_env=False)
    assert answer.status_code == 200
    stack.wait_for(sender, before + 1)


def read_consent(stack: SmallStack, user_id: str) -> dict[str, Any]:
    with stack.database.transaction() as connection:
        tx = driver(connection)
        (found,) = find_people(tx, [Identifier("user_id", user_id)])
        assert found is not None
        person = read_people(tx, [found.profile_no])[found.profile_no]
        return show_consent(person, read_sources(tx), now())


def test_a_default_counts_from_the_first_sight_with_its_source_as_evidence(
    stack: SmallStack,
) -> None:
    till = add_till(stack, receipts=True, marketing=False)
    send(stack, till, userId="first")
    assert read_consent(stack, "first") == {
        purpose: {
            "granted": granted,
            "at": "2026-03-01T00:00:00.000Z",
            "source": "till",
            "default": True,
        }
        for purpose, granted in (("marketing", False), ("receipts", True))
    }


@pytest.mark.parametrize("said_first", [True, False])
def test_whatever_is_said_replaces_a_default_in_any_order(
    stack: SmallStack, said_first: bool
) -> None:
    till, web = add_till(stack, marketing=False), stack.add_source()
    person = f"said{next(_numbers)}"
    steps = [lambda: send(stack, web, userId=person, context=CONTEXT, timestamp="2020-01-01"),
             lambda: send(stack, till, userId=person)]  # fmt: skip
    for step in steps if said_first else reversed(steps):
        step()
    consent = read_consent(stack, person)["marketing"]
    assert (consent["granted"], consent["source"]) == (True, "sdk")
    assert "default" not in consent


def test_a_default_refusal_does_not_outlive_a_join_with_somebody_who_agreed(
    stack: SmallStack,
) -> None:
    till, web = add_till(stack, marketing=False), stack.add_source()
    send(stack, till, userId=None, anonymousId="till-visitor")
    send(stack, web, userId="agreed", context=CONTEXT)
    send(stack, web, userId="agreed", anonymousId="till-visitor", timestamp="2026-03-05T00:00:00Z")
    assert read_consent(stack, "agreed")["marketing"]["granted"] is True


def test_of_two_defaults_the_refusal_counts(stack: SmallStack) -> None:
    for granted in (False, True):
        send(stack, add_till(stack, marketing=granted), userId="both")
    assert read_consent(stack, "both")["marketing"]["granted"] is False


def test_without_the_setting_nothing_is_taken_for_granted(stack: SmallStack) -> None:
    send(stack, stack.add_source(), userId="unasked")
    assert read_consent(stack, "unasked") == {}


def test_a_default_is_told_of_the_time_before_anything_was_said(stack: SmallStack) -> None:
    till = add_till(stack, receipts=True, marketing=False)
    send(stack, till, userId="later")
    said = {"categoryPreferences": {"receipts": False}}
    send(
        stack, till, userId="later", timestamp="2026-03-05T00:00:00Z", context={"consent": said}
    )  # fmt: skip
    with stack.database.transaction() as connection:
        tx = driver(connection)
        (found,) = find_people(tx, [Identifier("user_id", "later")])
        assert found is not None
        told = {}
        for day in (3, 6):
            at = datetime(2026, 3, day, tzinfo=UTC)
            person = read_person_at(tx, found, at)
            shown = show_consent(person, read_sources(tx), at)
            told[day] = {purpose: one["granted"] for purpose, one in shown.items()}
    assert told == {
        3: {"marketing": False, "receipts": True},
        6: {"marketing": False, "receipts": False},
    }
