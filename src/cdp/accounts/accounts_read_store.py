"""Read accounts from Postgres: what is known of them, and their members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


_ACCOUNT = "SELECT account_no, account_id, created_at FROM accounts WHERE account_id = %s"
_PAGE = """
SELECT a.account_no, a.account_id, a.created_at FROM accounts a
 WHERE a.account_no > %(after)s
   AND (%(type)s::text IS NULL OR EXISTS (
        SELECT FROM account_facts f
         WHERE f.account_no = a.account_no AND f.kind = 'field' AND f.name = 'type'
           AND f.value #>> '{}' = %(type)s))
   AND NOT EXISTS (
        SELECT FROM unnest(%(names)s::text[], %(values)s::text[]) AS asked (name, value)
         WHERE NOT EXISTS (
               SELECT FROM account_facts f
                WHERE f.account_no = a.account_no AND f.kind = 'trait' AND f.name = asked.name
                  AND f.value #>> '{}' = asked.value AND f.at <= %(now)s))
   AND (%(q)s::text IS NULL OR starts_with(lower(a.account_id), lower(%(q)s::text))
        OR (%(by_name)s AND EXISTS (
            SELECT FROM account_facts f
             WHERE f.account_no = a.account_no AND f.kind = 'trait' AND f.name = 'name'
               AND starts_with(lower(f.value #>> '{}'), lower(%(q)s::text))
               AND f.at <= %(now)s)))
 ORDER BY a.account_no LIMIT %(limit)s
"""
# Of accounts that go round in a circle each counts once.
_DESCENDANTS = """
WITH RECURSIVE down AS (
    SELECT a.account_no, a.account_id, 0 AS depth FROM accounts a WHERE a.account_no = %(account)s
    UNION
    SELECT a.account_no, a.account_id, down.depth + 1
      FROM down
      JOIN account_facts f
        ON f.kind = 'field' AND f.name = 'parent' AND f.value #>> '{}' = down.account_id
       AND f.at <= %(now)s
      JOIN accounts a ON a.account_no = f.account_no
     WHERE down.depth < %(deepest)s AND a.account_no <> %(account)s)
SELECT DISTINCT account_no FROM down ORDER BY account_no
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
MEMBERS = """
WITH said AS (
    SELECT np.profile_no, m.account_no, m.fact, m.value #>> '{}' AS value, m.at,
           row_number() OVER (PARTITION BY np.profile_no, m.account_no, m.fact
                              ORDER BY m.at DESC, m.message_id COLLATE "C" DESC,
                                       m.source_number DESC, m.node_id) AS age
      FROM account_members m
      JOIN node_profiles np
        ON np.node_id = m.node_id AND m.at >= np.since AND m.at < np.until
     WHERE m.account_no = ANY(%(accounts)s::bigint[]) AND m.at <= %(now)s),
members AS (
    SELECT s.profile_no, max(s.value) FILTER (WHERE s.fact = 'role') AS role,
           max(s.at) FILTER (WHERE s.fact = 'member') AS since
      FROM said s WHERE s.age = 1
     GROUP BY s.profile_no, s.account_no
    HAVING bool_or(s.fact = 'member' AND s.value = 'true'))
"""
_MEMBER_PAGE = f"""{MEMBERS}
SELECT m.profile_no, p.profile_id, m.role, m.since
  FROM members m JOIN profiles p USING (profile_no)
 WHERE m.profile_no > %(after)s ORDER BY m.profile_no LIMIT %(limit)s
"""


def find_account(connection: Driver, account_id: str, now: datetime) -> Account | None:
    """Return an account as it stands at ``now``; ``None`` when nobody has named it."""
    row = connection.execute(_ACCOUNT, (account_id,)).fetchone()
    return None if row is None else _fill(connection, [Account(*row)], now)[0]


class Search(NamedTuple):
    """Which accounts are asked for; everything that is given holds."""

    type: str | None = None
    traits: Mapping[str, str] = {}
    """Values of traits as text: of numbers and booleans as JSON writes them."""
    q: str | None = None
    """How the id begins, or the name; case does not count."""
    by_name: bool = True
    """Whether ``q`` may look at names."""


def list_accounts(
    connection: Driver, now: datetime, *, after: int, limit: int, search: Search | None = None
) -> list[Account]:
    """Return accounts in the order in which they became known, past the number ``after``."""
    asked = search or Search()
    rows = connection.execute(
        _PAGE,
        {
            "after": after, "limit": limit, "now": now, "type": asked.type, "q": asked.q,
            "by_name": asked.by_name, "names": list(asked.traits),
            "values": list(asked.traits.values()),
        },
    )  # fmt: skip
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


def read_descendants(connection: Driver, account_no: int, now: datetime) -> list[int]:
    """Return the numbers of an account and of all that stand below it, each once."""
    rows = connection.execute(
        _DESCENDANTS, {"account": account_no, "now": now, "deepest": DEEPEST}
    ).fetchall()
    return [number for (number,) in rows]


def _only(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    return [account_id for (account_id,) in rows]


def read_members(
    connection: Driver, account_no: int, now: datetime, *, after: int, limit: int
) -> list[Member]:
    """Return the people who belong to an account, each once, past the profile ``after``."""
    rows = connection.execute(
        _MEMBER_PAGE, {"accounts": [account_no], "now": now, "after": after, "limit": limit}
    )
    return [Member(*row) for row in rows]
