"""What has changed in Postgres since a batch, as Arrow tables read in one snapshot by ADBC.

The rows never become Python objects. A batch says which keys changed; what is read are the
current rows of those keys, so a row may be newer than its batch, never older.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
from sqlalchemy.engine import make_url

from cdp.analytics.archived_engine import CUTOFFS, DAYS

Positions = dict[str, dict[int, int]]

MOST_BATCHES = 1_000
_STATEMENT_TIMEOUT = "-c statement_timeout=120s -c idle_in_transaction_session_timeout=300s"

_BATCHES = """
SELECT seq, batch_id || '@' || extract(epoch FROM committed_at) AS batch, received_until,
       positions::text AS positions, events, cardinality(orders) AS orders,
       cardinality(accounts) AS accounts, rates, merges::text AS merges
  FROM batches WHERE seq > {after} ORDER BY seq LIMIT {limit}
"""
_KEYS = "SELECT DISTINCT unnest({columns}) AS key FROM batches WHERE seq > {after} AND seq <= {seq}"
_MOVED = "moved_nodes || erased_nodes"
# A profile that a moved node points at comes along, so that no event is without its person.
_PROFILE_KEYS = f"""
{_KEYS.replace("{columns}", "profiles")}
UNION SELECT m.profile_no FROM node_profiles m
 WHERE m.node_id IN ({_KEYS.replace("{columns}", "moved_nodes")})
"""

# A key without a row comes with nulls: the row is gone. Of an erased node everything is dropped;
# where only a part was, as on a shared device, the rest comes again. Who was erased from a shared
# device leaves a shadow, which is nobody.
_CHANGED = {
    "events": """
        SELECT b.seq, e.ordinal, e.node_id, e.source_number, e.message_id, e.type,
               CASE WHEN e.type IN ('page', 'screen') THEN e.type
                    WHEN e.type = 'track' THEN e.name END AS event,
               e.at, e.received_at, e.properties, e.context, e.group_id
          FROM batches b JOIN events e ON e.batch_id = b.batch_id
         WHERE b.seq > {after} AND b.seq <= {seq}
        UNION ALL
        SELECT b.seq, e.ordinal, e.node_id, e.source_number, e.message_id, e.type,
               CASE WHEN e.type IN ('page', 'screen') THEN e.type
                    WHEN e.type = 'track' THEN e.name END AS event,
               e.at, e.received_at, e.properties, e.context, e.group_id
          FROM events e JOIN batches b ON b.batch_id = e.batch_id
         WHERE b.seq <= {after} AND e.node_id IN (
               SELECT unnest(erased_nodes) FROM batches WHERE seq > {after} AND seq <= {seq})""",
    "erased": f"""{_KEYS.replace("{columns}", "erased_nodes")}""",
    "nodes": f"""
        SELECT k.key, n.node_id, n.type, n.value, n.variant, n.profile_id, n.first_seen,
               n.last_seen, n.events, n.source_numbers
          FROM ({_KEYS.replace("{columns}", "nodes || erased_nodes")}) k
          LEFT JOIN nodes n ON n.node_id = k.key""",
    "node_profiles": f"""
        SELECT k.key, m.node_id, nullif(m.since, '-infinity') AS since,
               nullif(m.until, 'infinity') AS until, m.profile_no
          FROM ({_KEYS.replace("{columns}", _MOVED)}) k
          LEFT JOIN node_profiles m ON m.node_id = k.key""",
    "profiles": f"""
        SELECT k.key, p.profile_no, p.profile_id, p.joined_at, p.version
          FROM ({_PROFILE_KEYS}) k
          LEFT JOIN profiles p ON p.profile_no = k.key
           AND NOT EXISTS (SELECT FROM node_profiles m JOIN nodes n ON n.node_id = m.node_id
                            WHERE m.profile_no = p.profile_no AND n.variant = 'erased')""",
    "node_traits": f"""
        SELECT k.key, t.node_id, t.name, t.value, t.at, t.message_id, t.source_number, t.part,
               coalesce((s.settings ->> 'trait_rank')::int, 0) AS rank
          FROM ({_KEYS.replace("{columns}", "trait_nodes || erased_nodes")}) k
          LEFT JOIN traits t ON t.node_id = k.key
          LEFT JOIN sources s ON s.number = t.source_number""",
    "node_consents": f"""
        SELECT k.key, c.node_id, c.purpose, c.granted, c.at, c.message_id, c.source_number
          FROM ({_KEYS.replace("{columns}", "trait_nodes || erased_nodes")}) k
          LEFT JOIN consents c ON c.node_id = k.key""",
    "orders": f"""
        SELECT k.key, o.order_no, o.scope, o.order_id, o.node_id, o.status, o.currency, o.total,
               o.refunded, o.total - o.refunded AS net, o.store, o.channel, o.placed_at,
               o.updated_at, o.document
          FROM ({_KEYS.replace("{columns}", "orders")}) k
          LEFT JOIN orders o ON o.order_no = k.key""",
    "accounts": f"""
        SELECT k.key, a.account_no, a.account_id
          FROM ({_KEYS.replace("{columns}", "accounts")}) k
          LEFT JOIN accounts a ON a.account_no = k.key""",
    "account_facts": f"""
        SELECT k.key, f.account_no, f.kind, f.name, f.value, f.at, f.message_id, f.source_number
          FROM ({_KEYS.replace("{columns}", "accounts")}) k
          LEFT JOIN account_facts f ON f.account_no = k.key""",
    "account_members": f"""
        SELECT k.key, m.account_no, m.node_id, m.fact, m.value, m.at, m.message_id,
               m.source_number
          FROM ({_KEYS.replace("{columns}", "trait_nodes || erased_nodes")}) k
          LEFT JOIN account_members m ON m.node_id = k.key""",
}
# An order touches everybody whom any report of it named: its buyer may have changed. An account
# touches everybody who was ever said to belong to it.
_TOUCHED = f"""
{_KEYS.replace("{columns}", "profiles")}
UNION SELECT m.profile_no
  FROM orders o
  JOIN order_reports r ON r.scope = o.scope AND r.order_id = o.order_id
  JOIN node_profiles m ON m.node_id = r.node_id
 WHERE o.order_no IN ({_KEYS.replace("{columns}", "orders")})
UNION SELECT np.profile_no
  FROM account_members m
  JOIN node_profiles np ON np.node_id = m.node_id
 WHERE m.account_no IN ({_KEYS.replace("{columns}", "accounts")})
"""
# Small and rarely changed: read whole every time.
_SMALL = {
    "sources": """SELECT number AS source_number, source_id, name, type,
                         coalesce((settings ->> 'trait_rank')::int, 0) AS trait_rank,
                         coalesce((settings ->> 'session_minutes')::int, 30) AS session_minutes
                    FROM sources ORDER BY 1""",
    "trait_settings": "SELECT name, personal FROM trait_settings ORDER BY name",
    "segments": """SELECT key, name, description, version, created_at, updated_at
                     FROM segments ORDER BY key""",
}
# Read whole when it changed.
_RATES = """
SELECT currency, to_currency AS "to", at, rate::text AS rate,
       (rate * 10::numeric ^ scale(trim_scale(rate)))::bigint AS above,
       (10::numeric ^ scale(trim_scale(rate)))::bigint AS below
  FROM rates ORDER BY 1, 2, 3
"""
_POSITIONS = "SELECT log, partition, next_offset FROM positions"


class DatabaseAway(Exception):
    """Postgres does not answer, or not as it should; try again later."""


@dataclass(slots=True)
class Changes:
    """The changes of the batches after ``after`` up to ``seq``; of none when these are equal."""

    after: int
    seq: int
    batch: str | None = None
    batches: int = 0
    events: int = 0
    received_until: datetime | None = None
    positions: Positions = field(default_factory=dict)
    merges: list[dict[str, str]] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    is_head: bool = False
    """Whether nothing was committed after ``seq`` when they were read."""
    changed: dict[str, pa.Table] = field(default_factory=dict)
    """By table of ``core``: the keys that changed and their current rows."""
    small: dict[str, pa.Table] = field(default_factory=dict)
    """By table of ``core``: all its rows."""
    archived: pa.Table | None = None
    """The days that Postgres no longer held when they were read."""
    cutoffs: pa.Table | None = None
    """Up to when events had been removed because their time was over."""


class ChangesStore:
    """A connection for reading changes. For one thread at a time."""

    def __init__(self, libpq_url: str) -> None:
        url = make_url(libpq_url).update_query_dict(
            {
                "application_name": "cdp-feed",
                "connect_timeout": "5",
                "options": _STATEMENT_TIMEOUT,
            }
        )
        base, _, query = url.render_as_string(hide_password=False).partition("?")
        # libpq reads a plus sign as a plus sign.
        self._url = f"{base}?{query.replace('+', '%20')}"
        self._connection: Any = None

    def find_batch(self, seq: int) -> str | None:
        """Return what tells batch ``seq`` from one of another history; ``None``: there is none.

        Raises ``DatabaseAway``, as every method here.
        """
        rows = self._run([_BATCHES.format(after=seq - 1, limit=1)])[0].to_pylist()
        return rows[0]["batch"] if rows and rows[0]["seq"] == seq else None

    def read(self, after: int, most_events: int) -> Changes:
        """Return the changes after batch ``after``: one batch at least, ``most_events`` at most

        unless a single batch has more.
        """
        try:
            with self._open().cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                changes = _read(cursor, after, most_events)
                cursor.execute("COMMIT")
                return changes
        except adbc_driver_manager.Error as error:
            self.close()
            raise DatabaseAway(_first_line(error)) from error

    def close(self) -> None:
        """Let go of the connection; the next read opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(adbc_driver_manager.Error, RuntimeError):
                connection.close()

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = adbc.connect(self._url, autocommit=True)
        return self._connection

    def _run(self, statements: Sequence[str]) -> list[pa.Table]:
        try:
            with self._open().cursor() as cursor:
                return [_fetch(cursor, statement) for statement in statements]
        except adbc_driver_manager.Error as error:
            self.close()
            raise DatabaseAway(_first_line(error)) from error


def _read(cursor: Any, after: int, most_events: int) -> Changes:
    rows = _fetch(cursor, _BATCHES.format(after=after, limit=MOST_BATCHES)).to_pylist()
    taken = take_batches(rows, most_events)
    changes = Changes(after, after, is_head=len(taken) == len(rows) < MOST_BATCHES)
    for row in taken:
        _add_batch(changes, row)
    if taken:
        span = {"after": after, "seq": changes.seq}
        for table, query in _CHANGED.items():
            changes.changed[table] = _fetch(cursor, query.format(**span))
        touched = _fetch(cursor, _TOUCHED.format(**span))
        changes.touched = set(touched["key"].to_pylist())
    for table, query in _SMALL.items():
        changes.small[table] = _fetch(cursor, query)
    changes.archived, changes.cutoffs = _fetch(cursor, DAYS), _fetch(cursor, CUTOFFS)
    if after == 0 or any(row["rates"] for row in taken):
        changes.small["rates"] = _fetch(cursor, _RATES)
    if changes.is_head:
        # Positions also move without a batch of their own.
        for row in _fetch(cursor, _POSITIONS).to_pylist():
            merge_positions(changes.positions, {row["log"]: {row["partition"]: row["next_offset"]}})
    return changes


def take_batches(rows: Sequence[Mapping[str, Any]], most_events: int) -> list[Mapping[str, Any]]:
    """Return the first of ``rows`` that have ``most_events`` together; one at least.

    An order or an account weighs as much as an event.
    """
    taken: list[Mapping[str, Any]] = []
    weight = 0
    for row in rows:
        weight += row["events"] + row["orders"] + row["accounts"]
        if taken and weight > most_events:
            break
        taken.append(row)
    return taken


def merge_positions(into: Positions, moves: Mapping[str, Mapping[Any, int]]) -> None:
    """Move the positions of ``into`` forward to those of ``moves``; they never move back."""
    for log, by_partition in moves.items():
        known = into.setdefault(log, {})
        for partition, offset in by_partition.items():
            known[int(partition)] = max(offset, known.get(int(partition), 0))


def _add_batch(changes: Changes, row: Mapping[str, Any]) -> None:
    changes.seq, changes.batch = row["seq"], row["batch"]
    changes.batches += 1
    changes.events += row["events"]
    times = [time for time in (changes.received_until, row["received_until"]) if time is not None]
    changes.received_until = max(times, default=None)
    merge_positions(changes.positions, json.loads(row["positions"]))
    changes.merges.extend(json.loads(row["merges"]))


def _fetch(cursor: Any, statement: str) -> pa.Table:
    cursor.execute(statement)
    return cursor.fetch_arrow_table()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
