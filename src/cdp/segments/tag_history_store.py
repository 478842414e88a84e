"""Values of a tag as they were: all at one change, and how they were spread, day by day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import NamedTuple

from cdp.storage.database import Driver

_PAGE = """
WITH later AS (
    SELECT DISTINCT profile_id FROM tag_changes WHERE key = %(key)s AND change_no > %(pinned)s)
SELECT profile_id, value, at, version, profile_no FROM (
    SELECT v.profile_id, v.value::text AS value, v.at, v.version, v.profile_no FROM tag_values v
     WHERE v.key = %(key)s AND v.profile_id > %(after)s
       AND NOT EXISTS (SELECT FROM later l WHERE l.profile_id = v.profile_id)
    UNION ALL
    SELECT l.profile_id, was.value::text, was.at, was.version, was.profile_no
      FROM later l CROSS JOIN LATERAL (
           SELECT c.value, c.at, c.version, c.profile_no FROM tag_changes c
            WHERE c.profile_id = l.profile_id AND c.key = %(key)s
              AND c.change_no <= %(pinned)s
            ORDER BY c.change_no DESC LIMIT 1) was
     WHERE l.profile_id > %(after)s AND was.value IS NOT NULL) held
 ORDER BY profile_id LIMIT %(most)s
"""
_DAILY = """
WITH told AS (
    SELECT (at AT TIME ZONE %(zone)s)::date AS day, (value #> %(path)s)::text AS value,
           lag((value #> %(path)s)::text) OVER (PARTITION BY profile_id ORDER BY change_no)
               AS before
      FROM tag_changes WHERE key = %(key)s AND change_no > %(start)s),
moved AS (
    SELECT day, value, 1 AS n FROM told WHERE value <> 'null'
    UNION ALL SELECT day, before, -1 FROM told WHERE before <> 'null')
SELECT day, value, sum(n)::bigint FROM moved GROUP BY day, value ORDER BY day, value
"""


class HeldValue(NamedTuple):
    """A person's value, as JSON text, and since when it is."""

    profile_id: str
    value: str
    at: datetime
    version: int
    profile_no: int


def read_values(
    connection: Driver, key: str, *, pinned: int, after: str, most: int
) -> list[HeldValue]:
    """Return up to ``most`` values as of the change ``pinned``, of profiles after ``after``."""
    asked = {"key": key, "pinned": pinned, "after": after, "most": most}
    return [HeldValue(*row) for row in connection.execute(_PAGE, asked)]


def read_daily_moves(
    connection: Driver, key: str, *, start: int, path: Sequence[str], timezone: str
) -> Iterator[tuple[date, str, int]]:
    """Yield by day and value (JSON text) by how many more people had it at the day's end.

    Changes after the change ``start`` count; ``path`` leads into the value.
    """
    asked = {"key": key, "start": start, "path": list(path), "zone": timezone}
    yield from connection.execute(_DAILY, asked)
