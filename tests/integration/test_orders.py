"""Posted orders: from the door through the log and the worker to the order that counts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cdp import receipts
from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.identifiers import normalise
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.port import Log
from cdp.log.postgres_log import PostgresLog
from cdp.orders import routes
from cdp.profiles.routes import People
from cdp.runtime.error_answers import install_error_answers
from cdp.storage.database import Database, driver
from cdp.worker import Worker
from tests.support.ingest_server import run_ingest

ANN = [{"type": "email", "value": "Ann@Example.com"}]


class Shop:
    """A door over a log, a worker behind it, and the sources that may write."""

    def __init__(self, database: Database, log: Log, url: str) -> None:
        self.database, self._log, self._url = database, log, url
        self.keys: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        with database.transaction() as connection:
            tx = driver(connection)
            self._salt = ensure_salt(tx)
            scopes = ("profiles:read", "pii:read")
            self._token = tokens_store.create_token(tx, "reader", scopes)[1]
            for name, kind, scope in (
                ("erp", "erp", {}), ("shop", "server", {}), ("page", "web", {}),
                ("other", "store", {"order_scope": "other"}),
            ):  # fmt: skip
                source, key = create_source(tx, name, kind, scope)  # type: ignore[arg-type]
                self.keys[name], self.ids[name] = key, source.source_id

    def post(self, *orders: Any, key: str = "erp") -> httpx.Response:
        body = {"orders": list(orders)}
        return httpx.post(f"{self._url}/v1/orders", json=body, auth=(self.keys[key], ""))

    def track(self, name: str, message_id: str, **properties: Any) -> None:
        event = {
            "type": "track", "event": name, "messageId": message_id, "userId": "ann",
            "properties": properties, "timestamp": "2026-03-05T00:00:00Z",
        }  # fmt: skip
        answer = httpx.post(f"{self._url}/v1/track", json=event, auth=(self.keys["shop"], ""))
        assert answer.status_code == 200, answer.text

    def work(self) -> None:
        rules = default_rules("CN")
        worker = Worker(
            self.database,
            self._log,
            SourceDirectory(self.database),
            IdentityStore(rules, self._salt),
            partial(identify_claims, rules=rules),
        )
        while worker.step(0):
            pass
        worker.close()

    def tell(self, *orders: Any, key: str = "erp") -> None:
        answer = self.post(*orders, key=key)
        assert answer.status_code == 200, answer.text
        assert answer.json()["rejected"] == []
        self.work()

    def get(self, path: str) -> Any:
        """Read from the api, as whoever sees everything."""
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.get(f"{self._url}/v1/{path}", headers=headers).json()

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.database.transaction() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def totals(self) -> list[tuple[Any, ...]]:
        return self.ask(
            """SELECT o.scope, o.order_id, o.status, o.total, o.refunded, n.value
                 FROM orders o LEFT JOIN nodes n USING (node_id) ORDER BY 1, 2"""
        )


@pytest.fixture
def shop(database: Database) -> Iterator[Shop]:
    log = PostgresLog(database, 4)
    directory = SourceDirectory(database)
    people = People(database, partial(normalise, rules=default_rules("CN")))
    router = routes.create_router(database, people.find_number, lambda name: name)
    api = FastAPI()
    api.include_router(router)
    api.add_middleware(Guard, routes=read_requirements([router]), tokens=TokenDirectory(database))
    install_error_answers(api)
    with run_ingest(directory, log, api) as url:
        made = Shop(database, log, url)
        directory.start()
        yield made
    directory.close()
    log.close()


def version(hour: int, total: float, **fields: Any) -> dict[str, Any]:
    """Order 1001 as it stood at ``hour``."""
    return {
        "order_id": "1001",
        "updated_at": f"2026-03-01T{hour:02}:00:00Z",
        "placed_at": "2026-03-01T00:00:00Z",
        "total": total,
        **fields,
    }


def test_posted_orders_are_counted_like_events_and_kept_when_refused(shop: Shop) -> None:
    answer = shop.post(version(1, 100, identifiers=ANN), {"order_id": "x", "total": "much"})
    body = answer.json()
    assert (body["success"], body["accepted"]) == (True, 1)
    assert [(row["index"], row["messageId"], row["code"]) for row in body["rejected"]] == [
        (1, "x", "invalid_money")
    ]
    # A record of orders and one of refusals, in two partitions or behind one another in one.
    receipt = receipts.decode(body["receipt"])
    assert receipt is not None
    assert sum(offset + 1 for offset in receipt.offsets.values()) == 2
    shop.work()
    assert shop.totals() == [("", "1001", "completed", 10_000, 0, "ann@example.com")]
    assert shop.ask("SELECT message_id, code, raw FROM rejected") == [
        ("x", "invalid_money", b'{"order_id":"x","total":"much"}')
    ]
    assert shop.ask("SELECT sum(stored), sum(duplicate), sum(rejected) FROM accounting") == [
        (1, 0, 1)
    ]


def test_an_order_that_is_sent_again_is_a_duplicate(shop: Shop) -> None:
    shop.tell(version(1, 100))
    shop.tell(version(1, 100), version(1, 100))
    assert shop.ask("SELECT sum(stored), sum(duplicate) FROM accounting") == [(1, 2)]
    assert shop.ask("SELECT count(*) FROM order_reports") == [(1,)]


def test_a_late_old_version_changes_nothing_and_is_kept(shop: Shop) -> None:
    shop.tell(version(5, 300, refunds=[{"refund_id": "r", "amount": 50}], identifiers=ANN))
    shop.tell(version(2, 100))
    assert shop.totals() == [("", "1001", "completed", 30_000, 5_000, "ann@example.com")]
    assert shop.ask("SELECT count(*) FROM order_reports") == [(2,)]


def test_of_versions_without_a_time_the_last_to_come_counts(shop: Shop) -> None:
    for total in (100, 200, 100):
        shop.tell({"order_id": "1", "total": total})
    assert [row[3] for row in shop.totals()] == [10_000]
    assert shop.ask("SELECT sum(stored), sum(duplicate) FROM accounting") == [(3, 0)]


def test_the_shops_event_and_the_back_offices_record_are_one_order(shop: Shop) -> None:
    shop.track("Order Completed", "m1", order_id="1001", total=90, currency="CNY")
    shop.tell(version(1, 100))
    shop.track("Order Refunded", "m2", order_id="1001", total=90)
    shop.work()
    assert shop.totals() == [("", "1001", "completed", 10_000, 0, "ann")]


def test_sources_with_a_numbering_of_their_own_have_orders_of_their_own(shop: Shop) -> None:
    shop.tell(version(1, 100))
    shop.tell(version(2, 200), key="other")
    assert [(row[0], row[3]) for row in shop.totals()] == [("", 10_000), ("other", 20_000)]


def test_an_order_without_a_person_is_kept_and_joins_whom_a_later_version_names(
    shop: Shop,
) -> None:
    shop.tell(version(1, 100))
    assert [row[5] for row in shop.totals()] == [None]
    shop.tell(version(2, 100, identifiers=ANN))
    shop.tell(version(3, 100))
    assert [row[5] for row in shop.totals()] == ["ann@example.com"]


def test_an_order_ties_its_identifiers_together_and_is_no_event_of_the_person(shop: Shop) -> None:
    both = [*ANN, {"type": "user_id", "value": 42}]
    shop.tell(version(1, 100, identifiers=both))
    assert shop.ask("SELECT count(DISTINCT profile_no), count(*) FROM node_profiles") == [(1, 2)]
    assert shop.ask("SELECT sum(events) FROM nodes") == [(0,)]
    assert shop.ask("SELECT type FROM nodes JOIN orders USING (node_id)") == [("user_id",)]
    assert shop.ask("SELECT count(*) FROM events") == [(0,)]
    changed = "SELECT orders, profiles <> '{}' FROM batches ORDER BY seq DESC LIMIT 1"
    assert shop.ask(changed) == [([1], True)]


def test_a_key_that_lies_in_the_open_cannot_post_orders(shop: Shop) -> None:
    answer = shop.post(version(1, 100), key="page")
    assert (answer.status_code, answer.json()["code"]) == (403, "public_key")
    shop.keys["nobody"] = "wk_nobody"
    assert shop.post(version(1, 100), key="nobody").status_code == 401


def test_the_path_takes_posts_only(shop: Shop) -> None:
    answer = httpx.get(f"{shop._url}/v1/orders")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def cny(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "CNY"}


def test_an_order_is_shown_with_every_version_that_was_told_of_it(shop: Shop) -> None:
    shop.track("Order Completed", "m1", order_id="1001", total=90)
    refunds = [{"refund_id": "r", "amount": 50}]
    shop.tell(version(5, 300, refunds=refunds, identifiers=ANN, tax=12.5))
    shop.tell(version(2, 100))

    shown = shop.get("orders/1001")

    assert (shown["total"], shown["refunded"], shown["net"]) == (
        cny(30_000),
        cny(5_000),
        cny(25_000),
    )
    assert (shown["scope"], shown["tax"]) == ("", cny(1_250))
    assert shown["profile_id"].startswith("prf_")
    assert [
        (one["source"], one["kind"], one["total"], one["is_current"]) for one in shown["versions"]
    ] == [
        ("shop", "completed", cny(9_000), False),
        ("erp", "record", cny(30_000), True),
        ("erp", "record", cny(10_000), False),
    ]
    listed = shop.get("profiles/email:ann@example.com/orders")["data"]
    assert [(one["order_id"], one["net"]) for one in listed] == [("1001", cny(25_000))]


def test_an_order_of_a_numbering_of_its_own_is_shown_by_its_scope(shop: Shop) -> None:
    shop.tell(version(1, 100))
    shop.tell(version(2, 200), {"order_id": "7", "total": 7}, key="other")
    totals = [shop.get(f"orders/{path}")["total"] for path in ("1001", "1001?scope=other", "7")]
    assert totals == [cny(10_000), cny(20_000), cny(700)]
    assert shop.get("orders/7?scope=third")["code"] == "order_not_found"
    assert shop.get("orders/7")["profile_id"] is None


def test_of_two_versions_in_one_request_that_say_no_time_the_later_counts(shop: Shop) -> None:
    versions = [{"order_id": "1", "identifiers": ANN, "total": total} for total in range(1, 9)]
    shop.tell(*versions)
    assert shop.get("orders/1")["total"]["amount"] == 800


def test_a_version_dated_in_the_far_future_is_not_the_newest_for_ever(shop: Shop) -> None:
    shop.tell({"order_id": "1", "updated_at": "2099-01-01T00:00:00Z", "total": 1})
    shop.tell({"order_id": "1", "total": 2})
    assert [row[3] for row in shop.totals()] == [200]
    assert shop.get("orders/1")["updated_at"] < "2099"


def test_refunds_that_come_late_twice_and_out_of_order_are_taken_off_once(shop: Shop) -> None:
    def refund(hour: int, *amounts: int) -> dict[str, Any]:
        refunds = [{"refund_id": f"r{n}", "amount": amount} for n, amount in enumerate(amounts)]
        return version(hour, 100, currency="JPY", refunds=refunds)

    shop.tell(refund(4, 30, 20), refund(2), refund(4, 30, 20))
    shop.tell(refund(3, 30), refund(2))
    assert [row[2:5] for row in shop.totals()] == [("completed", 100, 50)]
    shop.track("Order Completed", "m1", order_id="9", total="9.995", currency="KWD")
    for message_id in ("m2", "m2", "m3"):
        shop.track("Order Refunded", message_id, order_id="9", total="1.005")
    shop.work()
    assert [row[3:5] for row in shop.totals()] == [(100, 50), (9_995, 2_010)]
