"""Who reads which partition: leases in Postgres, shared fairly, taken over from the dead.

Leases only spare work. What makes a stale reader harmless is the compare-and-set on the
positions (``cdp.storage.positions``): a worker that lost its lease cannot commit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from cdp.storage.database import Database, Driver, driver


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds a partition, and whether the time for which it was granted is over."""

    worker_id: str
    is_expired: bool


def choose_partitions(
    me: str, workers: Sequence[str], partitions: int, leases: Mapping[int, Lease]
) -> frozenset[int]:
    """Return the partitions that ``me`` should hold from now on. Pure.

    Every live worker's share is ``partitions / workers``, the remainder going to the first by
    name. Who holds more gives up its highest ones; who holds less takes free ones, lowest first,
    and never from a living holder, who gives up by itself.
    """
    ranked = sorted({*workers, me})
    share, remainder = divmod(partitions, len(ranked))
    if ranked.index(me) < remainder:
        share += 1
    mine = [p for p in range(partitions) if p in leases and leases[p].worker_id == me]
    free = [p for p in range(partitions) if p not in leases or _is_free(leases[p], ranked, me)]
    return frozenset([*mine, *free][:share])


def _is_free(lease: Lease, live: Sequence[str], me: str) -> bool:
    return lease.worker_id != me and (lease.is_expired or lease.worker_id not in live)


class Leases:
    """The partitions of one log that one worker process may read. Not thread-safe."""

    def __init__(
        self,
        database: Database,
        log_name: str,
        partitions: int,
        worker_id: str,
        ttl_seconds: float = 10,
        renew_every_seconds: float | None = None,
    ) -> None:
        """Describe a worker; nothing is held before ``renew``.

        ``worker_id`` must be unique among running processes; ``ttl_seconds`` is how long a worker
        that stopped renewing keeps its partitions; ``renew_every_seconds`` is how often the
        database is really asked, a tenth of that by default.
        """
        self._database = database
        self._log = log_name
        self._partitions = partitions
        self._worker_id = worker_id
        self._ttl = ttl_seconds
        self._every = ttl_seconds / 10 if renew_every_seconds is None else renew_every_seconds
        self._held: frozenset[int] = frozenset()
        self._renewed_at = float("-inf")

    def renew(self, now: datetime | None = None) -> frozenset[int]:
        """Say that this worker lives, take its fair share, give up what is too much.

        Returns the partitions held. To be called between batches, never while one of the
        partitions is being worked on; as often as one likes. Time is the database's, so that
        workers with different clocks agree; ``now`` replaces it where a test plays with time.
        """
        current = time.monotonic()
        if now is None and current - self._renewed_at < self._every:
            return self._held
        with self._database.transaction() as connection:
            conn = driver(connection)
            # What a power cut forgets here is granted anew; nobody has to wait for the disk.
            conn.execute("SET LOCAL synchronous_commit = off")
            # Two workers deciding at once would each see the other's old share.
            conn.execute("SELECT pg_advisory_xact_lock(7263543, hashtext(%s))", (self._log,))
            at = now or _read_clock(conn)
            workers = self._register(conn, at)
            leases = self._read_leases(conn, at)
            wanted = choose_partitions(self._worker_id, workers, self._partitions, leases)
            self._write_leases(conn, at, wanted, leases)
        self._held, self._renewed_at = wanted, current
        return wanted

    def release(self) -> None:
        """Give up everything at once, so that others need not wait for the time to run out."""
        self._held, self._renewed_at = frozenset(), float("-inf")
        with self._database.transaction() as connection:
            conn = driver(connection)
            mine = (self._log, self._worker_id)
            conn.execute("DELETE FROM log_leases WHERE log = %s AND worker_id = %s", mine)
            conn.execute("DELETE FROM log_workers WHERE log = %s AND worker_id = %s", mine)

    def _register(self, conn: Driver, at: datetime) -> list[str]:
        conn.execute(
            """DELETE FROM log_workers
                WHERE log = %s AND worker_id <> %s AND seen_at <= %s - make_interval(secs => %s)""",
            (self._log, self._worker_id, at, self._ttl),
        )
        conn.execute(
            """INSERT INTO log_workers (log, worker_id, seen_at) VALUES (%s, %s, %s)
               ON CONFLICT (log, worker_id) DO UPDATE SET seen_at = excluded.seen_at""",
            (self._log, self._worker_id, at),
        )
        rows = conn.execute(
            "SELECT worker_id FROM log_workers WHERE log = %s", (self._log,)
        ).fetchall()
        return [str(worker_id) for (worker_id,) in rows]

    def _read_leases(self, conn: Driver, at: datetime) -> dict[int, Lease]:
        rows = conn.execute(
            "SELECT partition, worker_id, expires_at <= %s FROM log_leases WHERE log = %s",
            (at, self._log),
        ).fetchall()
        return {int(partition): Lease(str(w), bool(expired)) for partition, w, expired in rows}

    def _write_leases(
        self, conn: Driver, at: datetime, wanted: Set[int], leases: Mapping[int, Lease]
    ) -> None:
        given_up = [
            partition
            for partition, lease in leases.items()
            if lease.worker_id == self._worker_id and partition not in wanted
        ]
        if given_up:
            conn.execute(
                "DELETE FROM log_leases WHERE log = %s AND partition = ANY(%s)",
                (self._log, given_up),
            )
        conn.execute(
            """INSERT INTO log_leases (log, partition, worker_id, expires_at)
               SELECT %s, p, %s, %s + make_interval(secs => %s) FROM unnest(%s::int[]) AS p
               ON CONFLICT (log, partition) DO UPDATE
                  SET worker_id = excluded.worker_id, expires_at = excluded.expires_at""",
            (self._log, self._worker_id, at, self._ttl, sorted(wanted)),
        )


def _read_clock(conn: Driver) -> datetime:
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    at: datetime = row[0]
    return at
