"""Retention of the history of tag values: what was closed long ago goes, what holds stays.

Scores change daily for everybody, so their history grows by population times days. The changes
themselves are walked through in their order, each once: a change of long ago closes the value that
was before it, which is dropped then; a change that says "gone" has nothing to say after that and is
dropped too. So the work goes with what changed on a day, and the newest value of everybody is never
looked at. Replaying what is left gives the same values.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cdp.storage.database import Database, driver

MOST_AT_ONCE = 10_000

# ``at`` follows the clock, which may have been set back: the walk ends at the first change that
# is too young, so that no change is passed over.
_CUT = """
WITH head AS MATERIALIZED (
    SELECT coalesce((SELECT dropped_until FROM tag_horizon), 0) AS until),
ahead AS MATERIALIZED (
    SELECT change_no, key, profile_id, value IS NULL AS is_gone, at
      FROM tag_changes WHERE change_no > (SELECT until FROM head)
     ORDER BY change_no LIMIT %(most)s),
closers AS MATERIALIZED (
    SELECT change_no, key, profile_id, is_gone FROM ahead
     WHERE change_no < coalesce((SELECT min(change_no) FROM ahead WHERE at >= %(before)s),
                                9223372036854775807)),
dropped AS (
    DELETE FROM tag_changes WHERE change_no IN (
        SELECT c.change_no
          FROM closers k JOIN tag_changes c
            ON c.profile_id = k.profile_id AND c.key = k.key AND c.change_no < k.change_no
         UNION ALL
        SELECT change_no FROM closers WHERE is_gone)
    RETURNING change_no),
moved AS (
    INSERT INTO tag_horizon AS h (head_no, dropped_until, known_from)
    SELECT 1, max(change_no),
           CASE WHEN EXISTS (SELECT FROM dropped) THEN %(before)s::timestamptz END
      FROM closers HAVING count(*) > 0
        ON CONFLICT (head_no) DO UPDATE
       SET dropped_until = greatest(h.dropped_until, excluded.dropped_until),
           known_from = greatest(h.known_from, excluded.known_from))
SELECT count(*), (SELECT count(*) FROM dropped) FROM closers
"""


def drop_tag_history_before(
    database: Database, before: datetime, most: int = MOST_AT_ONCE
) -> Iterator[int]:
    """Drop values that were closed before ``before``, piece by piece; give how many each time.

    A piece walks through up to ``most`` changes in a transaction of its own.
    """
    # As exact as it is told.
    before = before.replace(microsecond=before.microsecond // 1000 * 1000)
    while True:
        with database.transaction() as connection:
            row = (
                driver(connection).execute(_CUT, {"before": before, "most": most}).fetchone()
            ) or (0, 0)
        yield int(row[1])
        if row[0] < most:
            return
