"""Pack the ledger: rows of some 85 bytes become pages of some 19 bytes a message.

    rows + pages, in order of their keys ─► slice by slice: merge, forget what is old ─► pages

A slice is one transaction that moves its rows, writes its pages anew and says how far it came, so a
packer may die anywhere and the next one goes on. A key lies in the page with the greatest
``first_key`` that is not greater: pages never overlap, and a slice cuts a page where it ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from cdp.storage.database import Database, Driver, driver

PAGE_KEYS = 108
"""The most that Postgres keeps in a row of its own, four rows to a block, without a TOAST table."""
ENOUGH_ROWS = 200_000
"""Fewer wait for their day, whatever their share."""
_EVERY = timedelta(days=2)
# A fifth: rows for a sixth of the messages take as much room as pages for the rest. More often, and
# each message would be written anew more often.
_SHARE = 5
_FIRST_DAY = date(2020, 1, 1)
_LOWEST = UUID(int=0)
_STATE = "ledger_packing"
_PACKER_LOCK = 7263547

# Nobody claims meanwhile: whoever does would look for a key in neither of its two places.
_LOCK = "LOCK TABLE ledger IN SHARE ROW EXCLUSIVE MODE"
# The first key behind a slice: whichever bound is reached first; none when all the rest fits.
_END = """
SELECT least(
    (SELECT first_key FROM ledger_pages WHERE first_key >= %(start)s
      ORDER BY first_key OFFSET %(pages)s LIMIT 1),
    (SELECT message_key FROM ledger WHERE message_key >= %(start)s
      ORDER BY message_key OFFSET %(rows)s LIMIT 1))
"""
_MERGE = """
WITH moved AS (
    DELETE FROM ledger
     WHERE message_key >= %(start)s AND (%(end)s::uuid IS NULL OR message_key < %(end)s)
    RETURNING message_key),
old AS (
    DELETE FROM ledger_pages
     WHERE first_key >= %(start)s AND (%(end)s::uuid IS NULL OR first_key < %(end)s)
    RETURNING keys, days),
merged AS (
    SELECT message_key AS key, %(today)s::smallint AS day FROM moved
     UNION ALL
    SELECT one.key, one.day FROM old, unnest(old.keys, old.days) AS one (key, day)
     WHERE one.day >= %(oldest)s),
placed AS (
    SELECT key, day, coalesce(key >= %(end)s::uuid, false) AS is_behind,
           (row_number() OVER (ORDER BY key) - 1) / %(page_keys)s AS number
      FROM merged)
INSERT INTO ledger_pages (first_key, keys, days)
SELECT (array_agg(key ORDER BY key))[1], array_agg(key ORDER BY key), array_agg(day ORDER BY key)
  FROM placed GROUP BY is_behind, number ORDER BY 1
"""


class SliceSize(NamedTuple):
    """What one transaction takes at most, while claims wait: about a tenth of a second."""

    pages: int = 400
    rows: int = 20_000


_SLICE = SliceSize()


class _State(NamedTuple):
    """Where a pass through all keys has come to. ``next_key`` is none between passes."""

    next_key: UUID | None
    packed_on: date | None


def pack_ledger(
    database: Database,
    today: date,
    *,
    keep_days: int,
    wait: Callable[[float], bool] = lambda _: False,
    size: SliceSize = _SLICE,
) -> int:
    """Pack what has gathered, when it is time; return how many slices were worked off.

    It is time every other day, when there are a fifth as many rows as messages in pages, and when
    a pass was broken off. What was claimed more than ``keep_days`` before ``today`` is forgotten.
    ``wait`` is called with seconds between slices, so that claims get their turn; when it returns
    true, packing ends and goes on at the next call. Does nothing while another process packs.
    """
    with database.engine.connect() as connection:
        # Held by the session, over all its transactions.
        if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_PACKER_LOCK})").scalar():
            return 0
        connection.commit()
        try:
            return _pack(database, today, keep_days, wait, size)
        finally:
            connection.rollback()
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_PACKER_LOCK})")
            connection.commit()


def _pack(
    database: Database, today: date, keep_days: int, wait: Callable[[float], bool], size: SliceSize
) -> int:
    with database.transaction() as connection:
        state = _read_state(driver(connection))
        if not _is_time(driver(connection), state, today):
            return 0
    start = state.next_key or _LOWEST
    slices = 0
    while True:
        with database.transaction() as connection:
            end = pack_slice(driver(connection), start, today, keep_days=keep_days, size=size)
        slices += 1
        # Otherwise the pages written anew and those before them would both take room.
        if end is None or end.int >> 125 != start.int >> 125:
            _vacuum(database)
        if end is None or wait(0.1):
            return slices
        start = end


def pack_slice(
    connection: Driver, start: UUID, today: date, *, keep_days: int, size: SliceSize = _SLICE
) -> UUID | None:
    """Pack the keys from ``start`` on in the caller's transaction; return where the next slice

    starts, ``None`` at the end. Claims wait until the transaction ends.
    """
    # Who wants to claim queues up behind a packer that waits.
    connection.execute("SET LOCAL lock_timeout = '5s'")
    connection.execute(_LOCK)
    bounds = {"start": start, "pages": size.pages, "rows": size.rows}
    row = connection.execute(_END, bounds).fetchone()
    end: UUID | None = row[0] if row else None
    number = (today - _FIRST_DAY).days
    connection.execute(
        _MERGE,
        {
            "start": start,
            "end": end,
            "today": number,
            "oldest": number - keep_days,
            "page_keys": PAGE_KEYS,
        },
    )
    _write_state(connection, _State(end, today))
    return end


def _is_time(connection: Driver, state: _State, today: date) -> bool:
    if state.next_key is not None:
        return True
    if state.packed_on is None or state.packed_on <= today - _EVERY:
        return _has(connection, "ledger") or _has(connection, "ledger_pages")
    row = connection.execute("SELECT count(*) FROM ledger_pages").fetchone()
    assert row is not None
    enough = max(ENOUGH_ROWS, row[0] * PAGE_KEYS // _SHARE)
    found = connection.execute("SELECT FROM ledger OFFSET %s LIMIT 1", (enough,)).fetchone()
    return found is not None


def _has(connection: Driver, table: str) -> bool:
    return connection.execute(f"SELECT FROM {table} LIMIT 1").fetchone() is not None


def _read_state(connection: Driver) -> _State:
    row = connection.execute("SELECT value FROM workspace WHERE name = %s", (_STATE,)).fetchone()
    value: dict[str, Any] = row[0] if row else {}
    next_key, packed_on = value.get("next_key"), value.get("packed_on")
    return _State(
        UUID(next_key) if next_key else None, date.fromisoformat(packed_on) if packed_on else None
    )


def _write_state(connection: Driver, state: _State) -> None:
    value = {
        "next_key": str(state.next_key) if state.next_key else None,
        "packed_on": state.packed_on.isoformat() if state.packed_on else None,
    }
    connection.execute(
        """INSERT INTO workspace (name, value) VALUES (%s, %s::jsonb)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
        (_STATE, json.dumps(value)),
    )


def _vacuum(database: Database) -> None:
    autocommit = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        # However large the pages have become.
        connection.exec_driver_sql("SET statement_timeout = 0")
        try:
            connection.exec_driver_sql("VACUUM ledger, ledger_pages")
        finally:
            connection.exec_driver_sql("RESET statement_timeout")
