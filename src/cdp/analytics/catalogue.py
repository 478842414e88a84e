"""The tables that people query, as views over ``core``: plain in ``main``, masked in ``masked``.

Both schemas hold the same names, so the same SQL runs with and without ``pii:read``.
"""

from __future__ import annotations

import duckdb

from cdp.analytics import call_views, masks
from cdp.analytics.event_views import Seen, plan_views, write_view
from cdp.analytics.quote import quote_name
from cdp.analytics.ticket_views import tickets_view
from cdp.trait_parts import ONCE

Duck = duckdb.DuckDBPyConnection

SCHEMAS = ("main", "masked")

# Of a person with a shared device only the events in their own spans count.
_FIGURES = """
SELECT m.profile_no, n.first_seen, n.last_seen, n.events
  FROM core.node_profiles m JOIN core.nodes n ON n.node_id = m.node_id
 WHERE m.since = '-infinity' AND m.until = 'infinity'
UNION ALL
SELECT m.profile_no, min(e."at"), max(e."at"), count(*)
  FROM core.node_profiles m
  JOIN core.events e ON e.node_id = m.node_id AND e."at" >= m.since AND e."at" < m.until
 WHERE NOT (m.since = '-infinity' AND m.until = 'infinity')
 GROUP BY m.profile_no
"""
_PROFILES = f"""
SELECT p.profile_id, min(f.first_seen) AS first_seen, max(f.last_seen) AS last_seen,
       coalesce(sum(f.events), 0)::BIGINT AS events, p.version
  FROM core.profiles p LEFT JOIN ({_FIGURES}) f ON f.profile_no = p.profile_no
 GROUP BY p.profile_no, p.profile_id, p.version
"""
_CURRENT = "core.node_profiles m ON m.node_id = n.node_id AND m.until = 'infinity'"
_IDENTIFIERS = f"""
SELECT p.profile_id, n.type, {{value}} AS value, n.first_seen, n.last_seen
  FROM core.nodes n JOIN {_CURRENT} JOIN core.profiles p ON p.profile_no = m.profile_no
 WHERE n.variant = ''
"""
# Of all that was said of a trait the newest counts, then the greater message id, then source; a
# trait that anybody has in parts is put together, which takes longer.
_TRAITS = f"""
WITH parted AS (SELECT DISTINCT name FROM core.node_traits WHERE core.is_parted(part, value)),
said AS (
    SELECT m.profile_no, n.name, n.value, n."at", n.message_id, n.source_number, n.part, n.rank
      FROM core.node_traits n
      JOIN core.node_profiles m
        ON m.node_id = n.node_id AND n."at" >= m.since AND n."at" < m.until)
SELECT p.profile_id, t.name, CAST({{value}} AS VARIANT) AS value, t."at" AS "at"
  FROM (SELECT profile_no, name, newest.value AS value, newest."at" AS "at"
          FROM (SELECT profile_no, name,
                       max_by(said, (rank, "at", message_id, source_number)) AS newest
                  FROM said ANTI JOIN parted USING (name) GROUP BY profile_no, name)
        UNION ALL
        SELECT profile_no, name,
               core.trait_value(value, part, rank, "at", message_id, source_number),
               coalesce(max("at") FILTER (part <> '{ONCE}'), min("at"))
          FROM said SEMI JOIN parted USING (name) GROUP BY profile_no, name) t
  JOIN core.profiles p ON p.profile_no = t.profile_no
 WHERE json_type(t.value) <> 'NULL'
"""
_EVENTS = """
SELECT e.message_id, e.source_id, p.profile_id, e.type, e.event, e."at" AS "timestamp",
       e.received_at, {properties} AS properties
  FROM core.events e
  LEFT JOIN core.node_profiles m
    ON m.node_id = e.node_id AND e."at" >= m.since AND e."at" < m.until
  LEFT JOIN core.profiles p ON p.profile_no = m.profile_no
"""
_ORDERS = """
SELECT o.order_id, p.profile_id, o.status, o.currency, o.total, o.refunded, o.net,
       {store} AS store, {channel} AS channel, o.placed_at, o.updated_at
  FROM core.orders o
  LEFT JOIN core.node_profiles m
    ON m.node_id = o.node_id AND o.placed_at >= m.since AND o.placed_at < m.until
  LEFT JOIN core.profiles p ON p.profile_no = m.profile_no
"""
_ORDER_LINES = """
SELECT o.order_id, {sku} AS sku, {name} AS name, {category} AS category, l.quantity, l.price,
       l.total
  FROM core.order_lines l JOIN core.orders o ON o.order_no = l.order_no
"""
_RATES = 'SELECT currency, "to", "at", rate FROM core.rates'
_ACCOUNTS = """
SELECT a.account_id, {text} AS type, parent.value ->> '$' AS parent,
       coalesce(t.traits, '{{}}'::JSON) AS traits
  FROM core.accounts a
  LEFT JOIN core.account_facts type
    ON type.account_no = a.account_no AND type.kind = 'field' AND type.name = 'type'
  LEFT JOIN core.account_facts parent
    ON parent.account_no = a.account_no AND parent.kind = 'field' AND parent.name = 'parent'
  LEFT JOIN (SELECT f.account_no, json_group_object(f.name, {trait}) AS traits
               FROM core.account_facts f
              WHERE f.kind = 'trait' AND json_type(f.value) <> 'NULL'
              GROUP BY f.account_no) t ON t.account_no = a.account_no
"""
_ACCOUNT_TYPE = "(type.value ->> '$')"
# Whichever of a person's identifiers was named last decides, also about the role.
_ACCOUNT_MEMBERS = """
SELECT a.account_id, p.profile_id, {role} AS role
  FROM (SELECT np.profile_no, m.account_no,
               max_by(m.value, (m."at", m.message_id, m.source_number, -m.node_id))
                   FILTER (m.fact = 'member') AS is_member,
               max_by(m.value, (m."at", m.message_id, m.source_number, -m.node_id))
                   FILTER (m.fact = 'role') ->> '$' AS role
          FROM core.account_members m
          JOIN core.node_profiles np
            ON np.node_id = m.node_id AND m."at" >= np.since AND m."at" < np.until
         GROUP BY np.profile_no, m.account_no) b
  JOIN core.accounts a ON a.account_no = b.account_no
  JOIN core.profiles p ON p.profile_no = b.profile_no
 WHERE b.is_member::VARCHAR = 'true'
"""
_ORDER_TEXTS = {"store": "o.store", "channel": "o.channel"}
_LINE_TEXTS = {"sku": "l.sku", "name": "l.name", "category": "l.category"}
_TAGS = """
SELECT t.profile_id, t.key, CAST({value} AS VARIANT) AS value, t."at" FROM core.tag_values t
"""
_MEMBERSHIPS = "SELECT segment, profile_id, entered_at FROM core.memberships"
_MEMBERSHIP_CHANGES = """
SELECT segment, profile_id, change, "at", cause, version FROM core.membership_changes
"""
_SEGMENTS = "SELECT key, name, description, version, created_at, updated_at FROM core.segments"

_PLAIN = {
    "profiles": _PROFILES,
    "identifiers": _IDENTIFIERS.format(value="n.value"),
    "traits": _TRAITS.format(value="t.value"),
    "events": _EVENTS.format(properties="e.properties"),
    "orders": _ORDERS.format(**_ORDER_TEXTS),
    "order_lines": _ORDER_LINES.format(**_LINE_TEXTS),
    "rates": _RATES,
    "tickets": tickets_view(is_masked=False),
    "accounts": _ACCOUNTS.format(text=_ACCOUNT_TYPE, trait="f.value"),
    "account_members": _ACCOUNT_MEMBERS.format(role="b.role"),
    "tags": _TAGS.format(value="t.value"),
    "memberships": _MEMBERSHIPS,
    "membership_changes": _MEMBERSHIP_CHANGES,
    "segments": _SEGMENTS,
    **call_views.list_views(is_masked=False, chosen={}),
}
FIXED_TABLES = tuple(_PLAIN)


def _mask(chosen: masks.Choices) -> dict[str, str]:
    return _PLAIN | {
        "identifiers": _IDENTIFIERS.format(value=masks.mask_identifier("n.type", "n.value")),
        "traits": _TRAITS.format(value=masks.mask_value("t.name", "t.value", chosen)),
        "events": _EVENTS.format(
            properties=masks.mask_document("e.properties", "e.type IN ('page', 'screen')", chosen)
        ),
        "orders": _ORDERS.format(
            **{n: masks.mask_emails(text) for n, text in _ORDER_TEXTS.items()}
        ),
        "order_lines": _ORDER_LINES.format(
            **{name: masks.mask_emails(text) for name, text in _LINE_TEXTS.items()}
        ),
        "accounts": _ACCOUNTS.format(
            text=masks.mask_emails(_ACCOUNT_TYPE),
            trait=masks.mask_value("f.name", "f.value", chosen),
        ),
        "account_members": _ACCOUNT_MEMBERS.format(role=masks.mask_emails("b.role")),
        "tickets": tickets_view(is_masked=True),
        **call_views.list_views(is_masked=True, chosen=chosen),
        "tags": _TAGS.format(value=masks.mask_value("t.key", "t.value", chosen)),
    }


def read_choices(duck: Duck) -> dict[str, bool]:
    """Return of which names somebody chose whether they are personal."""
    return dict(duck.execute("SELECT name, personal FROM core.trait_settings").fetchall())


def create_views(duck: Duck) -> None:
    """Make the tables that are there whatever the events are."""
    for schema, views in (("main", _PLAIN), ("masked", _mask(read_choices(duck)))):
        for name, query in views.items():
            duck.execute(f"CREATE OR REPLACE VIEW {schema}.{name} AS {query}")


def create_event_views(duck: Duck, seen: Seen, changed: set[str]) -> None:
    """Make the views of the events in ``changed`` anew; ``seen`` is everything seen so far."""
    planned, chosen = plan_views(seen, FIXED_TABLES), read_choices(duck)
    for schema in SCHEMAS:
        stale = _event_views(duck, schema) - {view.name for view in planned}
        for name in stale:
            duck.execute(f"DROP VIEW {schema}.{quote_name(name)}")
        for view in planned:
            if view.event in changed:
                is_masked, properties = schema == "masked", seen[view.event]
                duck.execute(
                    write_view(schema, view, properties, is_masked=is_masked, chosen=chosen)
                )


def drop_views(duck: Duck, schema: str) -> None:
    """Drop every view of ``schema``."""
    for name in _event_views(duck, schema) | set(FIXED_TABLES):
        duck.execute(f"DROP VIEW IF EXISTS {schema}.{quote_name(name)}")


def list_tables(duck: Duck, schema: str) -> dict[str, list[tuple[str, str]]]:
    """Return the tables of ``schema`` with the name and type of each column."""
    rows = duck.execute(
        """SELECT table_name, column_name, data_type FROM duckdb_columns()
            WHERE schema_name = ? AND NOT internal ORDER BY table_name, column_index""",
        [schema],
    ).fetchall()
    tables: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in rows:
        tables.setdefault(table, []).append((column, kind))
    return tables


def _event_views(duck: Duck, schema: str) -> set[str]:
    rows = duck.execute(
        "SELECT view_name FROM duckdb_views() WHERE schema_name = ? AND NOT internal", [schema]
    ).fetchall()
    return {name for (name,) in rows} - set(FIXED_TABLES)
