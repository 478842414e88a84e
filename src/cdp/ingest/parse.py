"""★ The verdict on every event at the door: taken, or refused with a reason. Pure.

    body ─► open_batch / open_single ─► judge, event by event ─► lines by partition, rejections

The fast path looks at type and ids only and takes the event's own bytes as its log line;
``properties``, ``traits`` and ``context`` are not parsed. Whatever strict reading refuses, or what
must be changed (a type from the route, what the batch says for all), takes the slow path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from msgspec import UNSET

from cdp.ingest.judge_slowly import Refusal, judge_slowly
from cdp.ingest.open_body import Opened, open_batch, open_single
from cdp.model import EVENT_TYPES

__all__ = ["Judged", "Opened", "Rejection", "judge", "open_batch", "open_single"]


# What an event may say of its type on a route; on those of one type also nothing.
_ALLOWED: dict[str | None, frozenset[object]] = {
    None: frozenset(EVENT_TYPES),
    **{name: frozenset((name, UNSET)) for name in EVENT_TYPES},
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an event was refused. ``index`` is its place in the request."""

    index: int
    message_id: str | None
    code: str
    message: str
    raw: bytes


@dataclass(slots=True)
class Judged:
    """The outcome: log lines by partition, and what was refused."""

    lines: dict[int, list[bytes]] = field(default_factory=dict)
    accepted: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    route_type: str | None = None
    """The type that the route says: whoever judges a refused event again needs it."""
    shared: Mapping[str, Any] = field(default_factory=dict)
    """What the batch says for all its events; likewise."""


def judge(
    opened: Opened, *, route_type: str | None, partitions: int, max_event_bytes: int
) -> Judged:
    """Judge every event of a request.

    ``route_type`` is the type that the route says, ``None`` on batch routes. An event goes to the
    partition of its primary identifier: ``userId``, else ``anonymousId``, else any other.
    """
    judged = Judged(route_type=route_type, shared=opened.shared)
    by_partition = judged.lines
    allowed = _ALLOWED[route_type]
    longest = -1 if opened.shared else max_event_bytes
    # One loop without calls: a hundred events take as long here as the parser needs for them.
    for index, (item, head) in enumerate(zip(opened.items, opened.heads, strict=True)):
        line = item if type(item) is bytes else bytes(item)
        primary: str | int | None = None
        if head is not None and head.type in allowed and len(line) <= longest:
            primary = head.user_id or head.anonymous_id
        if type(primary) is not str or b"\n" in line or primary.isspace():
            try:
                line, primary = judge_slowly(line, route_type, opened, max_event_bytes)
            except Refusal as refusal:
                judged.rejected.append(
                    Rejection(index, refusal.message_id, refusal.code, refusal.message, line)
                )
                continue
        elif head is not None and head.type is UNSET and route_type is not None:
            line = _write_type(line, route_type)
        partition = crc32(primary.encode()) % partitions
        try:
            by_partition[partition].append(line)
        except KeyError:
            by_partition[partition] = [line]
    judged.accepted = len(opened.items) - len(judged.rejected)
    return judged


def _write_type(line: bytes, route_type: str) -> bytes:
    """Put the type in front of an object; the rest stays as it was sent."""
    # There is a rest: at least an identifier.
    return b'{"type":"%s",%s' % (route_type.encode(), line.lstrip()[1:])
