"""The accounts (companies, households) that a person belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from cdp.storage.database import Driver

# Whichever of a person's identifiers was named last decides, also about the role.
ACCOUNTS = """
WITH said AS (
    SELECT m.account_no, m.fact, m.value #>> '{{}}' AS value,
           row_number() OVER (PARTITION BY m.account_no, m.fact
                              ORDER BY m.at DESC, m.message_id COLLATE "C" DESC,
                                       m.source_number DESC, m.node_id) AS age
      FROM node_profiles np
      JOIN account_members m
        ON m.node_id = np.node_id AND m.at >= np.since AND m.at < np.until
     WHERE np.profile_no = {person} AND m.at <= %(now)s)
SELECT a.account_id, max(s.value) FILTER (WHERE s.fact = 'role')
  FROM said s JOIN accounts a USING (account_no)
 WHERE s.age = 1
 GROUP BY a.account_id
HAVING bool_or(s.fact = 'member' AND s.value = 'true')
 ORDER BY a.account_id
"""
"""With a place for the person's number."""


def read_accounts(connection: Driver, profile_no: int, now: datetime) -> list[dict[str, Any]]:
    """Return the accounts of a person as of ``now``, with their role there when it is known."""
    return ask_accounts(connection, profile_no, now)()


def ask_accounts(
    connection: Driver, profile_no: int, now: datetime
) -> Callable[[], list[dict[str, Any]]]:
    """Send what ``read_accounts`` asks; return what waits for the answer."""
    statement = ACCOUNTS.format(person="%(person)s")
    rows = connection.execute(statement, {"person": profile_no, "now": now})
    return lambda: show_accounts(rows)


def show_accounts(rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return accounts as they are shown, from the rows of ``ACCOUNTS``."""
    return [{"account_id": account_id, "role": role} for account_id, role in rows]
