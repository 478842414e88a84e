"""Deliveries of a destination over HTTP: watched, and sent again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.activation import deliveries_store, destinations_store
from cdp.activation.delivery import DeliveryStatus
from cdp.activation.service import Destinations, DestinationWriter, Limit
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import driver


class Retry(BaseModel):
    """Which deliveries to send again, delivered ones too; without ids all that did not arrive."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[str], Field(max_length=10_000)] | None = None


def add_deliveries(router: APIRouter, services: Destinations) -> None:
    """Add the routes of deliveries to ``router``."""

    @router.get("/v1/destinations/{destination_id}/deliveries")
    def list_deliveries(
        caller: DestinationWriter,
        destination_id: str,
        status: DeliveryStatus | None = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List what was sent and what waits, newest first, with the outcome of the last attempt."""
        before = decode_cursor(cursor, tuple[int])[0] if cursor else None
        with services.database.transaction() as connection:
            tx = driver(connection)
            services.find(tx, destination_id)
            found = deliveries_store.list_deliveries(
                tx, destination_id, status=status, before=before, limit=limit + 1
            )
        page, following = cut_page(found, limit, lambda row: (row["number"],))
        return {"data": [_show_delivery(row) for row in page], "next": following}

    @router.post("/v1/destinations/{destination_id}/deliveries/retry", status_code=202)
    def retry_deliveries(
        caller: DestinationWriter, destination_id: str, body: Retry | None = None
    ) -> dict[str, Any]:
        """Send deliveries again, under the same ids; a paused destination goes on."""
        ids = body.ids if body is not None else None
        with services.database.transaction() as connection:
            tx = driver(connection)
            services.find(tx, destination_id)
            count = deliveries_store.queue_again(tx, destination_id, ids)
            destinations_store.set_status(tx, destination_id, "active", None)
            audit_store.record(
                tx, caller.actor, "deliveries_retried", destination_id, {"deliveries": count}
            )
        services.wake()
        return {"queued": count}


def _show_delivery(row: dict[str, Any]) -> dict[str, Any]:
    times = {
        name: None if row[name] is None else format_time(row[name])
        for name in ("created_at", "first_attempt_at", "next_attempt_at", "delivered_at")
    }
    return {
        "id": row["delivery_id"],
        "number": row["number"],
        "status": row["status"],
        "rows": row["row_count"],
        "attempts": row["attempts"],
        **times,
        "last_status": row["last_status"],
        "last_error": row["last_error"],
    }
