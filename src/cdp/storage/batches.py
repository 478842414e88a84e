"""Batches: what one transaction changed, numbered in commit order, for those who follow along.

The worker, merges by hand and privacy deletion all write through here, so a follower that reads
``batches`` by ``seq`` never skips a late commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from cdp.storage.database import Driver

FEED_CHANNEL = "cdp_batches"

# One statement: from its lock to the commit all other workers wait.
_CLOSE = f"""
WITH head AS (UPDATE batch_head SET next_seq = next_seq + 1 RETURNING next_seq - 1 AS seq),
     written AS (
  INSERT INTO batches (seq, batch_id, received_until, positions, events, nodes, trait_nodes,
                       moved_nodes, profiles, orders, accounts, erased_nodes, left_profiles,
                       erased_profiles, merges, duplicates, rates)
  SELECT head.seq, %s, %s::timestamptz, %s, %s, %b::bigint[], %b::bigint[], %b::bigint[],
         %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::text[], %s,
         %b::bytea[], %s
    FROM head
  RETURNING seq)
SELECT seq, pg_notify('{FEED_CHANNEL}', '') FROM written
"""


@dataclass(slots=True)
class BatchChanges:
    """Keys of what a transaction changed. Sets, so that saying it twice does no harm."""

    nodes: set[int] = field(default_factory=set)
    """Nodes that are new or whose counters moved."""
    trait_nodes: set[int] = field(default_factory=set)
    """Nodes whose traits, consents or memberships of accounts changed."""
    moved_nodes: set[int] = field(default_factory=set)
    """Nodes whose profile changed."""
    profiles: set[int] = field(default_factory=set)
    """Profiles that were touched in any way, those that ceased to exist included."""
    orders: set[int] = field(default_factory=set)
    """Orders (``order_no``) that were reported on."""
    accounts: set[int] = field(default_factory=set)
    """Accounts (``account_no``) that are new or of which something else is true now."""
    erased_nodes: set[int] = field(default_factory=set)
    left_profiles: set[int] = field(default_factory=set)
    """Profiles that may go on without an identifier that was theirs."""
    erased_profiles: set[str] = field(default_factory=set)
    """Ids of profiles erased for privacy."""
    merges: list[dict[str, str]] = field(default_factory=list)
    """``{"from": profile id, "into": profile id}`` for each profile that another absorbed, or that

    came out of another.
    """


def open_batch(connection: Driver) -> int:
    """Return a fresh batch id for rows that this transaction writes."""
    row = connection.execute("SELECT nextval('batch_ids')").fetchone()
    assert row is not None
    return int(row[0])


def close_batch(
    connection: Driver,
    batch_id: int,
    changes: BatchChanges,
    *,
    events: int = 0,
    received_until: datetime | None = None,
    positions: Mapping[str, Mapping[int, int]] | None = None,
    duplicates: Sequence[bytes] = (),
    rates: bool = False,
) -> int:
    """Give the batch its place in commit order; return it. Must be the transaction's last write:

    it takes the lock that serialises commits. ``duplicates`` are keys of the ledger; ``rates`` says
    that rates of currencies changed.
    """
    document: dict[str, Any] = {
        log: {str(partition): offset for partition, offset in by_partition.items()}
        for log, by_partition in (positions or {}).items()
    }
    row = connection.execute(
        _CLOSE,
        (
            batch_id,
            received_until,
            Jsonb(document),
            events,
            sorted(changes.nodes),
            sorted(changes.trait_nodes),
            sorted(changes.moved_nodes),
            sorted(changes.profiles),
            sorted(changes.orders),
            sorted(changes.accounts),
            sorted(changes.erased_nodes),
            sorted(changes.left_profiles),
            sorted(changes.erased_profiles),
            Jsonb(changes.merges),
            list(duplicates),
            rates,
        ),
    ).fetchone()
    assert row is not None
    return int(row[0])
