"""What the archive looks like: folders, names, columns. Pure.

``docs/archive.md`` tells readers the same; a column may be added, none changes or goes.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pyarrow as pa

VERSION = 1
"""Of this layout, as the manifest says it."""
EVENTS = "events"
MANIFEST = "manifest.json"
NODE_PROFILES = "node_profiles.parquet"
ORDERS = "orders.parquet"

ROWS_IN_GROUP = 16_384
"""A person's events lie together, so that reading them reads one such group of a file."""
MOST_ROWS = 1_000_000
"""In one file: what a deletion has to write anew for one event."""

_TIME = pa.timestamp("us", "UTC")

SCHEMA = pa.schema(
    [
        ("message_id", pa.string()),
        ("source_id", pa.string()),
        ("node_id", pa.int64()),
        ("type", pa.string()),
        ("event", pa.string()),
        ("timestamp", _TIME),
        ("received_at", _TIME),
        ("properties", pa.string()),
        ("context", pa.string()),
        ("group_id", pa.string()),
        ("name", pa.string()),
        ("original_at", pa.string()),
        ("source_number", pa.int32()),
        ("link_id", pa.int64()),
        ("seq", pa.int64()),
        ("ordinal", pa.int32()),
    ]
)
"""Of the files of events."""
NODE_PROFILES_SCHEMA = pa.schema(
    [("node_id", pa.int64()), ("since", _TIME), ("until", _TIME), ("profile_id", pa.string())]
)
ORDERS_SCHEMA = pa.schema(
    [
        ("order_id", pa.string()),
        ("scope", pa.string()),
        ("node_id", pa.int64()),
        ("status", pa.string()),
        ("currency", pa.string()),
        ("total", pa.int64()),
        ("refunded", pa.int64()),
        ("net", pa.int64()),
        ("store", pa.string()),
        ("channel", pa.string()),
        ("placed_at", _TIME),
        ("updated_at", _TIME),
    ]
)


@dataclass(frozen=True, slots=True)
class Part:
    """One file of events, all received on one day."""

    path: str
    """Below the archive's root."""
    day: date
    rows: int
    bytes: int
    sha256: str
    first_node: int | None
    """The lowest node in it; ``None``: none of its events has a person."""
    last_node: int | None
    first_at: datetime
    """The earliest event time in it."""
    last_at: datetime


def name_part(day: date, number: int) -> str:
    """Return a path that no file ever had: what was read by its name never changes."""
    return f"{EVENTS}/date={day:%Y-%m-%d}/part-{number:05d}-{secrets.token_hex(6)}.parquet"


def number_of(path: str) -> int:
    """Return the number that ``name_part`` put into a path."""
    return int(path.rpartition("/part-")[2].partition("-")[0])


def begin_of(day: date) -> datetime:
    """Return the first moment of a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
