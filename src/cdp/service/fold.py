"""From what was told, in any order, to tickets, calls, answers, complaints and reviews. Pure.

Of each part the newest word counts, by event time; of two at one time the one that closes, then
the one with the greater message id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cdp.runtime.clock import format_time, read_time
from cdp.service.read_event import (
    CLOSED_AT,
    ServiceKind,
    ServiceSaid,
    find_status,
    read_service,
    read_text,
)

Shown = dict[str, Any]


class Told(NamedTuple):
    """One event of service."""

    name: str
    at: datetime
    message_id: str
    source: str | None
    properties: Mapping[str, Any]


class _Word(NamedTuple):
    told: Told
    said: ServiceSaid


LISTS: Mapping[str, ServiceKind] = {
    "tickets": "ticket",
    "calls": "call",
    "answers": "answer",
    "complaints": "complaint",
    "reviews": "review",
}
"""The lists that are shown, and what stands in each."""


def show_service(told: Iterable[Told], now: datetime) -> dict[str, Any]:
    """Return counts and lists of a person's service as of ``now``, the newest first."""
    words = _read_words(told)
    lists = {name: _show_list(kind, words, now) for name, kind in LISTS.items()}
    scores = [word for word in words if word.said.nps is not None]
    last = max(scores, key=_age, default=None)
    return {
        "open_tickets": sum(ticket["is_open"] is True for ticket in lists["tickets"]),
        "open_complaints": sum(one["is_open"] is True for one in lists["complaints"]),
        "last_nps": None if last is None else last.said.nps,
        "last_nps_at": None if last is None else format_time(last.told.at),
        **lists,
    }


def _read_words(told: Iterable[Told]) -> list[_Word]:
    return [
        _Word(one, said)
        for one in told
        if (said := read_service(one.name, one.properties, one.message_id)) is not None
    ]


def _show_list(kind: ServiceKind, words: Iterable[_Word], now: datetime) -> list[Shown]:
    by_id: dict[str, list[_Word]] = defaultdict(list)
    for word in words:
        if word.said.kind == kind:
            by_id[word.said.record_id].append(word)
        elif kind == "answer" and word.said.nps is not None:
            # What somebody answered at the end of a ticket.
            by_id[word.told.message_id].append(word)
    rows = [
        (max(map(_age, own)), _SHOW[kind](record_id, sorted(own, key=_age), now))
        for record_id, own in by_id.items()
    ]
    return [shown for _, shown in sorted(rows, key=lambda row: row[0], reverse=True)]


def _age(word: _Word) -> tuple[datetime, bool, str, str]:
    told = word.told
    return told.at, word.said.is_open is False, told.message_id, told.source or ""


def _newest(words: Sequence[_Word], *names: str) -> Any:
    """Return what was last said under any of ``names``."""
    for word in reversed(words):
        for name in names:
            value = word.told.properties.get(name)
            if value not in (None, ""):
                return value
    return None


def _show_case(id_name: str, record_id: str, words: Sequence[_Word], now: datetime) -> Shown:
    """Show a ticket or a complaint. Its age is until it was closed, or now; in seconds."""
    stated = [word for word in words if word.said.is_open is not None]
    last = stated[-1] if stated else None
    is_open = None if last is None else last.said.is_open
    first = words[0].told.at
    closed_at = None
    if last is not None and is_open is False:
        closed_at = _find_closed_at(stated)
    until = now if closed_at is None else closed_at
    return {
        id_name: record_id,
        "status": None if last is None else find_status(last.told.name, last.told.properties),
        "is_open": is_open,
        "subject": _newest(words, "subject", "title"),
        "category": _newest(words, "category"),
        "priority": _newest(words, "priority"),
        "channel": _newest(words, "channel"),
        "assignee": _newest(words, "assignee", "agent"),
        "satisfaction": _newest(words, "satisfaction"),
        "created_at": format_time(first),
        "updated_at": format_time(words[-1].told.at),
        "closed_at": None if closed_at is None else format_time(closed_at),
        "age_seconds": max(0, int((until - first).total_seconds())),
        "source": words[0].told.source,
        "events": len(words),
    }


def _find_closed_at(stated: Sequence[_Word]) -> datetime:
    """Return when the last run of closing words began, or as the first of them says."""
    first = stated[-1]
    for word in reversed(stated):
        if word.said.is_open:
            break
        first = word
    said = (
        read_time(first.told.properties.get(name)) for name in CLOSED_AT if _is_time(first, name)
    )
    return next((time for time in said if time is not None), first.told.at)


def _is_time(word: _Word, name: str) -> bool:
    return read_text(word.told.properties.get(name)) is not None


def _show_ticket(record_id: str, words: Sequence[_Word], now: datetime) -> Shown:
    return _show_case("ticket_id", record_id, words, now)


def _show_complaint(record_id: str, words: Sequence[_Word], now: datetime) -> Shown:
    return _show_case("complaint_id", record_id, words, now)


def _show_call(record_id: str, words: Sequence[_Word], now: datetime) -> Shown:
    last = words[-1].told
    is_chat = last.name.startswith("Live Chat")
    started = [word.told.at for word in words if word.told.name.endswith("Started")]
    ended = [word.told.at for word in words if word.told.name.endswith(("Ended", "Missed"))]
    duration = _newest(words, "duration")
    if duration is None and started and ended:
        duration = max(0, int((ended[-1] - started[0]).total_seconds()))
    return {
        "call_id": record_id,
        "channel": _newest(words, "channel") or ("chat" if is_chat else "phone"),
        "status": last.name.rpartition(" ")[2].lower(),
        "direction": _newest(words, "direction"),
        "agent": _newest(words, "agent", "agent_name", "agent_id"),
        "subject": _newest(words, "subject", "summary"),
        "outcome": _newest(words, "outcome"),
        "duration_seconds": duration,
        "started_at": format_time(started[0]) if started else None,
        "ended_at": format_time(ended[-1]) if ended else None,
        "at": format_time(words[0].told.at),
        "source": last.source,
    }


def _show_answer(record_id: str, words: Sequence[_Word], now: datetime) -> Shown:
    last = words[-1]
    score = last.said.nps
    is_ticket = last.said.kind == "ticket"
    return {
        "response_id": record_id,
        "event": last.told.name,
        "survey_id": _newest(words, "survey_id", "survey"),
        "survey_type": "nps" if score is not None else _newest(words, "survey_type"),
        "touchpoint": "ticket" if is_ticket else _newest(words, "touchpoint"),
        "score": score if score is not None else _newest(words, "score"),
        "group": None if score is None else _name_group(score),
        "comment": None if is_ticket else _newest(words, "comment", "text"),
        "at": format_time(last.told.at),
        "source": last.told.source,
    }


def _name_group(score: int) -> str:
    return "promoter" if score >= 9 else "passive" if score >= 7 else "detractor"


def _show_review(record_id: str, words: Sequence[_Word], now: datetime) -> Shown:
    last = words[-1].told
    return {
        "review_id": record_id,
        "product_id": _newest(words, "product_id"),
        "sku": _newest(words, "sku"),
        "rating": _newest(words, "rating"),
        "review_body": _newest(words, "review_body", "body"),
        "at": format_time(last.at),
        "source": last.source,
    }


_SHOW = {
    "ticket": _show_ticket,
    "call": _show_call,
    "answer": _show_answer,
    "complaint": _show_complaint,
    "review": _show_review,
}
