"""The accounts (companies, households) that a person has said to belong to, by ``group`` calls."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cdp.storage.database import Driver

_ACCOUNTS = """
SELECT DISTINCT v.group_id
  FROM node_profiles np
  JOIN events v ON v.node_id = np.node_id AND v.at >= np.since AND v.at < np.until
 WHERE np.profile_no = %(person)s AND v.type = 'group' AND v.group_id IS NOT NULL
   AND v.at <= %(now)s
 ORDER BY v.group_id
"""


def read_accounts(connection: Driver, profile_no: int, now: datetime) -> list[dict[str, Any]]:
    """Return the accounts of a person as of ``now``; a ``group`` call names no role."""
    rows = connection.execute(_ACCOUNTS, {"person": profile_no, "now": now})
    return [{"account_id": account_id, "role": None} for (account_id,) in rows]
