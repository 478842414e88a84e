"""Read accounts from Postgres: what is known of them, their members, what these come to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from cdp.accounts.account import PARENT, TYPE
from cdp.storage.database import Driver

_decode = msgspec.json.decode

DEEPEST = 32
"""Levels of parents that are followed."""


@dataclass(slots=True)
class Account:
    """An account as all that was said of it until a moment."""

    account_no: int
    account_id: str
    created_at: datetime
    fields: dict[str, Any] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)
    updated_at: datetime | None = None
    """Time of the newest thing said of it."""

    @property
    def type(self) -> str | None:
        return self.fields.get(TYPE)

    @property
    def parent(self) -> str | None:
        return self.fields.get(PARENT)


class Member(NamedTuple):
    """A person who belongs to an account."""

    profile_no: int
    profile_id: str
    role: str | None
    since: datetime
    """When it was last said that they belong to it."""


class Revenue(NamedTuple):
    """What the members' orders in one currency come to; ``net`` is in its minor units."""

    currency: str
    orders_with_net: int
    net: int


class Figures(NamedTuple):
    """What the members of an account come to, each counted once."""

    members: int
    events: int
    revenue: Sequence[Revenue]


_ACCOUNT = "SELECT account_no, account_id, created_at FROM accounts WHERE account_id = %s"
_PAGE = """
SELECT a.account_no, a.account_id, a.created_at FROM accounts a
 WHERE a.account_no > %(after)s
   AND (%(type)s::text IS NULL OR EXISTS (
        SELECT FROM account_facts f
         WHERE f.account_no = a.account_no AND f.kind = 'field' AND f.name = 'type'
           AND f.value #>> '{}' = %(type)s))
 ORDER BY a.account_no LIMIT %(limit)s
"""
_FACTS = """
SELECT account_no, kind, name, value::text, at FROM account_facts
 WHERE account_no = ANY(%(accounts)s::bigint[]) AND at <= %(now)s ORDER BY kind, name
"""
# A parent that leads back ends the line: where accounts go round in a circle, each has the others.
_ANCESTORS = """
WITH RECURSIVE up AS (
    SELECT a.account_no, a.account_id, ARRAY[a.account_no] AS path FROM accounts a
     WHERE a.account_no = %(account)s
    UNION ALL
    SELECT p.account_no, p.account_id, up.path || p.account_no
      FROM up
      JOIN account_facts f
        ON f.account_no = up.account_no AND f.kind = 'field' AND f.name = 'parent'
       AND f.at <= %(now)s
      JOIN accounts p ON p.account_id = f.value #>> '{}'
     WHERE p.account_no <> ALL(up.path) AND cardinality(up.path) <= %(deepest)s)
SELECT account_id FROM up WHERE cardinality(path) > 1 ORDER BY cardinality(path)
"""
_CHILDREN = """
SELECT a.account_id FROM account_facts f JOIN accounts a USING (account_no)
 WHERE f.kind = 'field' AND f.name = 'parent' AND f.value #>> '{}' = %(account_id)s
   AND f.at <= %(now)s
 ORDER BY a.account_no LIMIT 1000
"""
# Whichever of a person's identifiers was named last decides, also about the role.
_MEMBERS = """
WITH said AS (
    SELECT np.profile_no, m.fact, m.value #>> '{}' AS value, m.at,
           row_number() OVER (PARTITION BY np.profile_no, m.fact
                              ORDER BY m.at DESC, m.message_id COLLATE "C" DESC,
                                       m.source_number DESC, m.node_id) AS age
      FROM account_members m
      JOIN node_profiles np
        ON np.node_id = m.node_id AND m.at >= np.since AND m.at < np.until
     WHERE m.account_no = %(account)s AND m.at <= %(now)s),
members AS (
    SELECT s.profile_no, max(s.value) FILTER (WHERE s.fact = 'role') AS role,
           max(s.at) FILTER (WHERE s.fact = 'member') AS since
      FROM said s WHERE s.age = 1
     GROUP BY s.profile_no
    HAVING bool_or(s.fact = 'member' AND s.value = 'true'))
"""
_MEMBER_PAGE = f"""{_MEMBERS}
SELECT m.profile_no, p.profile_id, m.role, m.since
  FROM members m JOIN profiles p USING (profile_no)
 WHERE m.profile_no > %(after)s ORDER BY m.profile_no LIMIT %(limit)s
"""
# Counters count for whoever holds a node for all time; a slice of a shared one is counted.
_COUNTS = f"""{_MEMBERS}
SELECT (SELECT count(*) FROM members),
       coalesce(sum(CASE WHEN np.since = '-infinity' AND np.until = 'infinity' THEN n.events
                         ELSE (SELECT count(*) FROM events e
                                WHERE e.node_id = np.node_id
                                  AND e.at >= np.since AND e.at < np.until) END), 0)::bigint
  FROM members m
  JOIN node_profiles np ON np.profile_no = m.profile_no
  JOIN nodes n ON n.node_id = np.node_id
"""
_REVENUE = f"""{_MEMBERS}
SELECT o.currency, count(*) FILTER (WHERE o.total > o.refunded),
       sum(o.total - o.refunded)::bigint
  FROM members m
  JOIN node_profiles np ON np.profile_no = m.profile_no
  JOIN orders o ON o.node_id = np.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
 GROUP BY o.currency ORDER BY o.currency
"""


def find_account(connection: Driver, account_id: str, now: datetime) -> Account | None:
    """Return an account as it stands at ``now``; ``None`` when nobody has named it."""
    row = connection.execute(_ACCOUNT, (account_id,)).fetchone()
    return None if row is None else _fill(connection, [Account(*row)], now)[0]


def list_accounts(
    connection: Driver, now: datetime, *, after: int, limit: int, type: str | None = None
) -> list[Account]:
    """Return accounts in the order in which they became known, past the number ``after``."""
    rows = connection.execute(_PAGE, {"after": after, "limit": limit, "type": type})
    return _fill(connection, [Account(*row) for row in rows.fetchall()], now)


def _fill(connection: Driver, accounts: list[Account], now: datetime) -> list[Account]:
    by_number = {account.account_no: account for account in accounts}
    rows = connection.execute(_FACTS, {"accounts": list(by_number), "now": now})
    for number, kind, name, text, at in rows:
        account = by_number[number]
        account.updated_at = max(at, account.updated_at or at)
        value = _decode(text)
        if value is not None:
            (account.fields if kind == "field" else account.traits)[name] = value
    return accounts


def read_relatives(
    connection: Driver, account: Account, now: datetime
) -> tuple[list[str], list[str]]:
    """Return the ids of the accounts above it, nearest first, and of up to 1,000 right below."""
    above = connection.execute(
        _ANCESTORS, {"account": account.account_no, "now": now, "deepest": DEEPEST}
    ).fetchall()
    below = connection.execute(_CHILDREN, {"account_id": account.account_id, "now": now}).fetchall()
    return _only(above), _only(below)


def _only(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    return [account_id for (account_id,) in rows]


def read_members(
    connection: Driver, account_no: int, now: datetime, *, after: int, limit: int
) -> list[Member]:
    """Return the people who belong to an account, each once, past the profile ``after``."""
    rows = connection.execute(
        _MEMBER_PAGE, {"account": account_no, "now": now, "after": after, "limit": limit}
    )
    return [Member(*row) for row in rows]


def read_figures(connection: Driver, account_no: int, now: datetime) -> Figures:
    """Return what the members of an account come to."""
    parameters = {"account": account_no, "now": now}
    row = connection.execute(_COUNTS, parameters).fetchone()
    assert row is not None
    revenue = connection.execute(_REVENUE, parameters).fetchall()
    return Figures(row[0], row[1], [Revenue(*each) for each in revenue])
