"""Who is not to be heard: what was observed before a deletion, and whoever is silenced. Pure.

A message that names anybody of them is left out as a whole: its other identifiers would bring the
same person back under another name. Of an account only the member is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from cdp.batch import Message, PostedAccount, PostedOrder, PostedPrivacy
from cdp.model import Event, Identifier, RejectedEvent
from cdp.storage.ledger import key_message
from cdp.storage.tombstones_store import Tombstone

SUPPRESSED = "suppressed"
_REASON = "names somebody who was deleted after this happened, or who is not to be heard"

Stones = Mapping[Identifier, Tombstone]


def list_named(messages: Iterable[Message]) -> Iterator[Identifier]:
    """Give every identifier that ``messages`` bring."""
    for message in messages:
        if isinstance(message, Event | PostedOrder):
            yield from message.identifiers
        elif isinstance(message, PostedAccount):
            yield from (member for member, _ in message.members)


def sift(
    messages: Iterable[Message], stones: Stones
) -> tuple[list[Message], list[Event | PostedOrder]]:
    """Return what is to be heard of ``messages``, and the rest."""
    heard: list[Message] = []
    left_out: list[Event | PostedOrder] = []
    for message in messages:
        if isinstance(message, PostedPrivacy):
            heard.append(message)
        elif isinstance(message, PostedAccount):
            heard.append(_sift_members(message, stones))
        elif _is_silent(message.identifiers, _happened_at(message), stones):
            left_out.append(message)
        else:
            heard.append(message)
    return heard, left_out


def list_deleted(messages: Iterable[Event | PostedOrder], stones: Stones) -> list[Identifier]:
    """Return the identifiers among those of ``messages`` that were deleted."""
    named = {identifier for message in messages for identifier in message.identifiers}
    return sorted(one for one in named if one in stones and stones[one].deleted_at is not None)


def _happened_at(message: Event | PostedOrder) -> datetime:
    """Whatever is said later of an order that was placed before: it is of before."""
    if isinstance(message, Event):
        return message.at
    placed_at = message.report.placed_at
    return message.seen_at if placed_at is None else min(placed_at, message.seen_at)


def _sift_members(message: PostedAccount, stones: Stones) -> PostedAccount:
    members = tuple(
        (member, said)
        for member, said in message.members
        if not _is_silent([member], message.said.at, stones)
    )
    return message if len(members) == len(message.members) else replace(message, members=members)


def _is_silent(identifiers: Sequence[Identifier], at: datetime, stones: Stones) -> bool:
    for identifier in identifiers:
        stone = stones.get(identifier)
        if stone is None:
            continue
        if stone.is_suppressed or (stone.deleted_at is not None and at <= stone.deleted_at):
            return True
    return False


def refuse(message: Event | PostedOrder) -> RejectedEvent:
    """Return what is not to be heard as refused, without its bytes."""
    source_id = message.source.source_id
    return RejectedEvent(
        source_id,
        None,
        SUPPRESSED,
        _REASON,
        message.received_at,
        b"",
        kind="events" if isinstance(message, Event) else "orders",
        key=key_message(source_id, message.message_id),
    )
