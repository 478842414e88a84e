"""The catalogue of traits over HTTP: what is said of people, and which of it is personal."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.masking import is_personal_by_name
from cdp.access.personal_names import choose, refresh_choices
from cdp.access.scopes import Caller
from cdp.errors import Unprocessable
from cdp.profiles.profile_names import restore_slashes
from cdp.profiles.trait_names_store import KnownTrait, find_trait, list_traits
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import cut_page, decode_cursor
from cdp.storage.database import Database, driver
from cdp.trait_parts import LONGEST_NAME

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Admin = Annotated[Caller, Depends(require("admin"))]


class TraitChange(BaseModel):
    """What is chosen of a trait."""

    model_config = ConfigDict(extra="forbid")

    personal: bool | None = Field(
        description="Whether its values are hidden without `pii:read`; null: its name decides."
    )


def create_router(database: Database) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["profiles"])

    @router.get("/v1/traits")
    def get_traits(
        _: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """List the traits that were ever said of anybody, by name, with the types of their values.

        `personal` tells whether values are hidden without `pii:read`, and `decided_by` whether
        the name alone says so (`default`) or somebody chose it (`setting`).
        """
        after = decode_cursor(cursor, tuple[str])[0] if cursor else ""
        with database.snapshot() as connection:
            known = list_traits(driver(connection), after, limit + 1)
        page, following = cut_page(known, limit, lambda one: (one.name,))
        return {"data": [show_known(one) for one in page], "next": following}

    @router.put("/v1/traits/{name}")
    def put_trait(caller: Admin, name: str, body: TraitChange) -> dict[str, Any]:
        """Choose whether values under this name are personal; null lets the name decide again.

        It holds at once for everything that shows it, SQL and other nodes follow within seconds.
        A trait that nobody has said yet may be named too. In events and accounts the name means
        the same.
        """
        name = restore_slashes(name)
        if not name or len(name) > LONGEST_NAME or "\0" in name:
            raise Unprocessable(
                "invalid_trait_name",
                f"a trait's name has 1 to {LONGEST_NAME} characters",
                path="/name",
            )
        with database.transaction() as connection:
            tx = driver(connection)
            if choose(tx, name, body.personal):
                details = {"personal": body.personal}
                audit_store.record(tx, caller.actor, "trait_changed", name, details)
            known = find_trait(tx, name) or KnownTrait(name, [], None, None, None)
        with database.snapshot() as connection:
            refresh_choices(driver(connection))
        return show_known(known)

    return router


def show_known(known: KnownTrait) -> dict[str, Any]:
    """Return a trait of the catalogue as it is shown."""
    by_name = is_personal_by_name(known.name)
    return {
        "name": known.name,
        "types": known.types,
        "personal": by_name if known.personal is None else known.personal,
        "decided_by": "default" if known.personal is None else "setting",
        "first_seen": _show_time(known.first_seen),
        "last_seen": _show_time(known.last_seen),
    }


def _show_time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)
