"""Destinations over HTTP: made, changed, deleted, shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.access.scopes import Caller
from cdp.activation import deliveries_store, destinations_store
from cdp.activation.destination import Destination, DestinationType, check_settings
from cdp.activation.service import Destinations, DestinationWriter, Limit
from cdp.activation.show_destination import show_destination
from cdp.activation.signature import check_secret, make_secret
from cdp.errors import Unprocessable
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import driver

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Keys = Annotated[list[str], Field(max_length=100)]
Fields = Annotated[list[str], Field(max_length=50)]


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


def add_making(router: APIRouter, services: Destinations) -> None:
    """Add the routes that make, change and delete destinations to ``router``."""

    @router.post("/v1/destinations", status_code=201)
    def create_destination(caller: DestinationWriter, body: NewDestination) -> dict[str, Any]:
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
        caller: DestinationWriter, destination_id: str, body: DestinationPatch
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
    def delete_destination(caller: DestinationWriter, destination_id: str) -> Response:
        """Forget a destination and its deliveries. The receiver keeps what it has."""
        with services.database.transaction() as connection:
            tx = driver(connection)
            services.find(tx, destination_id)
            destinations_store.delete_destination(tx, destination_id)
            audit_store.record(tx, caller.actor, "destination_deleted", destination_id)
        return Response(status_code=204)


def add_reading(router: APIRouter, services: Destinations) -> None:
    """Add the routes that show destinations to ``router``."""

    @router.get("/v1/destinations")
    def list_destinations(
        caller: DestinationWriter, limit: Limit = 100, cursor: str | None = None
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
    def get_destination(caller: DestinationWriter, destination_id: str) -> dict[str, Any]:
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
