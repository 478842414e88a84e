"""A person's tag values in Postgres, now or at a moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cdp.profiles.profile_parts import show_tags
from cdp.runtime.clock import format_time
from cdp.runtime.query_time import read_query_time
from cdp.storage.database import Driver

_AS_OF = """
SELECT key, value, at, version FROM (
    SELECT DISTINCT ON (key) key, value, at, version FROM tag_changes
     WHERE profile_id = %s AND at <= %s ORDER BY key, change_no DESC) newest
 WHERE value IS NOT NULL ORDER BY key
"""


def read_tag_values(tx: Driver, profile_id: str, at: str | None) -> list[dict[str, Any]]:
    """Return the values of a person as they are shown, at the time ``at`` of the query.

    Raises ``Unprocessable`` when it is no time.
    """
    moment = read_query_time("at", at)
    if moment is None:
        return show_tags(tx, profile_id)
    return [_show(*row) for row in tx.execute(_AS_OF, (profile_id, moment))]


def _show(key: str, value: Any, at: datetime, version: int) -> dict[str, Any]:
    return {"key": key, "value": value, "at": format_time(at), "version": version}
