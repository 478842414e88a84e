"""Destinations over HTTP: made, changed, tried, watched, sent again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.activation import deliveries_store, destinations_store
from cdp.activation.delivery import DeliveryStatus, make_test
from cdp.activation.destination import (
    Destination,
    DestinationType,
    check_settings,
    show_settings,
)
from cdp.activation.dry_run import Dry, run_dry
from cdp.activation.plan_deliveries import People
from cdp.activation.runner import Send
from cdp.activation.signature import check_secret, make_secret
from cdp.errors import NotFound, Unprocessable
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, Driver, driver

May = Annotated[Caller, Depends(require("destinations:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Keys = Annotated[list[str], Field(max_length=100)]
Fields = Annotated[list[str], Field(max_length=50)]

CheckReferences = Callable[[Driver, Sequence[str], Sequence[str], Sequence[str]], None]
"""Raises ``Unprocessable`` for a segment, tag or field that does not exist."""


class NewDestination(BaseModel):
    """Where to send what: rows of the members of segments and of the values of tags."""

    model_config = ConfigDict(extra="forbid")

    type: DestinationType
    name: Name | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    segments: Keys = Field(default_factory=list)
    tags: Keys = Field(default_factory=list)
    fields: Fields = Field(default_factory=list)
    consent: Keys = Field(default_factory=list)


class DestinationPatch(BaseModel):
    """What to change; what is absent stays. In ``settings`` null removes a key."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    settings: dict[str, Any] | None = None
    segments: Keys | None = None
    tags: Keys | None = None
    fields: Fields | None = None
    consent: Keys | None = None
    paused: bool | None = None


class Retry(BaseModel):
    """Which deliveries to send again, delivered ones too; without ids all that did not arrive."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[str], Field(max_length=10_000)] | None = None


@dataclass(frozen=True, slots=True)
class Destinations:
    """What the routes are made from."""

    database: Database
    people: People
    send: Send
    check_references: CheckReferences
    wake: Callable[[], None]
    allows_private: bool

    def find(self, connection: Driver, destination_id: str) -> Destination:
        """Return a destination, held; raise ``NotFound``."""
        found = destinations_store.find_destination(connection, destination_id, locked=True)
        if found is None:
            raise NotFound("destination_not_found", f"there is no destination {destination_id}")
        return found


def create_router(services: Destinations) -> APIRouter:
    """Return the routes of destinations."""
    router = APIRouter(tags=["destinations"])
    _add_making(router, services)
    _add_reading(router, services)
    _add_trying(router, services)
    _add_deliveries(router, services)
    return router


def _add_making(router: APIRouter, services: Destinations) -> None:
    @router.post("/v1/destinations", status_code=201)
    def create_destination(caller: May, body: NewDestination) -> dict[str, Any]:
        """Make a destination; everybody in its segments and tags is sent, then every change.

        The secret that webhooks are signed with is shown once.
        """
        settings = check_settings(body.type, body.settings, allows_private=services.allows_private)
        given = settings.pop("secret", None)
        secret = make_secret() if given is None else check_secret(given)
        with services.database.transaction() as connection:
            tx = driver(connection)
            _require_content(body.segments, body.tags)
            services.check_references(tx, body.segments, body.tags, body.fields)
            made = destinations_store.create_destination(
                tx,
                name=body.name or body.type,
                type=body.type,
                settings=settings,
                segments=list(dict.fromkeys(body.segments)),
                tags=list(dict.fromkeys(body.tags)),
                fields=list(dict.fromkeys(body.fields)),
                consent=list(dict.fromkeys(body.consent)),
                is_masked=not caller.sees_personal,
                secret=secret,
            )
            details = {"type": made.type, "segments": body.segments, "tags": body.tags}
            audit_store.record(
                tx, caller.actor, "destination_created", made.destination_id, details
            )
        services.wake()
        shown = show_destination(made)
        return shown | {"secret": secret} if made.type == "webhook" else shown

    @router.patch("/v1/destinations/{destination_id}")
    def change_destination(
        caller: May, destination_id: str, body: DestinationPatch
    ) -> dict[str, Any]:
        """Change a destination, pause it or let it go on. What differs then is sent."""
        with services.database.transaction() as connection:
            tx = driver(connection)
            known = services.find(tx, destination_id)
            changed = _apply(known, body, caller, services.allows_private)
            _require_content(changed.segments, changed.tags)
            services.check_references(tx, changed.segments, changed.tags, changed.fields)
            made = destinations_store.change_destination(tx, changed)
            if known.status == "paused" and made.status == "active":
                deliveries_store.queue_again(tx, destination_id, None)
            details = {"changed": sorted(body.model_fields_set)}
            audit_store.record(tx, caller.actor, "destination_changed", destination_id, details)
        services.wake()
        return show_destination(made)

    @router.delete("/v1/destinations/{destination_id}", status_code=204)
    def delete_destination(caller: May, destination_id: str) -> Response:
        """Forget a destination and its deliveries. The receiver keeps what it has."""
        with services.database.transaction() as connection:
            tx = driver(connection)
            services.find(tx, destination_id)
            destinations_store.delete_destination(tx, destination_id)
            audit_store.record(tx, caller.actor, "destination_deleted", destination_id)
        return Response(status_code=204)


def _add_reading(router: APIRouter, services: Destinations) -> None:
    @router.get("/v1/destinations")
    def list_destinations(
        caller: May, limit: Limit = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """List destinations, oldest first."""
        after = decode_cursor(cursor, tuple[datetime, str]) if cursor else None
        with services.database.transaction() as connection:
            found = destinations_store.list_destinations(
                driver(connection), after=after, limit=limit + 1
            )
        page, following = cut_page(found, limit, lambda one: (one.created_at, one.destination_id))
        return {"data": [show_destination(one) for one in page], "next": following}

    @router.get("/v1/destinations/{destination_id}")
    def get_destination(caller: May, destination_id: str) -> dict[str, Any]:
        """Show a destination: what it takes, how it goes, how much waits."""
        with services.database.transaction() as connection:
            tx = driver(connection)
            found = services.find(tx, destination_id)
            waiting = deliveries_store.count_waiting(tx, destination_id)
            told = {
                stream.name: deliveries_store.count_sent(tx, destination_id, stream.name)
                for stream in found.streams
            }
        return show_destination(found) | {"waiting": waiting, "told": told}


def _add_trying(router: APIRouter, services: Destinations) -> None:
    @router.post("/v1/destinations/{destination_id}/test")
    def test_destination(caller: May, destination_id: str) -> dict[str, Any]:
        """Send one made-up row, now, and say what came of it."""
        with services.database.transaction() as connection:
            found = services.find(driver(connection), destination_id)
        started = now()
        attempt = services.send(found, make_test(destination_id, started))
        took = now() - started
        return {
            "ok": attempt.is_delivered,
            "status": attempt.status,
            "error": attempt.error,
            "took_ms": round(took.total_seconds() * 1000),
        }

    @router.post("/v1/destinations/{destination_id}/dry-run")
    def dry_run(caller: May, destination_id: str) -> dict[str, Any]:
        """Say what would be sent now, set by set, with examples; nothing is sent."""
        with services.database.transaction() as connection:
            tx = driver(connection)
            found = services.find(tx, destination_id)
            masked = replace(found, is_masked=found.is_masked or not caller.sees_personal)
            results: list[Dry] = run_dry(tx, masked, services.people, now())
        note_people(sum(len(result.examples) for result in results))
        return {"data": [result.show() for result in results]}


def _add_deliveries(router: APIRouter, services: Destinations) -> None:
    @router.get("/v1/destinations/{destination_id}/deliveries")
    def list_deliveries(
        caller: May,
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
        caller: May, destination_id: str, body: Retry | None = None
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


def show_destination(one: Destination) -> dict[str, Any]:
    """Return a destination as it is shown, without its secrets."""
    return {
        "id": one.destination_id,
        "name": one.name,
        "type": one.type,
        "settings": show_settings(one.settings),
        "segments": list(one.segments),
        "tags": list(one.tags),
        "fields": list(one.fields),
        "consent": list(one.consent),
        "masked": one.is_masked,
        "status": one.status,
        "status_reason": one.status_reason,
        "everybody_told": one.scan is None,
        "created_at": format_time(one.created_at),
        "updated_at": format_time(one.updated_at),
    }


def _apply(
    known: Destination, body: DestinationPatch, caller: Caller, allows_private: bool
) -> Destination:
    settings = {**known.settings, **(body.settings or {})}
    kept = {name: value for name, value in settings.items() if value is not None}
    if "secret" in kept:
        raise Unprocessable(
            "bad_setting", "secret: it stays; make another destination", path="/settings/secret"
        )
    changes: dict[str, Any] = {
        "settings": check_settings(known.type, kept, allows_private=allows_private),
        # Whoever may not see personal values must not have them sent to where they may.
        "is_masked": known.is_masked or not caller.sees_personal,
    }
    for name in ("segments", "tags", "fields", "consent"):
        given = getattr(body, name)
        if given is not None:
            changes[name] = tuple(dict.fromkeys(given))
    if body.name is not None:
        changes["name"] = body.name
    if body.paused is not None:
        status: Literal["paused", "active"] = "paused" if body.paused else "active"
        changes |= {"status": status, "status_reason": "paused by hand" if body.paused else None}
    return replace(known, **changes)


def _require_content(segments: Sequence[str], tags: Sequence[str]) -> None:
    if not segments and not tags:
        raise Unprocessable("nothing_to_send", "name at least one segment or tag", path="/segments")


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
