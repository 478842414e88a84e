"""Why tags by SQL keep their old values, in Postgres."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cdp.segments.definitions import Definition
from cdp.storage.database import Driver


@dataclass(frozen=True, slots=True)
class TagFailure:
    """What went wrong the last time."""

    version: int
    """Of the definition."""
    code: str
    message: str
    at: datetime


def write_failure(
    connection: Driver, definition: Definition, code: str, message: str, now: datetime
) -> None:
    """Write down that a tag's query failed."""
    connection.execute(
        """INSERT INTO tag_failures (key, version, code, message, at) VALUES (%s, %s, %s, %s, %s)
               ON CONFLICT (key) DO UPDATE
              SET version = excluded.version, code = excluded.code, message = excluded.message,
                  at = excluded.at""",
        (definition.key, definition.version, code, message, now),
    )


def delete_failure(connection: Driver, key: str) -> None:
    """Write down that all is well, or that the tag is no more."""
    connection.execute("DELETE FROM tag_failures WHERE key = %s", (key,))


def list_failures(connection: Driver) -> dict[str, TagFailure]:
    """Return the failures by the tag's key."""
    rows = connection.execute("SELECT key, version, code, message, at FROM tag_failures")
    return {row[0]: TagFailure(*row[1:]) for row in rows}
