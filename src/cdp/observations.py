"""What each kind of message says of identity: these identifiers were seen together, then. Pure."""

from __future__ import annotations

from datetime import datetime

from cdp.batch import Message, Posted, PostedOrder, PostedPrivacy
from cdp.model import Event, Identifier, Observation


def observe(message: Message) -> list[Observation]:
    """Return what ``message`` says about identity.

    An event or an order without identifiers says nothing. An account says of each of its members
    that they exist: members of one account are different people. Nobody is made by a request to
    delete them.
    """
    if isinstance(message, Event):
        return [_observe_event(message)] if message.identifiers else []
    if isinstance(message, PostedPrivacy):
        return []
    if isinstance(message, PostedOrder):
        seen_at = message.seen_at
        return [_observe(message, message.identifiers, seen_at)] if message.identifiers else []
    return [_observe(message, (member,), message.said.at) for member, _ in message.members]


def _observe_event(event: Event) -> Observation:
    return Observation(
        event.identifiers,
        event.at,
        event.message_id,
        event.source.number,
        trusted=event.source.joins_known,
        received_at=event.received_at,
    )


def _observe(record: Posted, identifiers: tuple[Identifier, ...], at: datetime) -> Observation:
    """Public keys cannot post records."""
    return Observation(
        identifiers,
        at,
        record.message_id,
        record.source.number,
        trusted=record.source.joins_known,
        received_at=record.received_at,
        is_event=False,
    )
