"""The workspace's identity rules and salt in Postgres.

Whoever writes who is who shares the rules until its transaction ends; whoever changes them holds
them alone. So no transaction that began under older rules ends after newer ones were written.
"""

from __future__ import annotations

import secrets

from psycopg.types.json import Json, Jsonb

from cdp.identity.rules import Rules, default_rules, parse_rules
from cdp.model import Identifier
from cdp.storage.database import Driver

_RULES_LOCK = 7263550


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
    """Return the newest rules, or the default ones for ``country``, with the blocks by hand."""
    row = conn.execute(
        "SELECT document FROM identity_rules ORDER BY version DESC LIMIT 1"
    ).fetchone()
    rules = default_rules(country) if row is None else parse_rules(row[0])
    blocks = frozenset(
        Identifier(found[0], found[1])
        for found in conn.execute(
            """SELECT one ->> 'type', one ->> 'value'
                 FROM identity_decisions, jsonb_array_elements(identifiers) AS one
                WHERE kind = 'block' AND undone_at IS NULL"""
        )
    )
    return rules.with_blocks(blocks) if blocks else rules


def write_rules(conn: Driver, rules: Rules, *, actor: str = "system") -> None:
    """Keep ``rules`` under their version. What follows from them is worked out afterwards."""
    conn.execute(
        "INSERT INTO identity_rules (version, document, actor) VALUES (%s, %s, %s)",
        (rules.version, Json(rules.document()), actor),
    )
    count_generation(conn)


def share_rules(conn: Driver) -> int:
    """Keep the rules from changing until this transaction ends; return their generation."""
    # Two statements: one that waits for a lock still reads what it saw before the wait.
    conn.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_RULES_LOCK,))
    return read_generation(conn)


def read_generation(conn: Driver) -> int:
    """Return a number that grows whenever the rules or the blocks change; 0 for default rules."""
    row = conn.execute("SELECT value FROM workspace WHERE name = 'rules_generation'").fetchone()
    return 0 if row is None else int(row[0])


def hold_rules(conn: Driver) -> None:
    """Be the only one to read or change the rules until this transaction ends."""
    conn.execute("SELECT pg_advisory_xact_lock(%s)", (_RULES_LOCK,))


def count_generation(conn: Driver) -> None:
    """Tell everybody who keeps the rules in memory that they, or the blocks, are others now."""
    conn.execute(
        """INSERT INTO workspace AS w (name, value) VALUES ('rules_generation', '1')
           ON CONFLICT (name) DO UPDATE SET value = to_jsonb((w.value #>> '{}')::bigint + 1)"""
    )
