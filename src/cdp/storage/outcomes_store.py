"""What became of what arrived: rejected events, dead letters, counts per source and minute.

    received = stored + duplicate + rejected

``received`` is what the headers of the log's records count, the others are the lines that went
through the steps: that both agree is not a matter of course, so a loss shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Literal

from psycopg.types.json import Json

from cdp.log.port import Record
from cdp.model import RejectedEvent
from cdp.storage.database import Database, Driver, driver

Outcome = Literal["received", "stored", "duplicate", "rejected"]
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
        """INSERT INTO accounting AS a (source_id, minute, received, stored, duplicate, rejected)
           SELECT * FROM unnest(%b::text[], %b::timestamptz[], %b::bigint[], %b::bigint[],
                                %b::bigint[], %b::bigint[])
           ON CONFLICT (source_id, minute) DO UPDATE
              SET received = a.received + excluded.received,
                  stored = a.stored + excluded.stored,
                  duplicate = a.duplicate + excluded.duplicate,
                  rejected = a.rejected + excluded.rejected""",
        (
            [source_id for (source_id, _), _ in ordered],
            [minute for (_, minute), _ in ordered],
            [counter["received"] for _, counter in ordered],
            [counter["stored"] for _, counter in ordered],
            [counter["duplicate"] for _, counter in ordered],
            [counter["rejected"] for _, counter in ordered],
        ),
    )


def key_refused(source_id: str, request_id: str, place: str, raw: bytes) -> bytes:
    """Return the 16 bytes under which a refused line is known, however often the log brings it.

    ``place`` is where it stands: its index in the request, or partition and line number.
    """
    content = f"{source_id}\n{request_id}\n{place}\n".encode() + raw
    return blake2b(content, digest_size=16).digest()


def write_rejected(
    connection: Driver, events: Sequence[RejectedEvent], batch_id: int | None = None
) -> list[RejectedEvent]:
    """Keep refused events with their reason and their bytes; return those kept before.

    Of two equal ones in ``events`` the first is kept.
    """
    if not events:
        return []
    first: dict[bytes, RejectedEvent] = {}
    new, again = [], []
    for event in events:
        if event.key is not None and first.setdefault(event.key, event) is not event:
            again.append(event)
        else:
            new.append(event)
    rows = connection.execute(
        """INSERT INTO rejected (source_id, message_id, code, message, received_at, raw, kind,
                                 place, request_id, sent_at, route_type, shared, truncated,
                                 refused_key, batch_id)
           SELECT *, %b::bigint
             FROM unnest(%b::text[], %t::text[], %b::text[], %b::text[], %b::timestamptz[],
                         %b::bytea[], %b::text[], %t::int[], %t::text[], %t::text[], %t::text[],
                         %t::bytea[], %t::boolean[], %t::bytea[])
           ON CONFLICT (refused_key) DO NOTHING
           RETURNING refused_key""",
        (batch_id, *([getattr(event, name) for event in new] for name in _COLUMNS)),
    ).fetchall()
    kept = {key for (key,) in rows}
    again += [event for event in new if event.key is not None and event.key not in kept]
    return again


_COLUMNS = (
    "source_id", "message_id", "code", "message", "received_at", "raw", "kind", "place",
    "request_id", "sent_at", "route_type", "shared", "truncated", "key",
)  # fmt: skip


def write_dead_letters(connection: Driver, log: str, letters: Iterable[tuple[Record, str]]) -> None:
    """Keep records that nobody can read: ``(record, reason)``."""
    for record, reason in letters:
        connection.execute(
            """INSERT INTO dead_letters (log, partition, record_offset, reason, headers, value)
               VALUES (%s, %s, %s, %s, %s, %s)""",
            (
                log,
                record.partition,
                record.offset,
                reason,
                Json(dict(record.headers)),
                record.value,
            ),
        )


def write_gaps(connection: Driver, log: str, gaps: Iterable[tuple[int, int, int]]) -> None:
    """Keep that records are missing: ``(partition, offset of the first, how many)``.

    They are dead letters without content, so that they raise the alarm until somebody knows.
    """
    for partition, first, count in gaps:
        reason = f"gone: {count} records were no longer in the log when it was their turn"
        connection.execute(
            """INSERT INTO dead_letters (log, partition, record_offset, reason, headers, value)
               VALUES (%s, %s, %s, %s, '{}', '')""",
            (log, partition, first, reason),
        )


def drop_refused_before(database: Database, before: datetime, *, limit: int = 5000) -> int:
    """Forget refused events received before ``before``, at most ``limit``; return how many.

    Dead letters go with them once somebody has resolved them.
    """
    with database.transaction() as connection:
        tx = driver(connection)
        tx.execute("DELETE FROM dead_letters WHERE resolved_at < %s", (before,))
        return tx.execute(
            """DELETE FROM rejected WHERE rejected_id IN (
                   SELECT rejected_id FROM rejected WHERE received_at < %s
                    ORDER BY received_at LIMIT %s FOR UPDATE SKIP LOCKED)""",
            (before, limit),
        ).rowcount
