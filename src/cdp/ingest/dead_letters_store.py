"""Records that nobody could read: listed, and after a fix sent to the log again as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cdp.errors import Conflict, NotFound
from cdp.log.format import read_requests
from cdp.log.port import NewRecord
from cdp.runtime.clock import format_time
from cdp.storage.database import Driver

Resolution = Literal["replayed", "discarded"]

_COLUMNS = """dead_letter_id, log, partition, record_offset, reason, headers, value, at,
              resolved_at, resolution"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that nobody could read."""

    number: int
    log: str
    partition: int
    offset: int
    reason: str
    headers: dict[str, str]
    value: bytes
    at: datetime
    resolved_at: datetime | None
    resolution: Resolution | None

    @property
    def record(self) -> NewRecord:
        """The record as it was."""
        return NewRecord(self.partition, None, self.headers, self.value)


def list_dead_letters(
    connection: Driver, *, limit: int, before: int | None = None, is_open: bool | None = None
) -> list[DeadLetter]:
    """Return dead letters, newest first, below the number ``before``."""
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM dead_letters
            WHERE (%(before)s::bigint IS NULL OR dead_letter_id < %(before)s)
              AND (%(open)s::boolean IS NULL OR (resolved_at IS NULL) = %(open)s)
            ORDER BY dead_letter_id DESC LIMIT %(limit)s""",
        {"before": before, "open": is_open, "limit": limit},
    ).fetchall()
    return [DeadLetter(*row) for row in rows]


def lock_dead_letter(connection: Driver, number: int) -> DeadLetter:
    """Return an open dead letter and hold it to the end of the transaction.

    Raises ``NotFound``, or ``Conflict`` when somebody resolved it.
    """
    rows: Sequence[tuple[Any, ...]] = connection.execute(
        f"SELECT {_COLUMNS} FROM dead_letters WHERE dead_letter_id = %s FOR UPDATE", (number,)
    ).fetchall()
    if not rows:
        raise NotFound("dead_letter_not_found", "no dead letter has this id")
    letter = DeadLetter(*rows[0])
    if letter.resolved_at is not None:
        raise Conflict("already_resolved", f"this was {letter.resolution} before")
    return letter


def resolve(connection: Driver, number: int, resolution: Resolution) -> None:
    """Write down what was done about a dead letter."""
    connection.execute(
        """UPDATE dead_letters SET resolved_at = now(), resolution = %s
            WHERE dead_letter_id = %s""",
        (resolution, number),
    )


def show_dead_letter(letter: DeadLetter) -> dict[str, Any]:
    """Return the JSON object that people see, without its bytes: nobody can mask those."""
    return {
        "id": str(letter.number),
        "log": letter.log,
        "partition": letter.partition,
        "offset": letter.offset,
        "source_id": letter.headers.get("cdp-source"),
        "lines": sum(lines for *_, lines in read_requests(letter.headers)),
        "bytes": len(letter.value),
        "reason": letter.reason,
        "at": format_time(letter.at),
        "status": letter.resolution or "open",
        "resolved_at": None if letter.resolved_at is None else format_time(letter.resolved_at),
    }
