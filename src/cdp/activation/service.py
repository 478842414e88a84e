"""What the routes of destinations share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.activation import destinations_store
from cdp.activation.destination import Destination
from cdp.activation.plan_deliveries import People
from cdp.activation.runner import Send
from cdp.errors import NotFound
from cdp.storage.database import Database, Driver

DestinationWriter = Annotated[Caller, Depends(require("destinations:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]

CheckReferences = Callable[[Driver, Sequence[str], Sequence[str], Sequence[str]], None]
"""Raises ``Unprocessable`` for a segment, tag or field that does not exist."""


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
