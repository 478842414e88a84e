"""What each kind of message says of identity: these identifiers were seen together, then. Pure."""

from __future__ import annotations

from cdp.batch import PostedOrder
from cdp.model import Event, Observation


def observe_event(event: Event) -> Observation:
    """Return what ``event`` says about identity."""
    return Observation(
        event.identifiers,
        event.at,
        event.message_id,
        event.source.number,
        trusted=not event.source.is_public,
        received_at=event.received_at,
    )


def observe_order(order: PostedOrder) -> Observation:
    """Return what ``order`` says about identity. Public keys cannot post orders."""
    return Observation(
        order.identifiers,
        order.seen_at,
        order.message_id,
        order.source.number,
        trusted=not order.source.is_public,
        received_at=order.received_at,
        is_event=False,
    )
