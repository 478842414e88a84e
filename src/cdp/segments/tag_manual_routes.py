"""Values of tags that are set by hand, over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.errors import Conflict, NotFound
from cdp.model import Identifier
from cdp.runtime.clock import now
from cdp.segments import tags_store
from cdp.segments.definitions import clean_document
from cdp.segments.service import EVALUATION_PATIENCE, Segments, TagWriter
from cdp.segments.tag_history_routes import require_tag
from cdp.segments.tags import require_type
from cdp.segments.tags_store import Tag
from cdp.storage.database import driver


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NamedIdentifier(_Body):
    """An identifier as it is written on the wire."""

    type: str
    value: str


class ManualValue(_Body):
    """A value set by hand; null removes it."""

    identifier: NamedIdentifier
    value: Any = None


class ManualValues(_Body):
    """Values set by hand."""

    values: Annotated[list[ManualValue], Field(min_length=1, max_length=10_000)]


def add_manual_values(router: APIRouter, services: Segments) -> None:
    """Add the route that sets values to ``router``."""

    @router.put("/v1/tags/{key}/values")
    def set_values(caller: TagWriter, key: str, body: ManualValues) -> dict[str, Any]:
        """Set values by hand. They stay with the identifier that was named, whoever it is of."""
        with services.database.transaction() as connection:
            tag = require_tag(driver(connection), key)
        if "manual" not in tag.document:
            raise Conflict("tag_is_computed", f"the values of {key} are computed, not set by hand")
        placed, rejected = _place_values(services, tag, body)
        if placed:
            with services.database.transaction() as connection:
                tx = driver(connection)
                tags_store.write_manual_values(tx, key, placed, now())
                audit_store.record(tx, caller.actor, "tag_values_set", key, {"count": len(placed)})
            services.refresher.refresh_until_done(now, seconds=EVALUATION_PATIENCE)
        return {"stored": len(placed), "rejected": rejected}


def _place_values(
    services: Segments, tag: Tag, body: ManualValues
) -> tuple[list[tuple[int, Any]], list[dict[str, Any]]]:
    """Return the values by node, and what names nobody. Raises for a value of a wrong type."""
    known: dict[int, Identifier] = {}
    rejected: list[dict[str, Any]] = []
    for index, given in enumerate(body.values):
        require_type(given.value, tag.type, f"/values/{index}/value")
        try:
            name = f"{given.identifier.type}:{given.identifier.value}"
            known[index] = services.find_person(name).asked
        except NotFound as error:
            rejected.append({"index": index, "code": error.code, "message": error.message})
    with services.database.transaction() as connection:
        nodes = tags_store.find_nodes(driver(connection), list(known.values()))
    placed = [
        (node, clean_document(body.values[index].value))
        for index, node in zip(known, nodes, strict=True)
        if node is not None
    ]
    return placed, rejected
