"""Changes from Postgres go into DuckDB: one transaction, with the position in it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import duckdb

from cdp.analytics import catalogue
from cdp.analytics.archived_engine import create_archive_tables
from cdp.analytics.changes_store import Changes, Positions
from cdp.analytics.event_views import KINDS_SQL
from cdp.analytics.typed_engine import add_incoming, delete_events
from cdp.storage.registered_engine import registered

Duck = duckdb.DuckDBPyConnection

_EVENTS = """
INSERT INTO core.events
SELECT i.seq, i.ordinal, i.node_id, s.source_id, i.message_id, i.type, i.event, i."at",
       i.received_at, i.properties, i.context, i.group_id
  FROM incoming i LEFT JOIN core.sources s ON s.source_number = i.source_number
"""
# Of a device that others go on using, Postgres gives back what is left, except for days that it no
# longer holds: these are read again when the archive is without the person.
_ERASE = """
DELETE FROM core.events e
 WHERE node_id IN (SELECT key FROM incoming)
   AND NOT (EXISTS (SELECT 1 FROM core.archived_days d
                     WHERE e.received_at >= d."begin"
                       AND e.received_at < d."begin" + INTERVAL 1 DAY)
            AND node_id IN (SELECT node_id FROM core.nodes WHERE variant <> 'erased'))
"""
_LET_COME_AGAIN = """
DELETE FROM core.events e USING incoming i WHERE e.seq = i.seq AND e.ordinal = i.ordinal
"""
# Events of one shape are told apart by their keys and types, which is far cheaper than to take
# every event apart; and by a hash of these, since to compare lists costs as much as to make them.
_PROPERTIES = f"""
WITH shapes AS (
    SELECT event, json_keys(sample) AS names, json_type(sample, '$.*') AS types
      FROM (SELECT event, any_value(properties) AS sample FROM incoming WHERE event IS NOT NULL
             GROUP BY event, hash(json_keys(properties), json_type(properties, '$.*')))),
parts AS (SELECT event, unnest(names) AS name, unnest(types) AS type FROM shapes)
SELECT event, name, bit_or({KINDS_SQL.format(type="type")})::INTEGER AS kinds
  FROM parts WHERE name IS NOT NULL GROUP BY ALL
UNION ALL
SELECT DISTINCT event, '', 0 FROM shapes
UNION ALL
SELECT DISTINCT NULL, NULL, 0 FROM shapes WHERE len(names) > len(list_distinct(names))
"""
_DOUBLED = """
SELECT seq, ordinal, properties FROM incoming
 WHERE len(json_keys(properties)) > len(list_distinct(json_keys(properties)))
"""
_SETTLE = """
UPDATE core.events AS e SET properties = i.properties
  FROM (SELECT unnest($seqs) AS seq, unnest($ordinals) AS ordinal,
               unnest($properties) AS properties) AS i
 WHERE e.seq = i.seq AND e.ordinal = i.ordinal
"""
# By table: the key column, and what is read for each column that cannot be taken as it is.
_KEYED = {
    "nodes": ("node_id", {}),
    "node_profiles": (
        "node_id",
        {
            "since": "coalesce(since, '-infinity'::TIMESTAMPTZ)",
            "until": "coalesce(until, 'infinity'::TIMESTAMPTZ)",
        },
    ),
    "profiles": ("profile_no", {}),
    "node_traits": ("node_id", {}),
    "node_consents": ("node_id", {}),
    "orders": ("order_no", {}),
    "accounts": ("account_no", {}),
    "account_facts": ("account_no", {}),
    "account_members": ("node_id", {}),
}
# A source's rank counts for what it said before, too.
_RANK = """
UPDATE core.node_traits AS t SET rank = s.trait_rank FROM core.sources s
 WHERE s.source_number = t.source_number AND s.trait_rank <> t.rank
"""
_DROP_LINES = "DELETE FROM core.order_lines WHERE order_no IN (SELECT key FROM incoming)"
# Halves go to the even number, as where the order was read.
_ADD_LINES = """
INSERT INTO core.order_lines
SELECT order_no, position, sku, name, category, quantity, price,
       TRY_CAST(round_even(price * quantity, 0) AS BIGINT)
  FROM (SELECT order_no, position, line ->> '$.sku' AS sku, line ->> '$.name' AS name,
               line ->> '$.category' AS category,
               coalesce((line ->> '$.quantity')::DOUBLE, 1) AS quantity,
               (line ->> '$.price')::BIGINT AS price
          FROM (SELECT order_no, unnest(lines) AS line,
                       generate_subscripts(lines, 1)::INTEGER AS position
                  FROM (SELECT order_no, json_extract(document, '$.lines[*]') AS lines
                          FROM incoming WHERE order_no IS NOT NULL)))
"""


class PropertiesSeen:
    """Which properties the events of each name have had, kept in memory beside the file."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, int]] = {}

    def recall(self, duck: Duck) -> None:
        """Read what the file knows."""
        self.kinds = {}
        for event, name, kinds in duck.execute("FROM core.event_properties").fetchall():
            properties = self.kinds.setdefault(event, {})
            if name:
                properties[name] = kinds

    def find_news(self, rows: list[tuple[str, str, int]]) -> dict[tuple[str, str], int]:
        """Return what ``rows`` (event, property, kinds) add; the property '' is the event alone."""
        news: dict[tuple[str, str], int] = {}
        for event, name, kinds in rows:
            known = self.kinds.get(event)
            if known is None or (name and kinds | known.get(name, -1) != known.get(name)):
                news[event, name] = kinds | (known or {}).get(name, 0)
        return news

    def merge(self, news: dict[tuple[str, str], int]) -> dict[str, dict[str, int]]:
        """Return everything seen, with ``news``."""
        merged = dict(self.kinds)
        for event in {event for event, _ in news}:
            merged[event] = dict(merged.get(event, {}))
        for (event, name), kinds in news.items():
            if name:
                merged[event][name] = kinds
        return merged


def apply_changes(
    duck: Duck, changes: Changes, seen: PropertiesSeen, positions: Positions, as_of: datetime | None
) -> dict[str, dict[str, int]]:
    """Bring ``core`` to where ``changes`` lead; return the properties that events have had then.

    Inside the writer's transaction. Idempotent only together with the position, which is why both
    are written here.
    """
    kinds = seen.kinds
    _replace_small(duck, changes, seen)
    for table, (key, reads) in _KEYED.items():
        if table in changes.changed:
            _replace_keyed(duck, table, key, reads, changes)
    if "orders" in changes.changed and changes.changed["orders"].num_rows:
        with_rows(duck, changes.changed["orders"], _DROP_LINES, _ADD_LINES)
    if "events" in changes.changed:
        kinds = _add_events(duck, changes, seen)
    _mark_applied(duck, changes, positions, as_of)
    return kinds


def apply_archived(
    duck: Duck, rows: Any, changes: Changes, seen: PropertiesSeen
) -> dict[str, dict[str, int]]:
    """Add events out of the archive; return the properties that events have had then."""
    _replace_small(duck, changes, seen)
    return _add_rows(duck, rows, seen)


def _mark_applied(
    duck: Duck, changes: Changes, positions: Positions, as_of: datetime | None
) -> None:
    duck.execute(
        """UPDATE core.applied SET seq = $seq, batch = coalesce($batch, batch),
                  positions = $positions, as_of = $as_of""",
        {
            "seq": changes.seq,
            "batch": changes.batch,
            "positions": json.dumps(positions),
            "as_of": as_of,
        },
    )


def _replace_small(duck: Duck, changes: Changes, seen: PropertiesSeen) -> None:
    chosen = catalogue.read_choices(duck)
    for table, rows in changes.small.items():
        with_rows(
            duck, rows, f"DELETE FROM core.{table}", f"INSERT INTO core.{table} FROM incoming"
        )
    if "sources" in changes.small:
        duck.execute(_RANK)
    if "trait_settings" in changes.small and catalogue.read_choices(duck) != chosen:
        catalogue.create_views(duck)
        catalogue.create_event_views(duck, seen.kinds, set(seen.kinds))


def _replace_keyed(
    duck: Duck, table: str, key: str, reads: dict[str, str], changes: Changes
) -> None:
    rows = changes.changed[table]
    if rows.num_rows == 0:
        return
    columns = [name for name in rows.schema.names if name != "key"]
    quoted = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(reads.get(name, f'"{name}"') for name in columns)
    with_rows(
        duck,
        rows,
        f"DELETE FROM core.{table} WHERE {key} IN (SELECT key FROM incoming)",
        f"INSERT INTO core.{table} ({quoted}) SELECT {values} FROM incoming"
        f" WHERE {key} IS NOT NULL",
    )


def _add_events(duck: Duck, changes: Changes, seen: PropertiesSeen) -> dict[str, dict[str, int]]:
    events = changes.changed["events"]
    if changes.changed["erased"].num_rows:
        create_archive_tables(duck)
        with registered(duck, "incoming", changes.changed["erased"]):
            delete_events(duck, _ERASE)
        with registered(duck, "incoming", events):
            delete_events(duck, _LET_COME_AGAIN)
    return _add_rows(duck, events, seen)


def _add_rows(duck: Duck, events: Any, seen: PropertiesSeen) -> dict[str, dict[str, int]]:
    if events.num_rows == 0:
        return seen.kinds
    merged, news = add_events(duck, events, seen)
    if news:
        catalogue.create_event_views(duck, merged, {event for event, _ in news})
    return merged


def add_events(
    duck: Duck, events: Any, seen: PropertiesSeen
) -> tuple[dict[str, dict[str, int]], dict[tuple[str, str], int]]:
    """Add events; return the properties that events have had then, and what is new of them.

    The views of single events are left as they are.
    """
    with registered(duck, "incoming", events):
        duck.execute(_EVENTS)
        found = duck.execute(_PROPERTIES).fetchall()
        has_doubled = any(event is None for event, _, _ in found)
        if has_doubled:
            _settle_doubled(duck)
        news = seen.find_news([row for row in found if row[0] is not None])
        merged = seen.merge(news)
        arrived = {event for event, _, _ in found if event is not None}
        add_incoming(duck, merged, arrived, is_settled=has_doubled)
    if news:
        _add_properties(duck, news)
    return merged, news


def _settle_doubled(duck: Duck) -> None:
    """Of a property that an event names twice the last counts, as everywhere else."""
    rows = duck.execute(_DOUBLED).fetchall()
    duck.execute(
        _SETTLE,
        {
            "seqs": [seq for seq, _, _ in rows],
            "ordinals": [ordinal for _, ordinal, _ in rows],
            "properties": [
                json.dumps(json.loads(properties), ensure_ascii=False) for *_, properties in rows
            ],
        },
    )


def _add_properties(duck: Duck, news: dict[tuple[str, str], int]) -> None:
    duck.execute(
        """DELETE FROM core.event_properties AS p USING
                  (SELECT unnest($events) AS event, unnest($names) AS property) n
            WHERE p.event = n.event AND p.property = n.property""",
        _columns(news),
    )
    duck.execute(
        "INSERT INTO core.event_properties"
        " SELECT unnest($events), unnest($names), unnest($kinds)::INTEGER",
        {**_columns(news), "kinds": list(news.values())},
    )


def _columns(news: dict[tuple[str, str], int]) -> dict[str, Any]:
    return {"events": [event for event, _ in news], "names": [name for _, name in news]}


def with_rows(duck: Duck, rows: Any, *statements: str) -> None:
    """Run ``statements``, to which the Arrow table ``rows`` is known as ``incoming``."""
    with registered(duck, "incoming", rows):
        for statement in statements:
            duck.execute(statement)
