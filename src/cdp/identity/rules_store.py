"""The workspace's identity rules and salt in Postgres."""

from __future__ import annotations

import secrets

from psycopg.types.json import Jsonb

from cdp.identity.rules import Rules, default_rules, parse_rules
from cdp.storage.database import Driver


def ensure_salt(conn: Driver) -> bytes:
    """Return the workspace's salt behind profile ids; the first caller makes it."""
    conn.execute(
        """INSERT INTO workspace (name, value) VALUES ('profile_salt', %s)
           ON CONFLICT (name) DO NOTHING""",
        (Jsonb(secrets.token_hex(32)),),
    )
    row = conn.execute("SELECT value FROM workspace WHERE name = 'profile_salt'").fetchone()
    assert row is not None
    return bytes.fromhex(row[0])


def read_rules(conn: Driver, country: str) -> Rules:
    """Return the workspace's identity rules, or the default ones for ``country``."""
    row = conn.execute("SELECT value FROM workspace WHERE name = 'identity_rules'").fetchone()
    return default_rules(country) if row is None else parse_rules(row[0])


def write_rules(conn: Driver, rules: Rules) -> None:
    """Keep ``rules`` as the workspace's. What follows from them is for the caller to recompute."""
    conn.execute(
        """INSERT INTO workspace (name, value) VALUES ('identity_rules', %s)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
        (Jsonb(rules.document()),),
    )
