"""Which events are of service, and what one says. Pure.

The names are those of the specifications of the SDKs where these have them (``Product Reviewed``,
``Live Chat Conversation Started``); the others are ours: see ``docs/service.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

ServiceKind = Literal["ticket", "call", "answer", "complaint", "review"]

SERVICE_EVENTS: Mapping[str, ServiceKind] = {
    "Ticket Created": "ticket",
    "Ticket Opened": "ticket",
    "Ticket Updated": "ticket",
    "Ticket Reopened": "ticket",
    "Ticket Solved": "ticket",
    "Ticket Closed": "ticket",
    "Call Started": "call",
    "Call Ended": "call",
    "Call Missed": "call",
    "Live Chat Conversation Started": "call",
    "Live Chat Conversation Ended": "call",
    "NPS Answered": "answer",
    "NPS Submitted": "answer",
    "Survey Responded": "answer",
    "Survey Answered": "answer",
    "Complaint Filed": "complaint",
    "Complaint Updated": "complaint",
    "Complaint Resolved": "complaint",
    "Product Reviewed": "review",
}
"""Names of track events, and what each tells of."""
STATUSES: Mapping[str, str] = {
    "Ticket Created": "open",
    "Ticket Opened": "open",
    "Ticket Reopened": "open",
    "Ticket Solved": "solved",
    "Ticket Closed": "closed",
    "Complaint Filed": "open",
    "Complaint Resolved": "resolved",
}
"""What an event means that names no status."""
CLOSED_STATUSES = frozenset(
    {
        "closed", "solved", "resolved", "done", "completed", "cancelled", "canceled", "deleted",
        "spam", "merged", "已关闭", "关闭", "已解决", "解决", "已完成", "完成", "已取消", "取消",
    }
)  # fmt: skip
"""Any other status is open."""
CLOSED_AT = ("closed_at", "resolved_at")
"""Properties that say when it was closed."""
_IDS: Mapping[ServiceKind, tuple[str, ...]] = {
    "ticket": ("ticket_id",),
    "call": ("call_id", "conversation_id"),
    "answer": ("response_id",),
    "complaint": ("complaint_id",),
    "review": ("review_id",),
}
_LONGEST_ID = 200
_SCORE = re.compile(r"(10|[0-9])(\.0+)?")


class ServiceSaid(NamedTuple):
    """What an event says of one ticket, call, …"""

    kind: ServiceKind
    record_id: str
    """Its own id; of an event without one, the message's."""
    is_open: bool | None
    """Of tickets and complaints; ``None`` when it says nothing of it."""
    nps: int | None
    """An answer to the question of recommendation, 0 to 10."""


def read_service(name: str, properties: Mapping[str, Any], message_id: str) -> ServiceSaid | None:
    """Return what a track event says of service; ``None`` when it is of something else."""
    kind = SERVICE_EVENTS.get(name)
    if kind is None:
        return None
    ids = (read_text(properties.get(one)) for one in _IDS[kind])
    record_id = next((one[:_LONGEST_ID] for one in ids if one), message_id)
    return ServiceSaid(
        kind, record_id, _find_is_open(kind, name, properties), _read_nps(kind, name, properties)
    )


def find_status(name: str, properties: Mapping[str, Any]) -> str | None:
    """Return the status that an event states, as it was sent; ``None`` when it states none."""
    status = read_text(properties.get("status"))
    if status is None and any(read_text(properties.get(one)) for one in CLOSED_AT):
        return "closed"
    return status or STATUSES.get(name)


def read_text(value: Any) -> str | None:
    """Return text without the space around it; ``None`` for anything else, and for nothing."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def _find_is_open(kind: str, name: str, properties: Mapping[str, Any]) -> bool | None:
    status = find_status(name, properties) if kind in ("ticket", "complaint") else None
    return None if status is None else status.lower() not in CLOSED_STATUSES


def _read_nps(kind: ServiceKind, name: str, properties: Mapping[str, Any]) -> int | None:
    if kind == "ticket":
        return _read_score(properties.get("nps"))
    survey = read_text(properties.get("survey_type")) or ""
    if kind == "answer" and (name.startswith("NPS") or survey.lower() == "nps"):
        return _read_score(properties.get("score"))
    return None


def _read_score(value: Any) -> int | None:
    """Return a whole number from 0 to 10; anything else is no answer."""
    text = read_text(value) or ""
    return int(float(text)) if _SCORE.fullmatch(text) else None
