"""How far back the history of tag values goes in Postgres, as retention has left it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cdp.errors import Unprocessable
from cdp.runtime.clock import format_time
from cdp.storage.database import Driver


@dataclass(frozen=True, slots=True)
class TagHorizon:
    """Values that were closed before it are gone; each value that holds is there."""

    dropped_until: int = 0
    """Of the changes up to this number only those that still hold are kept."""
    known_from: datetime | None = None
    """From then on every value is known as it was; ``None``: always."""


def read_tag_horizon(connection: Driver) -> TagHorizon:
    """Return up to where the history has been cut."""
    row = connection.execute("SELECT dropped_until, known_from FROM tag_horizon").fetchone()
    return TagHorizon() if row is None else TagHorizon(*row)


def require_known(connection: Driver, moment: datetime) -> None:
    """Raise ``Unprocessable`` when values as of ``moment`` are not kept any more."""
    known_from = read_tag_horizon(connection).known_from
    if known_from is not None and moment < known_from:
        raise Unprocessable(
            "not_kept",
            f"values of tags are known from {format_time(known_from)} on",
            path="/at",
            known_from=format_time(known_from),
        )
