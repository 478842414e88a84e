"""A database with people in it that is brought up to date knows what a new program would know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from alembic import command

from cdp.identity.rules import default_rules
from cdp.runtime.clock import format_time
from cdp.storage.database import Database
from cdp.storage.migrate import _configure
from tests.support.identity_lab import BEGINNING, Lab
from tests.support.postgres import PostgresServer
from tests.support.wire import identify, track

DEVICE = {"anonymousId": "c"}
_COPIED = [
    "sources", "nodes", "links", "refusals", "node_profiles", "profiles", "events", "accounts",
]  # fmt: skip
# The former program kept one register for all time: the newest.
_FORMER = {
    "traits": "node_id, name",
    "consents": "node_id, purpose",
    "account_members": "account_no, node_id, fact",
}


def _say(hours: float, name: str, granted: bool, **who: str) -> dict[str, Any]:
    return identify(
        f"m{hours}",
        at=BEGINNING + timedelta(hours=hours),
        traits={"name": name, f"at{hours:g}": True},
        context={
            "traits": {"name": "not this one", "city": f"city {hours}"},
            "consent": {"categoryPreferences": {"ads": granted, "odd": "yes"}},
            "consentManagement": {
                "allowedConsentIds": ["mail", "both"], "deniedConsentIds": ["both"],
            },
        },
        **who,
    )  # fmt: skip


def _group(hours: float, group_id: str) -> dict[str, Any]:
    at = format_time(BEGINNING + timedelta(hours=hours))
    return {
        "type": "group", "messageId": f"g{hours}", "timestamp": at, "groupId": group_id, **DEVICE,
    }  # fmt: skip


def _use(hours: float, user_id: str, **who: str) -> dict[str, Any]:
    at = BEGINNING + timedelta(hours=hours)
    return track("In", f"u{hours}", at=at, userId=user_id, **who)


STORY = [
    _say(1, "Ann", False, **DEVICE),
    _group(1.5, "acme"),
    _use(2, "a", **DEVICE),
    _use(3, "b", **DEVICE),
    _say(4, "Bob", True, **DEVICE),
    _group(4.5, " acme "),
    _group(5, "beta"),
    _say(6, "Cid", True, userId="c", anonymousId="own"),
]


@pytest.fixture
def fresh(postgres_server: PostgresServer) -> Iterator[Lab]:
    """What today's program makes of the story."""
    with postgres_server.fresh_url() as url:
        lab = Lab(url, default_rules("CN"), workers=1)
        lab.post_events(STORY)
        lab.settle()
        yield lab
        lab.close()


@pytest.fixture
def old(postgres_server: PostgresServer, fresh: Lab) -> Iterator[Database]:
    """The same as the former program left it."""
    with postgres_server.fresh_url(migrated=False) as url:
        database = Database(url)
        _upgrade(database, "0013")
        _ask(database, "CREATE TABLE events_of_any_day PARTITION OF events DEFAULT")
        for table in _COPIED:
            _copy(fresh, database, table, f"SELECT * FROM {table}")
        for table, keys in _FORMER.items():
            _copy(
                fresh, database, table,
                f"""SELECT DISTINCT ON ({keys}) * FROM {table}
                     ORDER BY {keys}, at DESC, message_id DESC""",
            )  # fmt: skip
        yield database
        database.close()


def _upgrade(database: Database, revision: str) -> None:
    config = _configure()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


def _ask(database: Database, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        found = connection.exec_driver_sql(sql, parameters)
        return [tuple(row) for row in found] if found.returns_rows else []


def _copy(fresh: Lab, old: Database, table: str, rows: str) -> None:
    """Put the columns there were into the older table."""
    columns = ", ".join(
        row[0]
        for row in _ask(
            old,
            """SELECT column_name FROM information_schema.columns
                WHERE table_schema = 'public' AND table_name = %s AND is_generated = 'NEVER'""",
            table,
        )
    )
    (found,) = fresh.ask(f"SELECT coalesce(json_agg(to_json(t)), '[]')::text FROM ({rows}) t")
    assert table == "refusals" or json.loads(found[0])
    _ask(
        old,
        f"""INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {columns} FROM json_populate_recordset(NULL::{table}, %s)""",
        found[0],
    )


_REGISTERS = {
    "traits": "node_id, since::text, name, value::text, at, message_id",
    "consents": "node_id, since::text, purpose, granted, at, message_id",
    "account_members": "node_id, since::text, account_no, fact, value::text, at, message_id",
}


def test_registers_of_an_older_database_become_what_a_new_one_has(
    fresh: Lab, old: Database
) -> None:
    wanted = {
        table: sorted(fresh.ask(f"SELECT {columns} FROM {table}"))
        for table, columns in _REGISTERS.items()
    }
    before = {table: _ask(old, f"SELECT count(*) FROM {table}")[0][0] for table in wanted}
    assert all(before[table] < len(rows) for table, rows in wanted.items())
    _upgrade(old, "head")
    assert wanted == {
        table: sorted(_ask(old, f"SELECT {columns} FROM {table}"))
        for table, columns in _REGISTERS.items()
    }
