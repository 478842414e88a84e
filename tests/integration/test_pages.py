"""The page of a person from one statement is what it is part by part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest

from cdp.access.scopes import Caller
from cdp.included_parts import list_parts
from cdp.model import Identifier
from cdp.profiles.page_asgi import read_asked
from cdp.profiles.page_store import PAGE_PARTS, read_page
from cdp.profiles.pages import Asked, Pages
from cdp.profiles.people import People
from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from tests.support.postgres import PostgresServer

_FILL = """
INSERT INTO sources (source_id, name, type, settings)
VALUES ('src_shop', 'Shop', 'web', '{"trait_rank": 2}'), ('src_app', 'App', 'ios', '{}');
INSERT INTO nodes (type, value, profile_id, component_id, first_seen, last_seen, events,
                   source_numbers)
VALUES ('user_id', '7', 'prf_7', 1, '2026-01-01', '2026-02-01', 4, '{1,2}'),
       ('email', 'ann@example.com', 'prf_8', 1, '2026-01-02', '2026-02-02', 2, '{2}'),
       ('user_id', '8', 'prf_9', 3, '2026-01-02', '2026-02-02', 0, '{}');
INSERT INTO profiles (profile_no, profile_id, joined_at) VALUES (1, 'prf_7', '2026-01-05'),
       (3, 'prf_9', NULL);
INSERT INTO node_profiles VALUES (1, '-infinity', 'infinity', 1), (2, '-infinity', 'infinity', 1),
       (3, '-infinity', 'infinity', 3);
INSERT INTO traits (node_id, name, value, at, message_id, source_number)
VALUES (1, 'first_name', '"Ann \\"é\\""', '2026-01-03', 'm1', 1),
       (2, 'address', '{"city": "上海", "zip": 12345678901234567890}', '2026-01-04', 'm2', 2);
INSERT INTO consents (node_id, purpose, granted, at, message_id, source_number)
VALUES (1, 'marketing', true, '2026-01-03', 'm1', 1), (2, 'sms', false, '1970-01-01', 'd', 2);
INSERT INTO orders (scope, order_id, node_id, status, currency, total, refunded, placed_at,
                    updated_at, document)
VALUES ('', 'o1', 2, 'paid', 'CNY', 100, 20, '2026-01-03', '2026-01-03', '{}');
INSERT INTO accounts (account_id) VALUES ('acme');
INSERT INTO account_members (account_no, node_id, fact, value, at, message_id, source_number)
VALUES (1, 1, 'member', 'true', '2026-01-03', 'm1', 1), (1, 1, 'role', '"boss"', '2026-01-03',
        'm1', 1);
INSERT INTO service_events (node_id, at, source_number, message_id, name, kind, record_id, is_open,
                            nps, properties)
VALUES (2, '2026-01-05', 1, 's1', 'Ticket Opened', 'ticket', 't1', true, 9, '{}');
INSERT INTO events (batch_id, ordinal, node_id, source_number, message_id, type, name, at,
                    received_at, original_at, group_id, properties, context)
VALUES (1, 1, 1, 1, 'e1', 'track', 'Seen "it"', '2026-01-03T08:00:00.123456Z', now(), 'noon', 'g',
        '{ "price" : 1.50, "email":"ann@example.com" }', '{"campaign": {"source": "wechat"}}'),
       (1, 2, 1, 1, 'e2', 'page', 'Home', '2026-01-03T08:00:00.123456Z', now(), NULL, NULL,
        ' { } ', '{"page": {"url": "https://a.example/?utm_source=x"}}'),
       (1, 3, 2, 9, 'e3', 'screen', 'Cart', '2026-01-04', now(), NULL, NULL,
        '{"items": [{"name": "x"}], "a": {}}', '{"traits": {"phone": "+8613800000000"}}'),
       (1, 4, 2, 2, 'e4', 'page', 'Shop', '2026-01-05', now(), NULL, NULL,
        '{"name": "own", "referrer": "https:\\/\\/b.example", "url": "https://a.example/"}', '{}'),
       (1, 5, 1, 2, 'e5', 'identify', NULL, '2026-01-05', now(), NULL, NULL, '{"city": "x"}',
        '{"page": {"url": "https://a.example/x", "referrer": "https://www.a.example/"}}'),
       (1, 6, 1, 2, 'e6', 'group', NULL, '2026-01-06', now(), NULL, NULL, '{"a": "\\u00e9?"}',
        '{"page": {"referrer": ""}}');
"""
_ALL = Caller("test", frozenset({"profiles:read", "pii:read"}))
_SOME = Caller("test", frozenset({"profiles:read"}))


@pytest.fixture(scope="module")
def told(postgres_server: PostgresServer) -> Iterator[Database]:
    """A database with a person of whom there is something of everything, and one unknown."""
    with postgres_server.fresh_url() as url:
        database = Database(url)
        with database.transaction() as connection:
            connection.exec_driver_sql(_FILL.replace("%", "%%"))
        yield database
        database.close()


@pytest.fixture
def pages(told: Database) -> Pages:
    return Pages(People(told, lambda kind, value: value), list_parts(_no_rules))


def _no_rules() -> Any:
    raise AssertionError("nothing here asks for the rules")


def _show(pages: Pages, asked: Asked) -> dict[str, Any]:
    answer = pages.show(asked)
    assert answer.status_code == 200
    document: dict[str, Any] = msgspec.json.decode(answer.body)
    return document


@pytest.mark.parametrize("caller", [_ALL, _SOME], ids=["unmasked", "masked"])
@pytest.mark.parametrize("limit", [1, 3, 6, 50])
@pytest.mark.parametrize("name", ["user_id:7", "email:ann@example.com", "id:prf_8", "user_id:8"])
def test_one_statement_says_what_many_say(
    pages: Pages, name: str, limit: int, caller: Caller
) -> None:
    at_once = _show(pages, Asked(name, caller, include="events", limit=limit))
    # What belongs to another stage is read part by part, and all with it.
    by_parts = _show(pages, Asked(name, caller, include="events,tags", limit=limit))
    del by_parts["included"]["tags"]
    assert at_once == by_parts
    assert list(at_once) == list(by_parts)


def test_a_person_of_whom_much_is_known_is_shown_with_all_of_it(pages: Pages) -> None:
    page = _show(pages, Asked("user_id:7", _ALL, include="events", limit=6))
    assert page["accounts"] == [{"account_id": "acme", "role": "boss"}]
    assert page["first_touch"]["message_id"] == "e1"
    assert page["last_touch"]["message_id"] == "e4"
    assert page["service"]["open_tickets"] == 1
    assert page["net_revenue"] == [{"amount": 80, "currency": "CNY"}]
    assert page["traits"]["address"]["city"] == "上海"
    events = page["included"]["events"]
    assert [event["message_id"] for event in events["data"]] == ["e6", "e5", "e4", "e3", "e2", "e1"]
    assert events["next"] is None
    assert [event["properties"].get("name") for event in events["data"][2:5]] == [
        "own",
        "Cart",
        "Home",
    ]


def test_only_what_is_wanted_is_read(told: Database) -> None:
    asked = Identifier("user_id", "7")
    page = told.read(lambda connection: read_page(connection, asked, {"traits"}, now()))
    assert page is not None
    assert (len(page.person.registers), page.person.nodes, page.members) == (2, [], {})
    assert page.events is None


def test_a_value_dated_tomorrow_is_not_shown_today(pages: Pages, told: Database) -> None:
    def date(words: str) -> None:
        with told.transaction() as connection:
            connection.exec_driver_sql(f"UPDATE traits SET at = {words} WHERE name = 'first_name'")

    assert "first_name" in _show(pages, Asked("user_id:7", _ALL))["traits"]
    date("now() + interval '1 day'")
    try:
        assert "first_name" not in _show(pages, Asked("user_id:7", _ALL))["traits"]
    finally:
        date("'2026-01-03'")


def test_reads_go_on_when_their_connections_have_ended(told: Database) -> None:
    asked = Identifier("user_id", "7")

    def read() -> str:
        page = told.read(lambda connection: read_page(connection, asked, PAGE_PARTS, now()))
        assert page is not None
        return page.person.profile_id

    assert read() == "prf_7"
    with told.transaction() as connection:
        ended = driver(connection).execute(
            """SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()"""
        )
        assert ended.fetchall() != [(0,)]
    assert read() == "prf_7"


def test_a_statement_that_fails_leaves_its_connection_fit_for_the_next(told: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        told.read(lambda connection: connection.execute("SELECT 1 / 0").fetchone())
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        told.read(lambda connection: connection.execute("DELETE FROM traits").rowcount)
    assert told.read(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)


def _make_scope(query: bytes, *headers: tuple[bytes, bytes], method: str = "GET") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": "/v1/profiles/user_id:7",
        "query_string": query,
        "headers": list(headers),
        "state": {"caller": _ALL},
    }


def test_an_ordinary_request_is_read_in_front_of_the_route() -> None:
    scope = _make_scope(b"fields=traits.%E5%9F%8E&limit=7", (b"if-none-match", b'"x"'))
    assert read_asked(scope) == Asked(
        "user_id:7", _ALL, fields="traits.城", limit=7, if_none_match='"x"'
    )


@pytest.mark.parametrize(
    "query",
    [b"at=2026-01-01", b"after=x", b"limit=0", b"limit=1001", b"limit=x", b"limit=%D9%A1",
     b"fields=", b"include=events&include=tags", b"other=1"],
    ids=["at", "after", "zero", "many", "text", "digit", "blank", "twice", "unknown"],
)  # fmt: skip
def test_anything_else_is_left_to_the_route(query: bytes) -> None:
    assert read_asked(_make_scope(query)) is None


def test_another_method_is_left_to_the_route() -> None:
    assert read_asked(_make_scope(b"", method="DELETE")) is None
