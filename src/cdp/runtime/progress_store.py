"""How far every stage has come, read from Postgres for metrics and status."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cdp.storage.clashes_store import read_clashes
from cdp.storage.database import Driver
from cdp.storage.positions import read_positions


@dataclass(frozen=True, slots=True)
class Counts:
    """What has been done in all, and how far."""

    positions: dict[int, int]
    batches: int = 0
    stored: int = 0
    dead_letters: int = 0
    """What nobody could process, and nobody has resolved."""
    accounting: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    """Per source id: received, stored, duplicate, rejected."""
    unbalanced: dict[str, int] = field(default_factory=dict)
    """Per source id: minutes in which they do not add up. Empty is as it should be."""
    clashes: list[tuple[str, str, int]] = field(default_factory=list)
    """Rules of the schema that workers broke, what became of it, how often. Empty likewise."""


def read_counts(connection: Driver, log: str) -> Counts:
    """Return the counts of everything that was worked off from ``log``."""
    head = connection.execute("SELECT next_seq - 1 FROM batch_head").fetchone()
    dead = connection.execute(
        """SELECT (SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL)
                + (SELECT count(*) FROM rejected
                    WHERE code = 'unprocessable' AND replayed_at IS NULL)"""
    ).fetchone()
    accounting = connection.execute(
        """SELECT source_id, sum(received)::bigint, sum(stored)::bigint, sum(duplicate)::bigint,
                  sum(rejected)::bigint
             FROM accounting GROUP BY source_id ORDER BY source_id"""
    ).fetchall()
    return Counts(
        positions=read_positions(connection, log),
        batches=int(head[0]) if head else 0,
        stored=sum(int(row[2]) for row in accounting),
        dead_letters=int(dead[0]) if dead else 0,
        accounting=[(str(s), int(a), int(b), int(c), int(d)) for s, a, b, c, d in accounting],
        unbalanced=_count_unbalanced(connection),
        clashes=read_clashes(connection),
    )


def _count_unbalanced(connection: Driver) -> dict[str, int]:
    rows = connection.execute(
        """SELECT source_id, count(*) FROM accounting
            WHERE received <> stored + duplicate + rejected
            GROUP BY source_id ORDER BY source_id"""
    ).fetchall()
    return {str(source_id): int(minutes) for source_id, minutes in rows}


def read_sizes(connection: Driver) -> dict[str, int]:
    """Return how much there is: profiles, identifiers, bytes of the database."""
    row = connection.execute(
        """SELECT (SELECT count(*) FROM profiles),
                  (SELECT count(*) FROM nodes WHERE variant = ''),
                  pg_database_size(current_database())"""
    ).fetchone()
    assert row is not None
    return {"profiles": row[0], "identifiers": row[1], "postgres_bytes": row[2]}


def read_workers(connection: Driver, log: str) -> list[tuple[str, datetime, int]]:
    """Return the workers of ``log``: name, when last seen, partitions held."""
    rows = connection.execute(
        """SELECT w.worker_id, w.seen_at, count(l.partition)
             FROM log_workers w
             LEFT JOIN log_leases l ON l.log = w.log AND l.worker_id = w.worker_id
                                   AND l.expires_at > now()
            WHERE w.log = %s GROUP BY w.worker_id, w.seen_at ORDER BY w.worker_id""",
        (log,),
    ).fetchall()
    return [(str(name), seen_at, int(held)) for name, seen_at, held in rows]


def read_dead_letters(connection: Driver, limit: int = 10) -> list[dict[str, Any]]:
    """Return the newest dead letters without their bytes, which may be personal:

    records that nobody can read, and refused lines that could not be processed.
    """
    rows = connection.execute(
        """(SELECT dead_letter_id, NULL, log, partition, record_offset, reason, at
              FROM dead_letters WHERE resolved_at IS NULL ORDER BY 1 DESC LIMIT %(limit)s)
           UNION ALL
           (SELECT rejected_id, source_id, NULL, NULL, NULL, message, received_at
              FROM rejected WHERE code = 'unprocessable' AND replayed_at IS NULL
             ORDER BY 1 DESC LIMIT %(limit)s)
            ORDER BY 7 DESC LIMIT %(limit)s""",
        {"limit": limit},
    ).fetchall()
    names = ("id", "source_id", "log", "partition", "offset", "reason", "at")
    return [dict(zip(names, row, strict=True)) for row in rows]
