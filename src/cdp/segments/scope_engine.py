"""The facts of a few people, copied once so that many rules can look at them.

DuckDB has no index: to find a hundred people's events it reads the column of all events' owners.
That is done once a refresh, not once a rule, so that what a rule costs does not grow with the
number of people. The copies are called as their tables, ``scope_events`` for ``core.events``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cdp.segments.mirror_engine import Duck

# More people than this are looked up where they are: a copy of theirs would be as large.
MOST_COPIED = 10_000

_BY_PROFILE = "SELECT * FROM core.{table} SEMI JOIN pool USING (profile_no)"
_BY_NODE = "SELECT {columns} FROM core.{table} SEMI JOIN scope_node_profiles USING (node_id)"
_OF_PROFILES = ("node_profiles", "profiles", "tag_values")
_OF_NODES = ("nodes", "node_traits", "node_consents", "account_members", "orders")
# Whose they are is looked up here, once for all rules.
_EVENTS = """
SELECT o.profile_no, e.source_id, e.message_id, e.event, e."at", e.properties
  FROM core.events e JOIN scope_node_profiles o
    ON e.node_id = o.node_id AND e."at" >= o.since AND e."at" < o.until
 WHERE e.event IS NOT NULL
"""
# What a rule at that moment sees. Nearly always there is one whole value, which stands for itself.
_TRAIT_VALUES = """
WITH owned AS MATERIALIZED (
    SELECT o.profile_no, t.name, t.value, t.part, t.rank, t."at", t.message_id, t.source_number
      FROM scope_node_traits t JOIN scope_node_profiles o
        ON t.node_id = o.node_id AND t."at" >= o.since AND t."at" < o.until
     WHERE t."at" <= $now),
said AS MATERIALIZED (
    SELECT profile_no, name, any_value(value) AS value,
           count(*) = 1 AND coalesce(NOT bool_or(core.is_parted(part, value)), false) AS is_whole
      FROM owned GROUP BY profile_no, name)
SELECT profile_no, name, value FROM said WHERE is_whole
UNION ALL
SELECT o.profile_no, o.name,
       core.trait_value(o.value, o.part, o.rank, o."at", o.message_id, o.source_number)
  FROM owned o JOIN said s ON s.profile_no = o.profile_no AND s.name = o.name
 WHERE NOT s.is_whole GROUP BY o.profile_no, o.name
"""
# A text costs much to fetch from where it lies, and most are known from the profiles.
_MEMBERSHIPS = """
SELECT m.segment, m.profile_no, p.profile_id, NULL::TIMESTAMPTZ AS entered_at,
       NULL::INTEGER AS version, m.rowid AS held_row
  FROM core.memberships m JOIN scope_profiles p ON p.profile_no = m.profile_no
UNION ALL
SELECT segment, profile_no, profile_id, NULL, NULL, rowid
  FROM core.memberships SEMI JOIN scope_gone USING (profile_no)
"""
_COPIES = {
    **{table: _BY_PROFILE.format(table=table) for table in _OF_PROFILES},
    **{table: _BY_NODE.format(table=table, columns="*") for table in _OF_NODES},
    "events": _EVENTS,
    "trait_values": _TRAIT_VALUES,
    "memberships": _MEMBERSHIPS,
    "order_lines": "SELECT * FROM core.order_lines SEMI JOIN scope_orders USING (order_no)",
}
_NEEDED = {
    **dict.fromkeys((*_OF_NODES, "events"), ("node_profiles",)),
    "order_lines": ("node_profiles", "orders"),
    "trait_values": ("node_profiles", "node_traits"),
}
# Who is no more: absorbed by whoever holds the node that named them, or erased.
_GONE = """
CREATE OR REPLACE TEMP TABLE scope_gone AS
SELECT g.profile_no, if(bool_or(heir.profile_no IS NOT NULL), 'merge', 'privacy') AS cause
  FROM (SELECT profile_no FROM pool ANTI JOIN scope_profiles USING (profile_no)) g
  LEFT JOIN core.node_profiles m ON m.node_id = g.profile_no AND m.since = '-infinity'
  LEFT JOIN core.profiles heir ON heir.profile_no = m.profile_no
 GROUP BY g.profile_no
"""


class CopiedFacts:
    """Copies of the facts of the people in ``pool``, made when they are first asked for."""

    def __init__(self, duck: Duck, now: datetime) -> None:
        """``duck`` is a cursor inside a transaction that sees nobody else's changes; rules are

        asked at ``now``.
        """
        self._duck = duck
        self._params = {"trait_values": {"now": now}}
        self._copied: set[str] = set()
        self.size = 0
        """Of how many people there are copies."""

    def cover(self, scope_size: int, *, among: str) -> bool:
        """Let the copies be of everybody in ``scope`` at least; return whether they are few enough.

        ``among`` selects the people who will be asked about next.
        """
        if scope_size > MOST_COPIED:
            return False
        if self.has_scope():
            return True
        source = f"SELECT profile_no FROM scope UNION {among}"
        if self._count(f"({source})") > MOST_COPIED:
            source = "SELECT profile_no FROM scope"
        self._duck.execute(f"CREATE OR REPLACE TEMP TABLE pool AS {source}")
        self.size = self._count("pool")
        self._copied.clear()
        self.copy(("node_profiles", "profiles"))
        self._duck.execute(_GONE)
        return True

    def has_scope(self) -> bool:
        """Whether there are copies, of everybody in ``scope`` at least."""
        is_outside = "scope ANTI JOIN pool USING (profile_no)"
        return bool(self._copied) and not self._count(is_outside)

    def copy(self, tables: Iterable[str]) -> None:
        """Make the copies of ``tables`` that are not there yet."""
        for table in tables:
            if table in self._copied:
                continue
            self.copy(_NEEDED.get(table, ()))
            self._duck.execute(
                f"CREATE OR REPLACE TEMP TABLE scope_{table} AS {_COPIES[table]}",
                self._params.get(table),
            )
            self._copied.add(table)

    def forget(self, *tables: str) -> None:
        """Copy ``tables`` anew when they are next asked for: the originals have changed."""
        self._copied.difference_update(tables)

    def _count(self, relation: str) -> int:
        row: Any = self._duck.execute(f"SELECT count(*) FROM {relation}").fetchone()
        return int(row[0])
