"""What health and status say of what was found."""

from __future__ import annotations

import pytest

from cdp.runtime.health import (
    NamedCheck,
    describe_readiness,
    remember_success,
    run_checks,
)
from cdp.runtime.status import describe_lag


def _fine() -> str | None:
    return None


CHECKS = [NamedCheck("postgres", _fine, is_needed=False), NamedCheck("log", _fine)]


def test_a_missing_part_that_is_not_needed_is_named_and_does_no_harm() -> None:
    status, body = describe_readiness(CHECKS, {"postgres": "refused", "log": None})
    assert status == 200
    assert body == {
        "ready": True,
        "missing": ["postgres"],
        "checks": {"postgres": "refused", "log": "ok"},
    }


def test_a_missing_part_that_is_needed_makes_the_process_not_ready() -> None:
    status, body = describe_readiness(CHECKS, {"postgres": None, "log": "away"})
    assert status == 503
    assert body["code"] == "not_ready"
    assert body["message"] == "log: away"
    assert body["details"]["missing"] == ["log"]


@pytest.mark.anyio
async def test_a_check_that_raises_is_answered_by_the_kind_of_its_error() -> None:
    def fail() -> str | None:
        raise ConnectionError("password=secret")

    found = await run_checks([NamedCheck("log", fail), NamedCheck("schema", _fine)])
    assert found == {"log": "ConnectionError", "schema": None}


def test_only_success_is_remembered() -> None:
    answers = iter(["away", None, "away again"])
    check = remember_success(lambda: next(answers), 3600)
    assert [check(), check(), check()] == ["away", None, None]


def test_lag_counts_what_lies_between_the_end_and_the_position() -> None:
    assert describe_lag({0: 9, 1: 4}, {0: 7}) == {
        "records": 6,
        "partitions": {"0": 2, "1": 4},
    }


def test_lag_is_unknown_while_the_log_is_away_and_never_negative() -> None:
    assert describe_lag(None, {0: 7}) == {"records": None, "partitions": {}}
    assert describe_lag({0: 5}, {0: 7})["records"] == 0
