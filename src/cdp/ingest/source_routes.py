"""Sources and their write keys over HTTP: made, changed, rotated with overlap."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.errors import Unprocessable
from cdp.ingest import sources_store
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.source_presets import show_effective, show_preset
from cdp.ingest.source_settings import check_settings, list_unknown, mask_settings
from cdp.ingest.sources_store import KeyRow, SourceRow
from cdp.model import SourceType
from cdp.runtime.clock import format_time
from cdp.runtime.clock import now as clock_now
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, driver

May = Annotated[Caller, Depends(require("sources:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SPAN = re.compile(r"^(\d{1,7})(s|m|h|d|w)$")
_LONGEST_OVERLAP = timedelta(days=366)


def _refuse_nul(text: str | None) -> str | None:
    if text is not None and "\0" in text:
        raise ValueError("no NUL character")
    return text


class NewSource(BaseModel):
    """What a source is called, and what kind of system it is."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    type: SourceType
    settings: dict[str, Any] = Field(default_factory=dict)

    _name = field_validator("name")(_refuse_nul)


class SourcePatch(BaseModel):
    """What to change of a source; what is absent stays. In ``settings`` null removes a key."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    settings: dict[str, Any] | None = None
    disabled: bool | None = None

    _name = field_validator("name")(_refuse_nul)


class NewKey(BaseModel):
    """When the other keys of the source end, so that callers can change over before; or never."""

    model_config = ConfigDict(extra="forbid")

    expire_others_at: AwareDatetime | None = None
    overlap: str | None = Field(None, description="From now on: 30m, 12h, 7d, 2w.")

    @model_validator(mode="after")
    def _one_of_both(self) -> NewKey:
        if self.expire_others_at is not None and self.overlap is not None:
            raise ValueError("give expire_others_at or overlap, not both")
        return self


class KeyPatch(BaseModel):
    """What to change of a key; what is absent stays, a null end takes the end away."""

    model_config = ConfigDict(extra="forbid")

    disabled: bool | None = None
    expires_at: AwareDatetime | None = None


def create_router(database: Database, directory: SourceDirectory) -> APIRouter:
    """Return the routes of sources and keys. Changes hold here at once, elsewhere in a second."""
    router = APIRouter(tags=["sources"])

    @router.get("/v1/sources")
    def list_sources(caller: May, limit: Limit = 100, cursor: str | None = None) -> dict[str, Any]:
        """List the sources, oldest first, with their write keys."""
        after = decode_cursor(cursor, tuple[datetime, str]) if cursor else None
        with database.transaction() as connection:
            rows = sources_store.list_sources(driver(connection), limit=limit + 1, after=after)
        page, following = cut_page(rows, limit, lambda row: (row.created_at, row.source.source_id))
        return {"data": [show_source(row) for row in page], "next": following}

    @router.post("/v1/sources", status_code=201)
    def create_source(caller: May, body: NewSource) -> dict[str, Any]:
        """Make a source with its first write key."""
        taken = check_settings(body.type, body.settings)
        settings = {name: value for name, value in taken.items() if value is not None}
        with database.transaction() as connection:
            tx = driver(connection)
            source, write_key = sources_store.create_source(tx, body.name, body.type, settings)
            details = {"name": body.name, "type": body.type}
            audit_store.record(tx, caller.actor, "source_created", source.source_id, details)
            row = sources_store.find_source(tx, source.source_id)
        directory.refresh()
        return show_source(row) | {"write_key": write_key}

    @router.get("/v1/sources/{source_id}")
    def get_source(caller: May, source_id: str) -> dict[str, Any]:
        """Show one source."""
        with database.transaction() as connection:
            return show_source(sources_store.find_source(driver(connection), source_id))

    @router.patch("/v1/sources/{source_id}")
    def patch_source(caller: May, source_id: str, body: SourcePatch) -> dict[str, Any]:
        """Change a source; a disabled one's keys are refused until it is enabled again."""
        with database.transaction() as connection:
            tx = driver(connection)
            known = sources_store.find_source(tx, source_id, for_change=True).source
            settings = body.settings
            if settings is not None:
                settings = check_settings(known.type, settings, known.settings)
            row = sources_store.patch_source(
                tx, source_id, name=body.name, settings=settings, disabled=body.disabled
            )
            details: dict[str, Any] = {"changed": sorted(body.model_fields_set)}
            if settings:
                details["settings"] = sorted(settings)
            audit_store.record(tx, caller.actor, "source_changed", source_id, details)
        directory.refresh()
        return show_source(row)

    @router.get("/v1/sources/{source_id}/keys")
    def list_keys(caller: May, source_id: str) -> dict[str, Any]:
        """List the write keys of a source, oldest first, with their last use."""
        with database.transaction() as connection:
            row = sources_store.find_source(driver(connection), source_id)
        return {"data": _show_keys(row.keys), "next": None}

    @router.post("/v1/sources/{source_id}/keys", status_code=201)
    def create_key(
        caller: May, source_id: str, body: Annotated[NewKey | None, Body()] = None
    ) -> dict[str, Any]:
        """Give a source one more write key; the old ones go on, for as long as the body says."""
        ends_at = find_end(body, clock_now())
        with database.transaction() as connection:
            tx = driver(connection)
            key_id, write_key = sources_store.add_key(tx, source_id)
            details: dict[str, Any] = {"key": key_id}
            if ends_at is not None:
                others = sources_store.end_other_keys(tx, source_id, key_id, ends_at)
                details |= {"others_end_at": format_time(ends_at), "others": others}
            audit_store.record(tx, caller.actor, "key_created", source_id, details)
        directory.refresh()
        shown = None if ends_at is None else format_time(ends_at)
        return {"id": key_id, "write_key": write_key, "others_expire_at": shown}

    @router.patch("/v1/sources/{source_id}/keys/{key_id}")
    def patch_key(caller: May, source_id: str, key_id: str, body: KeyPatch) -> dict[str, Any]:
        """Disable a key, enable it again, or say when it ends."""
        with database.transaction() as connection:
            tx = driver(connection)
            given = body.model_fields_set
            row = sources_store.patch_key(
                tx,
                source_id,
                key_id,
                disabled=body.disabled,
                ends_at=body.expires_at,
                has_end=body.expires_at is not None if "expires_at" in given else None,
            )
            details = {"key": key_id} | body.model_dump(mode="json", exclude_unset=True)
            audit_store.record(tx, caller.actor, "key_changed", source_id, details)
        directory.refresh()
        return _show_keys([row])[0]

    @router.delete("/v1/sources/{source_id}/keys/{key_id}", status_code=204)
    def delete_key(caller: May, source_id: str, key_id: str) -> Response:
        """Make a write key useless: here at once, on other nodes within a second."""
        with database.transaction() as connection:
            tx = driver(connection)
            sources_store.delete_key(tx, source_id, key_id)
            audit_store.record(tx, caller.actor, "key_deleted", source_id, {"key": key_id})
        directory.refresh()
        return Response(status_code=204)

    return router


def find_end(body: NewKey | None, now: datetime) -> datetime | None:
    """Return when the other keys end; ``None`` for never. Raises ``Unprocessable``."""
    if body is None:
        return None
    if body.overlap is None:
        return body.expire_others_at
    match = _SPAN.match(body.overlap)
    overlap = timedelta(seconds=int(match[1]) * _UNITS[match[2]]) if match else None
    if overlap is None or overlap > _LONGEST_OVERLAP:
        message = "write a number and a unit, a year at most: 30m, 12h, 7d, 2w"
        raise Unprocessable("invalid_overlap", message, path="/overlap")
    return now + overlap


def show_source(row: SourceRow) -> dict[str, Any]:
    """Return the JSON object of a source; its newest good key is the one to use."""
    source, at = row.source, clock_now()
    good = [key for key in row.keys if key.is_good(at)]
    settings = mask_settings(source.settings)
    shown = {
        "id": source.source_id,
        "name": source.name,
        "type": source.type,
        "settings": settings,
        "preset": show_preset(source.type),
        "effective": show_effective(source.type, settings),
        "unknown_settings": list_unknown(settings),
        "created_at": format_time(row.created_at),
        "disabled": row.disabled_at is not None,
        "write_key": good[-1].write_key if good else None,
        "keys": _show_keys(row.keys),
    }
    if "preset" in settings:
        shown["hook"] = {
            "path": f"/v1/hooks/{source.source_id}",
            "takes": bool(settings.get("secret")),
        }
    return shown


def _show_keys(keys: Iterable[KeyRow]) -> list[dict[str, Any]]:
    at = clock_now()
    return [_show_key(key, at) for key in keys]


def _show_key(key: KeyRow, at: datetime) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "write_key": key.write_key,
        "created_at": format_time(key.created_at),
        "last_used_at": _show_time(key.last_used_at),
        "expires_at": _show_time(key.ends_at),
        "disabled": key.disabled_at is not None,
        "active": key.is_good(at),
    }


def _show_time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)
