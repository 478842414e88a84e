"""Reads of people find their rows by index, also in large tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cdp.access import audit_store
from cdp.access.audit_store import AuditFilter, Entry
from cdp.access.scopes import Caller
from cdp.archive.archive_store import MAY_HOLD
from cdp.identity.rules import default_rules
from cdp.included_parts import list_parts
from cdp.model import Identifier
from cdp.profiles import feed_store, pages, routes
from cdp.profiles.page_store import PAGE_PARTS, read_page
from cdp.profiles.profile_parts import INCLUDED
from cdp.profiles.profile_store import find_people
from cdp.profiles.search_store import IdentifierFilter, search_people
from cdp.runtime.clock import now
from cdp.storage.database import Database, Driver, driver
from tests.support.postgres import PostgresServer

_MANY = 20_000

_FILL = """
INSERT INTO nodes (type, value, profile_id, component_id, first_seen, last_seen, events)
SELECT 'user_id', 'u' || i, 'prf_' || i, i, now(), now(), 2 FROM generate_series(1, %(many)s) i;
INSERT INTO profiles (profile_no, profile_id) SELECT node_id, profile_id FROM nodes;
INSERT INTO node_profiles SELECT node_id, '-infinity', 'infinity', node_id FROM nodes;
INSERT INTO traits (node_id, name, value, at, message_id, source_number)
SELECT node_id, 'plan', '"pro"', now(), 'm', 1 FROM nodes;
INSERT INTO consents (node_id, purpose, granted, at, message_id, source_number)
SELECT node_id, 'marketing', true, now(), 'm', 1 FROM nodes;
INSERT INTO orders (scope, order_id, node_id, status, currency, total, refunded, placed_at,
                    updated_at, document)
SELECT '', 'o' || node_id, node_id, 'paid', 'CNY', 100, 0, now(), now(), '{}' FROM nodes
 WHERE value <> 'u77';
INSERT INTO events (batch_id, ordinal, node_id, source_number, message_id, type, name, at,
                    received_at, properties, context)
SELECT 1, node_id * 2 + i, node_id, 1, 'm' || i, 'track', 'Seen', now(), now(), '{}', '{}'
  FROM nodes, generate_series(0, 1) i;
INSERT INTO touch_facts (node_id, at, source_number, message_id, type, context, properties)
SELECT node_id, now(), 1, 'm', 'track', '{}', '{}' FROM nodes;
INSERT INTO shared_device_facts (node_id, at, source_number, message_id)
SELECT node_id, now(), 1, 'm' FROM nodes;
INSERT INTO memberships (segment, profile_no, profile_id, entered_at, version)
SELECT 'all', node_id, profile_id, now(), 1 FROM nodes;
INSERT INTO tag_values (key, profile_no, profile_id, value, at, version)
SELECT 'tier', node_id, profile_id, '"gold"', now(), 1 FROM nodes;
INSERT INTO profile_feed (change_no, profile_id, at, kinds)
SELECT node_id, profile_id, now(), '{traits}' FROM nodes;
"""


@pytest.fixture(scope="module")
def crowded(postgres_server: PostgresServer) -> Iterator[Database]:
    """A database of many people with all that can be read of them."""
    with postgres_server.fresh_url() as url:
        database = Database(url)
        with database.transaction() as connection:
            tx = driver(connection)
            for statement in _FILL.split(";\n"):
                if statement.strip():
                    tx.execute(statement, {"many": _MANY})
            audit_store.record_many(
                tx, [Entry(now(), f"token:{n % 50}", "x", f"prf_{n}", {}) for n in range(5_000)]
            )
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as one:
            driver(one).execute("VACUUM ANALYZE")
        yield database
        database.close()


def _read_profile(tx: Driver, database: Database) -> None:
    people = routes.People(database, lambda kind, value: value)
    asked = Identifier("user_id", "u77")
    found = find_people(tx, [asked])[0]
    assert found is not None
    query = pages.make_query(people, tx, found, Caller("t", frozenset()), now())
    document = pages.read_document(asked, found, query, None)
    assert document["traits"] == {"plan": "pro"}
    rules = default_rules("CN")
    for name, read in {**INCLUDED, **list_parts(lambda: rules)}.items():
        assert read(query), name


def _look_up(tx: Driver, _: Database) -> None:
    asked = [Identifier("user_id", f"u{n * 40}") for n in range(1, 200)]
    assert all(find_people(tx, asked))
    assert all(find_people(tx, [*asked, Identifier("id", "prf_9")]))


def _find_by_identifier(tx: Driver, _: Database) -> None:
    wanted = IdentifierFilter(Identifier("user_id", "u77"))
    assert len(search_people(tx, identifiers=[wanted], limit=10)) == 1


def _read_changes(tx: Driver, _: Database) -> None:
    assert len(feed_store.read_feed(tx, since=15_000, limit=100)) == 100
    assert feed_store.go_on(tx) == 0


def _read_audit(tx: Driver, _: Database) -> None:
    assert audit_store.list_audit(tx, limit=10, wanted=AuditFilter(subjects=["prf_77"]))
    assert audit_store.list_audit(tx, limit=10, wanted=AuditFilter(actor="token:7"))
    assert audit_store.list_audit(tx, limit=10)


@pytest.mark.parametrize(
    "read",
    [_read_profile, _look_up, _find_by_identifier, _read_changes, _read_audit],
    ids=["profile", "lookup", "search", "changes", "audit"],
)
def test_a_read_of_people_reads_no_large_table_from_end_to_end(
    crowded: Database, read: Callable[[Driver, Database], None]
) -> None:
    with crowded.transaction() as connection:
        tx = driver(connection)
        assert _list_scanned(tx, lambda: read(tx, crowded)) == {}
        tx.rollback()


@pytest.mark.parametrize(
    "asked",
    [Identifier("user_id", "u77"), Identifier("id", "prf_77")],
    ids=["identifier", "profile"],
)
def test_the_page_of_a_person_reads_no_large_table_from_end_to_end(
    crowded: Database, asked: Identifier
) -> None:
    def read(tx: Driver) -> dict[str, int]:
        with tx.transaction():
            return _list_scanned(
                tx, lambda: read_page(tx, asked, PAGE_PARTS, now(), may_hold=MAY_HOLD)
            )

    with crowded.transaction() as connection:
        assert find_people(driver(connection), [asked]) != [None]
    assert crowded.read(read) == {}


def _list_scanned(tx: Driver, read: Callable[[], object]) -> dict[str, int]:
    """Return the tables of which ``read`` reads many rows without an index, and how many."""
    counters = "SELECT relname, coalesce(seq_tup_read, 0) FROM pg_stat_xact_user_tables"
    before = dict(tx.execute(counters).fetchall())
    read()
    after = dict(tx.execute(counters).fetchall())
    scanned = {name: rows - before.get(name, 0) for name, rows in after.items()}
    return {name: rows for name, rows in scanned.items() if rows > 1_000}
