"""What is said of one identifier beyond what is kept of it: refused, and said to be."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from cdp.included_parts import read_refused_part
from cdp.log.postgres_log import PostgresLog
from cdp.model import Identifier
from cdp.profiles.profile_metrics import read_profile_metrics
from cdp.profiles.profile_parts import PartQuery
from cdp.profiles.profile_store import find_people
from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from cdp.storage.database_collector import DatabaseCollector
from tests.support.outcome_stack import OutcomeStack


@pytest.fixture
def stack(database: Database) -> OutcomeStack:
    return OutcomeStack(database, PostgresLog(database, 2))


def _identify(stack: OutcomeStack, user: str, first: int, count: int) -> None:
    traits = {f"t{number}": number for number in range(first, first + count)}
    call = {"type": "identify", "userId": user, "traits": traits, "messageId": f"{user}-{first}"}
    judged = stack.post("batch", json.dumps({"batch": [call]}).encode())
    assert not judged.rejected
    stack.work()


def _read_part(database: Database, user: str) -> Any:
    with database.snapshot() as connection:
        tx = driver(connection)
        [found] = find_people(tx, [Identifier("user_id", user)])
        assert found is not None
        nobody = cast("Any", None)
        return read_refused_part(
            PartQuery(tx, found.profile_no, found.profile_id, now(), {}, nobody)
        )


def _read_metric(database: Database) -> float:
    [family] = DatabaseCollector(database, read_profile_metrics).collect()
    [sample] = family.samples
    return float(sample.value)


def test_values_beyond_what_is_kept_are_counted_on_the_profile_and_for_everybody(
    stack: OutcomeStack,
) -> None:
    _identify(stack, "calm", 0, 10)
    for first in (0, 1_000):
        _identify(stack, "loud", first, 1_000)
    assert _read_part(stack.database, "loud") == {"count": 0}
    _identify(stack, "loud", 2_000, 3)
    shown = _read_part(stack.database, "loud")
    assert (shown["count"], shown["code"]) == (3, "too_many_traits")
    assert shown["last_at"] is not None
    _identify(stack, "loud", 3_000, 2)
    assert _read_part(stack.database, "loud")["count"] == 5
    assert _read_part(stack.database, "calm") == {"count": 0}
    assert _read_metric(stack.database) == 5
