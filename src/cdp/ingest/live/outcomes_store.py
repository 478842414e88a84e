"""What became of lines that somebody watched, from what the worker has committed.

The batch that moved the position past a line has worked it off; it names its duplicates, and what
it refused bears its number. So nothing is guessed, and the worker does nothing for those who watch.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cdp.ingest.live.lines import SeenLine
from cdp.storage.database import Driver

_MOST_BATCHES = 100

Pending = Mapping[int, deque[SeenLine]]
"""Lines without an outcome, by partition, in the order of the log."""


class Outcome(NamedTuple):
    """What became of a line."""

    line: SeenLine
    shown: Mapping[str, Any]


def read_newest_batch(connection: Driver) -> int:
    """Return the place of the newest batch in commit order."""
    row = connection.execute("SELECT next_seq - 1 FROM batch_head").fetchone()
    assert row is not None
    return int(row[0])


def settle_lines(
    connection: Driver, log: str, pending: Pending, after: int
) -> tuple[int, list[Outcome]]:
    """Take the lines out of ``pending`` that batches later than ``after`` have worked off.

    Return the place of the last batch looked at, and what became of the lines.
    """
    waiting = {str(p): lines[0].offset for p, lines in pending.items() if lines}
    rows = connection.execute(
        """SELECT seq, batch_id, positions -> %(log)s, duplicates FROM batches
            WHERE seq > %(after)s
              AND EXISTS (SELECT FROM unnest(%(partitions)s::text[], %(offsets)s::bigint[])
                                      AS w(partition, record_offset)
                           WHERE (positions -> %(log)s ->> w.partition)::bigint > w.record_offset)
            ORDER BY seq LIMIT %(limit)s""",
        {
            "log": log,
            "after": after,
            "partitions": list(waiting),
            "offsets": list(waiting.values()),
            "limit": _MOST_BATCHES,
        },
    ).fetchall()
    outcomes: list[Outcome] = []
    for seq, batch_id, positions, duplicates in rows:
        lines = list(_take_lines(pending, positions))
        outcomes += _find_outcomes(connection, batch_id, lines, Counter(map(bytes, duplicates)))
        after = seq
    return after, outcomes


def _take_lines(pending: Pending, positions: Mapping[str, int]) -> Iterator[SeenLine]:
    for partition, lines in pending.items():
        reached = positions.get(str(partition), 0)
        while lines and lines[0].offset < reached:
            yield lines.popleft()


def _find_outcomes(
    connection: Driver, batch_id: int, lines: Sequence[SeenLine], duplicates: Counter[bytes]
) -> Iterator[Outcome]:
    refused = _read_refused(connection, batch_id, lines)
    profiles = _read_profiles(connection, batch_id, lines)
    # Of several copies in one batch the first may be new: the later ones are the duplicates.
    copies = Counter(line.message_key for line in lines if line.message_key)
    for line in lines:
        key = line.message_key
        if line.refused_key in refused:
            yield Outcome(line, {"state": "rejected", **refused.pop(line.refused_key)})
        elif key is None or (duplicates[key] and copies[key] <= duplicates[key]):
            duplicates[key or b""] -= 1
            yield Outcome(line, {"state": "duplicate"})
        else:
            name = (line.source_id, line.message_id)
            shown = {"profile_id": profiles[name]} if name in profiles else {}
            yield Outcome(line, {"state": "stored", **shown})
        if key is not None:
            copies[key] -= 1


def _read_refused(
    connection: Driver, batch_id: int, lines: Sequence[SeenLine]
) -> dict[bytes, dict[str, Any]]:
    rows = connection.execute(
        """SELECT refused_key, rejected_id, code, message FROM rejected
            WHERE refused_key = ANY(%s) AND batch_id = %s""",
        ([line.refused_key for line in lines], batch_id),
    ).fetchall()
    return {
        bytes(key): {"code": code, "message": message, "rejected_id": str(number)}
        for key, number, code, message in rows
    }


def _read_profiles(
    connection: Driver, batch_id: int, lines: Sequence[SeenLine]
) -> dict[tuple[str, str | None], str | None]:
    """Return the profile of each event that the batch stored, by source and message id."""
    ids = [line.message_id for line in lines if line.message_id is not None]
    if not ids:
        return {}
    rows = connection.execute(
        """SELECT s.source_id, e.message_id, p.profile_id
             FROM events e
             JOIN sources s ON s.number = e.source_number
             LEFT JOIN node_profiles m ON m.node_id = e.node_id
                                      AND e.at >= m.since AND e.at < m.until
             LEFT JOIN profiles p USING (profile_no)
            WHERE e.batch_id = %s AND e.message_id = ANY(%s)""",
        (batch_id, ids),
    ).fetchall()
    return {(source_id, message_id): profile for source_id, message_id, profile in rows}
