"""How far each log has been worked off: moved only in the transaction of the effects."""

from __future__ import annotations

from collections.abc import Mapping

from cdp.storage.database import Driver


class StalePosition(Exception):
    """Somebody else has worked on these records meanwhile. Roll back: none of it may count."""


def read_positions(conn: Driver, log: str) -> dict[int, int]:
    """Return the offset of the next record to read per partition; a missing partition means 0."""
    rows = conn.execute(
        "SELECT partition, next_offset FROM positions WHERE log = %s", (log,)
    ).fetchall()
    return {int(partition): int(offset) for partition, offset in rows}


def advance_positions(conn: Driver, log: str, moves: Mapping[int, tuple[int, int]]) -> None:
    """Move positions by compare-and-set: ``{partition: (expected, new)}``.

    The rows stay locked until the transaction ends. Raises ``StalePosition`` when a position is
    not the expected one: the caller was too slow and its lease has gone to another worker.
    """
    if not moves:
        return
    # Locked in sorted order, so that two workers with overlapping sets cannot deadlock.
    partitions = sorted(moves)
    rows = conn.execute(
        """SELECT partition, next_offset FROM positions
            WHERE log = %s AND partition = ANY(%s) ORDER BY partition FOR UPDATE""",
        (log, partitions),
    ).fetchall()
    found = {int(partition): int(offset) for partition, offset in rows}
    stale = {
        p: (moves[p][0], found.get(p, 0)) for p in partitions if found.get(p, 0) != moves[p][0]
    }
    if stale:
        raise StalePosition(f"{log}: expected and found positions differ: {stale}")
    written = conn.execute(
        # A row that is missing here but not there was made by another worker since the look above.
        """INSERT INTO positions AS p (log, partition, next_offset)
           SELECT %s, m.partition, m.next_offset
             FROM unnest(%s::int[], %s::bigint[]) AS m(partition, next_offset)
           ON CONFLICT (log, partition) DO UPDATE
              SET next_offset = excluded.next_offset, updated_at = now()
            WHERE p.partition = ANY(%s)""",
        (
            log,
            partitions,
            [moves[p][1] for p in partitions],
            list(found),
        ),
    ).rowcount
    if written != len(partitions):
        raise StalePosition(f"{log}: another worker started on these partitions first")
