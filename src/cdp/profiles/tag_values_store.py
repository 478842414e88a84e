"""A person's tag values in Postgres, now or at a moment."""

from __future__ import annotations

from typing import Any

from cdp.profiles.profile_parts import show_tag, show_tags
from cdp.runtime.query_time import read_query_time
from cdp.storage.database import Driver
from cdp.storage.tag_horizon_store import require_known

_SHOWN = ("key", "value", "at", "version")
_AS_OF = """
SELECT key, value, at, version FROM (
    SELECT DISTINCT ON (key) key, value, at, version FROM tag_changes
     WHERE profile_id = %s AND at <= %s ORDER BY key, change_no DESC) newest
 WHERE value IS NOT NULL ORDER BY key
"""


def read_tag_values(
    tx: Driver, profile_id: str, at: str | None, *, is_masked: bool
) -> list[dict[str, Any]]:
    """Return the values of a person as they are shown, at the time ``at`` of the query.

    Raises ``Unprocessable`` when it is no time, or one of which nothing is known any more.
    """
    moment = read_query_time("at", at)
    if moment is None:
        return show_tags(tx, profile_id, is_masked=is_masked)
    rows = tx.execute(_AS_OF, (profile_id, moment)).fetchall()
    # Only now: what was dropped before it was read is known by then.
    require_known(tx, moment)
    return [show_tag(dict(zip(_SHOWN, row, strict=True)), is_masked=is_masked) for row in rows]
