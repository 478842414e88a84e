"""Who belongs to an account by a device is who had the device when it was said."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cdp.identity.rules import default_rules
from cdp.model import Identifier
from cdp.profiles.accounts_read_store import read_accounts
from cdp.profiles.profile_store import find_people
from cdp.runtime.clock import format_time
from cdp.storage.database import driver
from tests.support.identity_lab import BEGINNING, Lab
from tests.support.postgres import PostgresServer
from tests.support.wire import RECEIVED_AT, track

DEVICE = {"anonymousId": "c"}
ACME = [{"account_id": "acme", "role": None}]


@pytest.fixture
def lab(postgres_server: PostgresServer) -> Iterator[Lab]:
    with postgres_server.fresh_url() as url:
        lab = Lab(url, default_rules("CN"), workers=1)
        yield lab
        lab.close()


def _group(hours: int) -> dict[str, Any]:
    at = format_time(BEGINNING + timedelta(hours=hours))
    return {
        "type": "group", "messageId": f"m{hours}", "timestamp": at, "groupId": "acme", **DEVICE
    }  # fmt: skip


def _use(hours: int, user_id: str) -> dict[str, Any]:
    at = BEGINNING + timedelta(hours=hours)
    return track("In", f"m{hours}", at=at, userId=user_id, **DEVICE)


STORY = [_group(1), _use(2, "a"), _use(3, "b"), _group(4)]


def _accounts(lab: Lab, *asked: str) -> list[list[dict[str, Any]]]:
    with lab.database.transaction() as connection:
        tx = driver(connection)
        found = find_people(tx, [Identifier(*one.split(":", 1)) for one in asked])
        return [read_accounts(tx, one.profile_no, RECEIVED_AT) if one else [] for one in found]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (3, 0, 2, 1), (1, 3, 2, 0)], ids=str)
def test_a_group_call_of_a_shared_device_alone_leaves_its_first_person_a_member(
    lab: Lab, order: tuple[int, ...]
) -> None:
    for position in order:
        lab.post_events([STORY[position]])
        lab.settle()
    assert _accounts(lab, "user_id:a", "user_id:b", "anonymous_id:c") == [ACME, [], ACME]
    assert lab.ask("SELECT count(*) FROM account_members") == [(2,)]


def test_it_is_so_within_one_batch_and_after_a_merge_and_its_undoing(lab: Lab) -> None:
    lab.post_events(STORY)
    lab.settle()
    names = [Identifier("user_id", "a"), Identifier("user_id", "b")]
    made = lab.decide(lambda hand: hand.merge(names, allow_unique_conflict=True))
    assert _accounts(lab, "user_id:b") == [ACME]
    assert lab.ask("SELECT count(*) FROM account_members") == [(1,)]
    lab.decide(lambda hand: hand.undo(made.decision_id))
    assert _accounts(lab, "user_id:a", "user_id:b", "anonymous_id:c") == [ACME, [], ACME]
