"""A delivery: some changes on their way to one destination, under one id. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from cdp.runtime.clock import format_time

DeliveryStatus = Literal["queued", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as it waits in the outbox."""

    delivery_id: str
    """The same however often it is sent: receivers tell copies by it."""
    destination_id: str
    number: int
    """Deliveries of a destination go out in this order."""
    rows: list[dict[str, Any]]
    attempts: int
    created_at: datetime
    first_attempt_at: datetime | None


def name_delivery(destination_id: str, number: int) -> str:
    """Return the id of a delivery, which is the receiver's key of idempotency."""
    content = f"{destination_id}:{number}"
    return f"msg_{blake2b(content.encode(), digest_size=12).hexdigest()}"


def write_body(delivery: Delivery) -> bytes:
    """Return the body of a webhook: ``type``, ``timestamp``, ``data``, as Standard Webhooks ask."""
    return msgspec.json.encode(
        {
            "type": "profiles.changed",
            "timestamp": format_time(delivery.created_at),
            "data": {
                "destination_id": delivery.destination_id,
                "delivery": delivery.number,
                "rows": delivery.rows,
            },
        }
    )


def make_test(destination_id: str, now: datetime) -> Delivery:
    """Return a delivery that only shows whether the destination can be reached."""
    row = {
        "key": "segment:example:prf_example",
        "change": "entered",
        "segment": "example",
        "profile_id": "prf_example",
        "at": format_time(now),
        "cause": "test",
        "entered_at": format_time(now),
        "fields": {},
    }
    number = int(now.timestamp() * 1000)
    name = f"test_{name_delivery(destination_id, number)}"
    return Delivery(name, destination_id, 0, [row], 0, now, None)
