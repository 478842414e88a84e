"""A day's events in Postgres, as they are archived: one stream in the order of the files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import pyarrow as pa

from cdp.archive.layout import NODE_PROFILES_SCHEMA, ORDERS_SCHEMA, SCHEMA
from cdp.storage.arrow_reading import ArrowSnapshot, open_arrow_snapshot

_NAME = "cdp-archive"
HEAD = "SELECT coalesce((SELECT next_seq - 1 FROM batch_head), 0)"
# The order makes a person's events lie together, and is the same whenever a day is read.
_ROWS = """
SELECT e.message_id, s.source_id, e.node_id, e.type,
       CASE WHEN e.type IN ('page', 'screen') THEN e.type
            WHEN e.type = 'track' THEN e.name END AS event,
       e.at AS "timestamp", e.received_at, e.properties::text AS properties,
       e.context::text AS context, e.group_id, e.name, e.original_at, e.source_number, e.link_id,
       b.seq, e.ordinal
  FROM events_{day:%Y%m%d} e
  JOIN batches b ON b.batch_id = e.batch_id
  LEFT JOIN sources s ON s.number = e.source_number
 ORDER BY e.node_id NULLS LAST, e.at, b.seq, e.ordinal
"""
_NODE_PROFILES = """
SELECT m.node_id, nullif(m.since, '-infinity') AS since, nullif(m.until, 'infinity') AS until,
       p.profile_id
  FROM node_profiles m JOIN profiles p ON p.profile_no = m.profile_no
 WHERE NOT EXISTS (SELECT FROM node_profiles o JOIN nodes n ON n.node_id = o.node_id
                    WHERE o.profile_no = m.profile_no AND n.variant = 'erased')
 ORDER BY m.node_id, m.since
"""
_ORDERS = """
SELECT order_id, scope, node_id, status, currency, total, refunded, total - refunded AS net,
       store, channel, placed_at, updated_at
  FROM orders ORDER BY order_no
"""


@contextmanager
def read_day(libpq_url: str, day: date) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
    """Give the newest batch of a moment, and the day's rows of that moment."""
    with open_arrow_snapshot(libpq_url, _NAME) as snapshot:
        seq = snapshot.read_number(HEAD)
        yield seq, _cast(snapshot, _ROWS.format(day=day), SCHEMA)


@contextmanager
def read_maps(
    libpq_url: str,
) -> Iterator[tuple[int, Iterator[pa.RecordBatch], Iterator[pa.RecordBatch]]]:
    """Give the newest batch of a moment, which node is whose, and all orders; in this order."""
    with open_arrow_snapshot(libpq_url, _NAME) as snapshot:
        seq = snapshot.read_number(HEAD)
        yield (
            seq,
            _cast(snapshot, _NODE_PROFILES, NODE_PROFILES_SCHEMA),
            _cast(snapshot, _ORDERS, ORDERS_SCHEMA),
        )


def _cast(snapshot: ArrowSnapshot, sql: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in snapshot.read(sql):
        yield pa.RecordBatch.from_arrays(
            [batch.column(place).cast(field.type) for place, field in enumerate(schema)],
            schema=schema,
        )
