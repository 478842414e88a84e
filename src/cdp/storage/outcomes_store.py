"""What became of what arrived: rejected events, dead letters, counts per source and minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from psycopg.types.json import Json

from cdp.log.port import Record
from cdp.model import RejectedEvent
from cdp.storage.database import Driver

Outcome = Literal["stored", "duplicate", "rejected"]
OutcomeKey = tuple[str, datetime, Outcome]
"""Source id, minute of receipt (UTC), what became of it."""


def minute_of(time: datetime) -> datetime:
    """Return the minute that ``time`` lies in."""
    return time.replace(second=0, microsecond=0)


def count_outcomes(connection: Driver, counts: Mapping[OutcomeKey, int]) -> None:
    """Add ``counts`` to the accounting of their source and minute."""
    if not counts:
        return
    rows: dict[tuple[str, datetime], Counter[str]] = {}
    for (source_id, minute, outcome), count in counts.items():
        rows.setdefault((source_id, minute), Counter())[outcome] += count
    # Sorted, so that two workers lock shared rows in one order.
    ordered = sorted(rows.items())
    connection.execute(
        """INSERT INTO accounting AS a (source_id, minute, stored, duplicate, rejected)
           SELECT * FROM unnest(%b::text[], %b::timestamptz[], %b::bigint[], %b::bigint[],
                                %b::bigint[])
           ON CONFLICT (source_id, minute) DO UPDATE
              SET stored = a.stored + excluded.stored,
                  duplicate = a.duplicate + excluded.duplicate,
                  rejected = a.rejected + excluded.rejected""",
        (
            [source_id for (source_id, _), _ in ordered],
            [minute for (_, minute), _ in ordered],
            [counter["stored"] for _, counter in ordered],
            [counter["duplicate"] for _, counter in ordered],
            [counter["rejected"] for _, counter in ordered],
        ),
    )


def write_rejected(connection: Driver, events: Sequence[RejectedEvent]) -> None:
    """Keep refused events with their reason and their bytes."""
    if not events:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO rejected (source_id, message_id, code, message, received_at, raw)
               VALUES (%s, %s, %s, %s, %s, %s)""",
            [(e.source_id, e.message_id, e.code, e.message, e.received_at, e.raw) for e in events],
        )


def write_dead_letters(
    connection: Driver, log: str, letters: Iterable[tuple[Record, int | None, bytes, str]]
) -> None:
    """Keep what cannot be processed: ``(record, line number or None for all, bytes, reason)``."""
    for record, ordinal, value, reason in letters:
        connection.execute(
            """INSERT INTO dead_letters
                      (log, partition, record_offset, ordinal, reason, headers, value)
               VALUES (%s, %s, %s, %s, %s, %s, %s)""",
            (
                log,
                record.partition,
                record.offset,
                ordinal,
                reason,
                Json(dict(record.headers)),
                value,
            ),
        )
