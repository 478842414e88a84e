"""Service as events tell of it: tickets, calls, answers, complaints, reviews."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.service.fold import Told, show_service
from cdp.service.read_event import read_service

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
NOW = START + timedelta(days=10)


def told(name: str, hour: int = 0, message_id: str = "", **properties: Any) -> Told:
    at = START + timedelta(hours=hour)
    return Told(name, at, message_id or f"m{hour}", "desk", properties)


def ticket(*events: Told) -> dict[str, Any]:
    found: list[dict[str, Any]] = show_service(events, NOW)["tickets"]
    assert len(found) == 1
    return found[0]


def test_a_ticket_has_the_newest_status_whatever_came_first() -> None:
    closed = told("Ticket Closed", 30, ticket_id="T1")
    created = told("Ticket Created", 0, ticket_id="T1", subject="Late", channel="phone")
    answered = told("Ticket Updated", 5, ticket_id="T1", status="pending", priority="high")
    shown = ticket(closed, created, answered)

    assert (shown["status"], shown["is_open"], shown["age_seconds"]) == ("closed", False, 108_000)
    assert (shown["subject"], shown["channel"], shown["priority"]) == ("Late", "phone", "high")
    assert shown["closed_at"] == "2026-03-02T14:00:00.000Z"
    assert ticket(answered, created)["status"] == "pending"


def test_an_open_ticket_ages_until_now_and_a_reopened_one_again() -> None:
    created, closed = told("Ticket Created", ticket_id=7), told("Ticket Closed", 5, ticket_id="7")
    assert ticket(created)["age_seconds"] == 864_000
    reopened = ticket(created, closed, told("Ticket Reopened", 6, ticket_id="7"))
    assert (reopened["is_open"], reopened["closed_at"]) == (True, None)


def test_of_two_words_at_one_time_the_one_that_closes_counts() -> None:
    at_once = [
        told("Ticket Closed", 0, "a", ticket_id="T1"),
        told("Ticket Created", 0, "b", ticket_id="T1"),
    ]
    assert ticket(*at_once)["status"] == "closed"


def test_a_row_of_an_export_says_by_itself_when_it_was_closed() -> None:
    row = told("Ticket Created", ticket_id="T1", resolved_at="2026-03-01T09:00:00Z", nps="9")
    shown = show_service([row], NOW)

    assert shown["tickets"][0]["age_seconds"] == 3_600
    assert (shown["open_tickets"], shown["last_nps"]) == (0, 9)
    assert shown["answers"][0]["touchpoint"] == "ticket"


@pytest.mark.parametrize(
    ("score", "read"),
    [(0, 0), (10, 10), ("9", 9), (7.0, 7), (11, None), (-1, None), (7.5, None), (True, None)],
)
def test_a_recommendation_is_a_whole_number_from_0_to_10(score: Any, read: int | None) -> None:
    said = read_service("NPS Answered", {"score": score}, "m")
    assert said is not None
    assert said.nps == read


def test_only_surveys_of_that_type_are_recommendations() -> None:
    said = [
        told("Survey Responded", 1, score=3, survey_id="s1", survey_type="csat"),
        told("Survey Responded", 2, score=8, survey_type="NPS", touchpoint="delivery"),
        told("Survey Responded", 3, score=1),
    ]
    shown = show_service(said, NOW)

    assert (shown["last_nps"], len(shown["answers"])) == (8, 3)
    assert shown["answers"][1]["group"] == "passive"
    assert shown["answers"][2]["survey_id"] == "s1"


def test_a_call_is_made_of_its_start_and_its_end() -> None:
    said = [
        told("Call Ended", 2, call_id="c1", outcome="solved", agent="Li"),
        told("Call Started", 1, call_id="c1", direction="inbound"),
        told("Live Chat Conversation Ended", 5, conversation_id="x", agent_id="9"),
        told("Call Missed", 6, duration=0),
    ]
    missed, chat, call = show_service(said, NOW)["calls"]

    assert (call["duration_seconds"], call["direction"], call["outcome"]) == (
        3_600, "inbound", "solved",
    )  # fmt: skip
    assert (chat["channel"], chat["status"]) == ("chat", "ended")
    assert (missed["call_id"], missed["status"], missed["duration_seconds"]) == ("m6", "missed", 0)


def test_complaints_are_open_until_they_are_resolved() -> None:
    filed = told("Complaint Filed", 1, complaint_id="C1", subject="Broken")
    assert show_service([filed], NOW)["open_complaints"] == 1
    done = show_service([filed, told("Complaint Resolved", 2, complaint_id="C1")], NOW)
    assert done["open_complaints"] == 0
    assert done["complaints"][0]["status"] == "resolved"


def test_of_a_review_the_newest_version_counts() -> None:
    said = [
        told("Product Reviewed", 2, review_id="r", product_id="p", rating="5", review_body="Good"),
        told("Product Reviewed", 1, review_id="r", product_id="p", rating="1", review_body="Bad"),
    ]
    (review,) = show_service(said, NOW)["reviews"]
    assert (review["rating"], review["review_body"]) == ("5", "Good")


def test_odd_values_are_no_reason_to_fail() -> None:
    odd: list[Any] = [None, {}, [], True, "  ", 10**30, -0.0]
    said = [
        Told(name, START, f"m{number}", None, dict.fromkeys(_PROPERTIES, value))
        for name in ("Ticket Created", "Call Ended", "NPS Answered", "Complaint Filed")
        for number, value in enumerate(odd)
    ]
    assert show_service(said, NOW)["tickets"]


_PROPERTIES = (
    "ticket_id", "call_id", "complaint_id", "status", "subject", "closed_at", "score", "nps",
    "duration", "channel",
)  # fmt: skip
