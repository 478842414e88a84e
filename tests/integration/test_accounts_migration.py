"""What group calls said before there were tables of accounts is carried over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from alembic import command

from cdp.storage.database import Database
from cdp.storage.migrate import _configure
from tests.support.postgres import PostgresServer


@pytest.fixture
def old_database(postgres_server: PostgresServer) -> Iterator[Database]:
    """A database as it was before accounts."""
    with postgres_server.fresh_url(migrated=False) as url:
        database = Database(url)
        _upgrade(database, "0003")
        try:
            yield database
        finally:
            database.close()


def _upgrade(database: Database, revision: str) -> None:
    config = _configure()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


def _group(database: Database, hour: int, group: str | None, node: int | None, traits: Any) -> None:
    """Put a group call of ``hour`` into a batch of its own."""
    with database.transaction() as connection:
        connection.exec_driver_sql(
            """INSERT INTO events (batch_id, ordinal, node_id, source_number, message_id, type,
                                   at, received_at, properties, context, group_id)
               VALUES (%s, 0, %s, 1, %s, 'group', %s, '2026-03-02', %s, '{}', %s)""",
            (
                hour, node, f"m{hour}", f"2026-03-01T{hour:02}:00:00Z", json.dumps(traits), group,
            ),
        )  # fmt: skip
        connection.exec_driver_sql(
            """INSERT INTO batches (seq, batch_id, nodes, trait_nodes, moved_nodes, profiles)
               VALUES (%s, %s, '{}', '{7}', '{}', '{}')""",
            (hour, hour),
        )


def _ask(database: Database, sql: str) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def test_accounts_members_and_traits_of_group_calls_are_carried_over(
    old_database: Database,
) -> None:
    with old_database.transaction() as connection:
        connection.exec_driver_sql(
            """CREATE TABLE events_of_march PARTITION OF events
               FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')"""
        )
    _group(old_database, 1, "acme", 11, {"plan": "free", "seats": 5})
    _group(old_database, 3, "acme", 12, {"plan": "pro", "city": None})
    _group(old_database, 2, " acme ", 11, {"plan": "old"})
    _group(old_database, 4, "beta", None, [1])
    _group(old_database, 5, None, 11, {"plan": "nobody's"})

    _upgrade(old_database, "head")

    assert _ask(
        old_database,
        """SELECT account_id, name, value::text, message_id
             FROM accounts JOIN account_facts USING (account_no) ORDER BY 1, 2""",
    ) == [
        ("acme", "city", "null", "m3"),
        ("acme", "plan", '"pro"', "m3"),
        ("acme", "seats", "5", "m1"),
    ]
    assert _ask(
        old_database,
        """SELECT account_id, node_id, fact, value::text, message_id
             FROM accounts LEFT JOIN account_members USING (account_no) ORDER BY 1, 2""",
    ) == [
        ("acme", 11, "member", "true", "m2"),
        ("acme", 12, "member", "true", "m3"),
        ("beta", None, None, None, None),
    ]
    # Who follows the batches from the beginning hears of them.
    assert _ask(
        old_database,
        """SELECT seq, (SELECT array_agg(account_id) FROM accounts
                         WHERE account_no = ANY(accounts)), trait_nodes
             FROM batches ORDER BY seq""",
    ) == [
        (1, ["acme"], [7, 11]),
        (2, ["acme"], [7, 11]),
        (3, ["acme"], [7, 12]),
        (4, ["beta"], [7]),
        (5, None, [7]),
    ]
