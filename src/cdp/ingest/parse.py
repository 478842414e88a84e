"""★ The verdict on every event at the door: taken, or refused with a reason. Pure.

    body ─► open_batch / open_single ─► judge, event by event ─► lines by partition, rejections

The fast path looks at type and ids only and takes the event's own bytes as its log line;
``properties``, ``traits`` and ``context`` are not parsed. Whatever strict reading refuses, or what
must be changed (a type from the route, what the batch says for all), takes the slow path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from msgspec import UNSET, Raw

from cdp.ingest.check_line import check_line
from cdp.ingest.check_traits import LARGEST_SAFE, check_traits, has_operation, may_say_too_much
from cdp.ingest.judge_slowly import Refusal, judge_slowly
from cdp.ingest.open_body import Opened, open_batch, open_single
from cdp.ingest.wire_event import UNREADABLE, decode_head
from cdp.log.format import JoinedLines, join_lines
from cdp.model import EVENT_TYPES, EventCheck
from cdp.trait_parts import LARGEST_TRAIT

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

    joined: dict[int, JoinedLines] = field(default_factory=dict)
    accepted: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    route_type: str | None = None
    """The type that the route says: whoever judges a refused event again needs it."""
    shared: Mapping[str, Any] = field(default_factory=dict)
    """What the batch says for all its events; likewise."""

    @property
    def lines(self) -> dict[int, list[bytes]]:
        """The same log lines, one by one."""
        return {partition: lines.split() for partition, lines in self.joined.items()}

    @property
    def size(self) -> int:
        """The bytes of all log lines."""
        return sum(len(lines.value) for lines in self.joined.values())


def judge(
    opened: Opened,
    *,
    route_type: str | None,
    partitions: int,
    max_event_bytes: int,
    max_trait_bytes: int = LARGEST_TRAIT,
    check: EventCheck | None = None,
) -> Judged:
    """Judge every event of a request.

    ``route_type`` is the type that the route says, ``None`` on batch routes. An event goes to the
    partition of its primary identifier: ``userId``, else ``anonymousId``, else any other. With a
    ``check``, such as the tracking plan's, events are decoded whole for it.
    """
    judged = Judged(route_type=route_type, shared=opened.shared)
    if opened.is_plain and route_type is None and not opened.shared and check is None:
        taken = _take_all(opened, partitions, max_event_bytes)
        if taken is not None:
            judged.joined = taken
            judged.accepted = len(opened.items)
            return judged
    _judge_each(judged, opened, partitions, max_event_bytes, max_trait_bytes, check)
    return judged


def _take_all(
    opened: Opened, partitions: int, max_event_bytes: int
) -> dict[int, JoinedLines] | None:
    """Return the lines of a batch of which nothing is odd; ``None`` when something may be.

    Says what ``_judge_each`` would say, with less work done per event in Python: a hundred events
    take as long here as the parser needs for fifty.
    """
    try:
        # What is no text at all ends this by its type.
        primaries: list[Any] = [head.user_id or head.anonymous_id for head in opened.heads]  # type: ignore[union-attr]
        hashes = list(map(crc32, map(str.encode, primaries)))
    except (TypeError, UnicodeEncodeError):
        return None
    if not all(primaries) or any(map(str.isspace, primaries)):
        return None
    if max(map(len, opened.items), default=0) > min(max_event_bytes, LARGEST_SAFE):
        return None
    bins: defaultdict[int, list[bytes | Raw]] = defaultdict(list)
    for item, number in zip(opened.items, hashes, strict=True):
        bins[number % partitions].append(item)
    joined = {partition: join_lines(lines) for partition, lines in bins.items()}
    if any(has_operation(lines.value) for lines in joined.values()):
        return None
    return joined


def _judge_each(
    judged: Judged,
    opened: Opened,
    partitions: int,
    max_event_bytes: int,
    max_trait_bytes: int,
    check: EventCheck | None,
) -> None:
    """Judge event by event, each on the fast or the slow path, into ``judged``."""
    route_type = judged.route_type
    allowed = _ALLOWED[route_type]
    longest = -1 if opened.shared else max_event_bytes
    bins: dict[int, list[bytes]] = {}
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
        if check is not None or may_say_too_much(line):
            try:
                check_traits(line, max_trait_bytes)
                line = line if check is None else check_line(line, check)
            except Refusal as refusal:
                judged.rejected.append(
                    Rejection(index, refusal.message_id, refusal.code, refusal.message, line)
                )
                continue
        partition = crc32(primary.encode()) % partitions
        try:
            bins[partition].append(line)
        except KeyError:
            bins[partition] = [line]
    judged.joined = {partition: join_lines(lines) for partition, lines in bins.items()}
    judged.accepted = len(opened.items) - len(judged.rejected)


def take_single(
    body: bytes, route_type: str, partitions: int, max_event_bytes: int
) -> tuple[int, bytes] | None:
    """Return partition and log line of a single event; ``None`` when something about it is odd.

    Says what opening and judging would say, for most of all requests.
    """
    try:
        head = decode_head(body)
    except UNREADABLE:
        return None
    primary = head.user_id or head.anonymous_id
    if (
        type(primary) is not str
        or len(body) > max_event_bytes
        or b"\n" in body
        or primary.isspace()
        or may_say_too_much(body)
    ):
        return None
    if head.type == route_type:
        line = body
    elif head.type is UNSET:
        line = _write_type(body, route_type)
    else:
        return None
    return crc32(primary.encode()) % partitions, line


def _write_type(line: bytes, route_type: str) -> bytes:
    """Put the type in front of an object; the rest stays as it was sent."""
    # There is a rest: at least an identifier.
    return b'{"type":"%s",%s' % (route_type.encode(), line.lstrip()[1:])
