"""How many values of traits were refused of whom, because there were too many.

Only counts: the events that said them are on the timeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from cdp.storage.database import Driver

_NOTE = """
INSERT INTO refused_traits AS r (node_id, registers, last_at)
SELECT node_id, registers, now() FROM unnest(%b::bigint[], %b::bigint[]) AS s (node_id, registers)
    ON CONFLICT (node_id) DO UPDATE
   SET registers = r.registers + excluded.registers, last_at = excluded.last_at
"""
# Those of a device that several people use are nobody's alone.
_READ = """
SELECT coalesce(sum(r.registers), 0)::bigint, max(r.last_at)
  FROM node_profiles np JOIN refused_traits r ON r.node_id = np.node_id
 WHERE np.profile_no = %s AND np.until = 'infinity'
"""


class RefusedTraits(NamedTuple):
    """``registers``: values, and parts of values; ``last_at``: when it was refused, not said."""

    registers: int
    last_at: datetime | None


def note_refused(connection: Driver, nodes: Iterable[int]) -> None:
    """Count one refused value for each of ``nodes``, which may repeat."""
    counts = sorted(Counter(nodes).items())
    connection.execute(_NOTE, ([node for node, _ in counts], [count for _, count in counts]))


def read_refused(connection: Driver, profile_no: int) -> RefusedTraits:
    """Return what was refused of a person."""
    row = connection.execute(_READ, (profile_no,)).fetchone()
    assert row is not None
    return RefusedTraits(*row)


def count_refused(connection: Driver) -> int:
    """Return how many values were refused of everybody who is still there."""
    row = connection.execute("SELECT coalesce(sum(registers), 0)::bigint FROM refused_traits")
    found = row.fetchone()
    assert found is not None
    return int(found[0])
