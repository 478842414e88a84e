"""What a receiver must be told so that it holds what we hold. Pure.

A destination is kept equal to sets of rows: the members of its segments, the values of its tags. We
remember a digest of each row that was sent; comparing it with the row as it stands says what to
send. So nothing is told twice, and what came and went unseen is not told at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import msgspec

from cdp.activation.destination import Stream
from cdp.runtime.clock import format_time

ChangeName = Literal["entered", "updated", "left", "set", "removed"]


class Row(NamedTuple):
    """A row as it stands: a member of a segment, or somebody with a tag."""

    profile_no: int
    profile_id: str
    at: datetime
    """When the member entered, or when the tag got its value."""
    value: Any
    """The tag's value; ``None`` for members."""
    fields: Mapping[str, Any]


class SentRow(NamedTuple):
    """What the receiver was told of somebody last."""

    profile_no: int
    profile_id: str
    digest: bytes


class Change(NamedTuple):
    """One row to send. ``digest`` ``None``: the receiver no longer has it."""

    stream: Stream
    profile_no: int
    profile_id: str
    change: ChangeName
    digest: bytes | None
    row: Row | None


class Cause(NamedTuple):
    """Why somebody came or went, as memberships tell it."""

    cause: str
    at: datetime


def list_changes(stream: Stream, rows: Iterable[Row], sent: Collection[SentRow]) -> list[Change]:
    """Return what to send so that the receiver, which has ``sent``, has ``rows``.

    Both are of the same people, whoever these are.
    """
    known = {one.profile_no: one for one in sent}
    changes: list[Change] = []
    came, moved, gone = _NAMES[stream.kind]
    for row in rows:
        digest = digest_row(row)
        before = known.pop(row.profile_no, None)
        if before is None or before.digest != digest:
            name = came if before is None else moved
            changes.append(Change(stream, row.profile_no, row.profile_id, name, digest, row))
    changes += [
        Change(stream, one.profile_no, one.profile_id, gone, None, None) for one in known.values()
    ]
    return changes


def digest_row(row: Row) -> bytes:
    """Return what tells one content of a row from another."""
    content = (row.profile_id, row.at, row.value, sorted(row.fields.items()))
    return blake2b(msgspec.json.encode(content), digest_size=16).digest()


def show_change(change: Change, cause: Cause | None, now: datetime) -> dict[str, Any]:
    """Return a change as receivers see it. Without a known ``cause`` it is the person's data.

    ``key`` names the row for good: a receiver that keeps the last of each key has the whole truth.
    """
    stream, row = change.stream, change.row
    shown: dict[str, Any] = {
        "key": f"{stream.name}:{change.profile_id}",
        "change": change.change,
        stream.kind: stream.key,
        "profile_id": change.profile_id,
        "at": format_time(cause.at if cause else now),
        "cause": cause.cause if cause else "data",
    }
    if row is None:
        return shown
    if stream.kind == "segment":
        shown["entered_at"] = format_time(row.at)
    else:
        shown["value"] = row.value
    return {**shown, "fields": dict(row.fields)}


_NAMES: dict[str, tuple[ChangeName, ChangeName, ChangeName]] = {
    "segment": ("entered", "updated", "left"),
    "tag": ("set", "set", "removed"),
}
