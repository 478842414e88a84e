"""The tables that DuckDB holds, in one place. Pure text.

Schema ``core`` is what the feed and the refresh write and what rules compile to. What people query
are the views of ``main`` and, masked, of ``masked`` (see ``catalogue``). ``at`` is a reserved word
in DuckDB, hence the quotes. There are no indexes on purpose: rows are replaced by key in sets, and
an index would have to be maintained, and checked, row by row.
"""

from __future__ import annotations

from cdp.analytics.trait_macros import MACROS
from cdp.money import list_currencies

SCHEMA_VERSION = 6
"""Raise it when ``CORE`` changes: a file of another version is dropped and fed again."""

_CURRENCIES = ", ".join(
    f"('{code}', {10**digits})" for code, digits in sorted(list_currencies().items())
)

CORE = f"""
CREATE SCHEMA core;
CREATE SCHEMA masked;
CREATE TABLE core.stamp (version INTEGER NOT NULL);
INSERT INTO core.stamp VALUES ({SCHEMA_VERSION});
CREATE TABLE core.applied (
    seq BIGINT NOT NULL,
    -- What that batch was called in Postgres, to notice a database with another history.
    batch VARCHAR,
    positions JSON NOT NULL,
    as_of TIMESTAMPTZ
);
INSERT INTO core.applied VALUES (0, NULL, '{{}}', NULL);
CREATE TABLE core.sources (
    source_number INTEGER, source_id VARCHAR, name VARCHAR, type VARCHAR,
    trait_rank INTEGER DEFAULT 0,
    -- How long a silence ends a session; 0: it has none.
    session_minutes INTEGER DEFAULT 30
);
CREATE TABLE core.events (
    seq BIGINT, ordinal INTEGER, node_id BIGINT, source_id VARCHAR, message_id VARCHAR,
    type VARCHAR, event VARCHAR, "at" TIMESTAMPTZ, received_at TIMESTAMPTZ,
    properties JSON, context JSON, group_id VARCHAR
);
CREATE TABLE core.event_properties (event VARCHAR, property VARCHAR, kinds INTEGER);
-- Tables of single events with typed columns, core.typed_<number> (see ``typed_engine``): up to
-- which batch one is filled, and whether another has taken its place.
CREATE TABLE core.typed_tables (
    number INTEGER, event VARCHAR, filled_to BIGINT, is_retired BOOLEAN
);
CREATE TABLE core.typed_properties (
    number INTEGER, property VARCHAR, position INTEGER, kinds INTEGER
);
CREATE TABLE core.nodes (
    node_id BIGINT, type VARCHAR, value VARCHAR, variant VARCHAR, profile_id VARCHAR,
    first_seen TIMESTAMPTZ, last_seen TIMESTAMPTZ, events BIGINT, source_numbers INTEGER[]
);
CREATE TABLE core.node_profiles (
    node_id BIGINT, since TIMESTAMPTZ, until TIMESTAMPTZ, profile_no BIGINT
);
CREATE TABLE core.profiles (
    profile_no BIGINT, profile_id VARCHAR, joined_at TIMESTAMPTZ, version BIGINT
);
CREATE TABLE core.node_traits (
    node_id BIGINT, name VARCHAR, value JSON, "at" TIMESTAMPTZ, message_id VARCHAR,
    source_number INTEGER, part VARCHAR DEFAULT '', rank INTEGER DEFAULT 0
);
-- Whether values under a name are personal, where that differs from what the name says.
CREATE TABLE core.trait_settings (name VARCHAR, personal BOOLEAN);
{MACROS}
CREATE TABLE core.node_consents (
    node_id BIGINT, purpose VARCHAR, granted BOOLEAN, "at" TIMESTAMPTZ, message_id VARCHAR,
    source_number INTEGER
);
-- How many minor units a currency's unit has.
CREATE TABLE core.currencies (currency VARCHAR, units DOUBLE);
INSERT INTO core.currencies VALUES {_CURRENCIES};
-- A unit of ``currency`` is ``above`` / ``below`` of ``to``, from midnight (UTC) of ``at`` on.
CREATE TABLE core.rates (
    currency VARCHAR, "to" VARCHAR, "at" DATE, rate DECIMAL(24, 15), above BIGINT, below BIGINT
);
CREATE TABLE core.orders (
    order_no BIGINT, scope VARCHAR, order_id VARCHAR, node_id BIGINT, status VARCHAR,
    currency VARCHAR, total BIGINT, refunded BIGINT, net BIGINT, store VARCHAR, channel VARCHAR,
    placed_at TIMESTAMPTZ, updated_at TIMESTAMPTZ, document JSON
);
CREATE TABLE core.order_lines (
    order_no BIGINT, position INTEGER, sku VARCHAR, name VARCHAR, category VARCHAR,
    quantity DOUBLE, price BIGINT, total BIGINT
);
CREATE TABLE core.accounts (account_no BIGINT, account_id VARCHAR);
CREATE TABLE core.account_facts (
    account_no BIGINT, kind VARCHAR, name VARCHAR, value JSON, "at" TIMESTAMPTZ,
    message_id VARCHAR, source_number INTEGER
);
CREATE TABLE core.account_members (
    account_no BIGINT, node_id BIGINT, fact VARCHAR, value JSON, "at" TIMESTAMPTZ,
    message_id VARCHAR, source_number INTEGER
);
CREATE TABLE core.segments (
    key VARCHAR, name VARCHAR, description VARCHAR, version INTEGER,
    created_at TIMESTAMPTZ, updated_at TIMESTAMPTZ
);
CREATE TABLE core.memberships (
    segment VARCHAR, profile_no BIGINT, profile_id VARCHAR, entered_at TIMESTAMPTZ,
    version INTEGER
);
CREATE TABLE core.membership_changes (
    change_no BIGINT, segment VARCHAR, profile_no BIGINT, profile_id VARCHAR, change VARCHAR,
    "at" TIMESTAMPTZ, cause VARCHAR, version INTEGER
);
CREATE TABLE core.tag_values (
    key VARCHAR, profile_no BIGINT, profile_id VARCHAR, value JSON, "at" TIMESTAMPTZ,
    version INTEGER
);
CREATE TABLE core.ledger_mirror (change_no BIGINT, seq BIGINT);
-- What sources were seen to send, for the tracking plan: up to which batch, and what.
CREATE TABLE core.plan_learned (seq BIGINT NOT NULL, as_of TIMESTAMPTZ);
INSERT INTO core.plan_learned VALUES (0, NULL);
CREATE TABLE core.plan_events (
    source_id VARCHAR, type VARCHAR, event VARCHAR, count BIGINT, read BIGINT, sampled BIGINT,
    first_seen TIMESTAMPTZ, last_seen TIMESTAMPTZ, findings JSON, is_truncated BOOLEAN
);
CREATE TABLE core.plan_properties (
    source_id VARCHAR, type VARCHAR, event VARCHAR, path VARCHAR, count BIGINT, within BIGINT,
    types JSON, examples JSON
);
CREATE VIEW core.profile_events AS
SELECT e.*, m.profile_no
  FROM core.events e
  JOIN core.node_profiles m
    ON m.node_id = e.node_id AND e."at" >= m.since AND e."at" < m.until;
"""
