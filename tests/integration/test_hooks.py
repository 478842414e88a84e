"""Shops' hooks from the socket to Postgres: who may, what is kept, what comes twice."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from cdp.ingest.door import Door
from cdp.ingest.hook_replay import read_delivery
from cdp.ingest.hooks_asgi import HooksApp
from cdp.ingest.lag_gate import LagGate
from cdp.ingest.packing import PackingWriter
from cdp.ingest.rejected_store import RejectedFilter
from cdp.ingest.replay_store import Replayer
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source, patch_source
from cdp.log.postgres_log import PostgresLog
from cdp.model import SourceType
from cdp.record_kinds import list_record_kinds
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support import shops
from tests.support.ingest_server import run_ingest, wait_until
from tests.support.postgres import PostgresServer
from tests.support.small_stack import Account, Sender, SmallStack, make_worker, nothing_else

CUSTOM = {
    "kind": "orders",
    "each": "orders",
    "fields": {
        "order_id": "id",
        "updated_at": "at",
        "currency": "currency",
        "total": "sum",
        "identifiers.member_card": "card",
    },
}


@dataclass
class Shops(SmallStack):
    """A running door for hooks, with a worker behind it."""

    door: Door
    gate: LagGate

    def add_shop(self, kind: SourceType = "shop", **settings: Any) -> Sender:
        with self.database.transaction() as connection:
            source, key = create_source(driver(connection), "shop", kind, settings)
        self.directory.refresh()
        return Sender(source.source_id, source.number, key)

    def post(self, shop: Sender, body: bytes, headers: dict[str, str]) -> httpx.Response:
        path = f"/v1/hooks/{shop.source_id}"
        return httpx.post(self.url + path, content=body, headers=headers, trust_env=False)

    def post_shopify(self, shop: Sender, topic: str, payload: Any) -> Account:
        """Deliver as Shopify does; return the account once all is worked off."""
        received = self.read_account(shop).received
        body = shops.to_body(payload)
        answer = self.post(shop, body, shops.shopify_headers(body, topic))
        assert answer.status_code == 200, answer.text
        told = answer.json()
        return self.wait_for(shop, received + told["accepted"] + len(told["rejected"]))

    def read_order(self, order_id: str) -> dict[str, Any]:
        (document,) = self.ask("SELECT document FROM orders WHERE order_id = %s", order_id)[0]
        assert isinstance(document, dict)
        return document

    def ask(self, sql: str, *parameters: object) -> Sequence[Any]:
        with self.database.transaction() as connection:
            return driver(connection).execute(sql, parameters).fetchall()


@pytest.fixture(scope="module")
def stack(postgres_server: PostgresServer) -> Iterator[Shops]:
    with contextlib.ExitStack() as opened:
        database = Database(opened.enter_context(postgres_server.fresh_url()))
        opened.callback(database.close)
        log, working_log = PostgresLog(database, 2), PostgresLog(database, 2)
        opened.callback(log.close)
        opened.callback(working_log.close)
        directory, settings = SourceDirectory(database), Settings()
        directory.refresh()
        stop = threading.Event()
        worker = make_worker(database, working_log, directory)
        thread = threading.Thread(target=worker.run, args=(stop,), kwargs={"poll_seconds": 0.05})
        thread.start()
        opened.callback(thread.join, 20)
        opened.callback(stop.set)
        door = Door(log, settings, list_record_kinds(settings.currency))
        gate = LagGate(10)
        hooks = HooksApp(
            directory,
            PackingWriter(log, settings.linger_ms),
            door,
            settings,
            nothing_else,  # type: ignore[arg-type]
            gate=gate,
        )
        url = opened.enter_context(run_ingest(directory, log, hooks, settings))
        yield Shops(url, database, log, directory, door, gate)


def test_shops_come_again_when_the_workers_are_too_far_behind(stack: Shops) -> None:
    shop = stack.add_shop(preset="shopify", secret=shops.SECRET)
    body = shops.to_body(shops.shopify_order())
    stack.gate.look({0: 100}, {}, 0)
    answer = stack.post(shop, body, shops.shopify_headers(body, "orders/create"))
    stack.gate.open()
    assert (answer.status_code, answer.json()["code"]) == (503, "log_behind")
    assert int(answer.headers["retry-after"]) >= 1


def test_an_order_its_refund_and_its_copy_end_as_one_order(stack: Shops) -> None:
    shop = stack.add_shop(preset="shopify", secret=shops.SECRET)
    order = shops.shopify_order()
    stack.post_shopify(shop, "refunds/create", shops.shopify_refund())
    stack.post_shopify(shop, "orders/create", order)
    account = stack.post_shopify(shop, "orders/create", order)
    assert (account.stored, account.duplicate, account.balanced) == (2, 1, True)
    kept = stack.read_order("6100000000001")
    assert (kept["total"], kept["refunded"], kept["status"]) == (129900, 9900, "paid")
    assert kept["lines"][0]["sku"] == "TEA-龙井"
    refunded = shops.shopify_order(
        updated_at="2026-03-03T10:00:02+08:00",
        financial_status="partially_refunded",
        refunds=[shops.shopify_refund()],
    )
    stack.post_shopify(shop, "orders/updated", refunded)
    kept = stack.read_order("6100000000001")
    assert (kept["total"], kept["refunded"]) == (129900, 9900)
    assert stack.ask(
        "SELECT 1 FROM nodes WHERE type = 'shopify_customer_id' AND value = '7700000000007'"
    )


def test_a_customer_is_identified_and_a_deleted_one_waits_for_privacy(stack: Shops) -> None:
    shop = stack.add_shop(preset="shopify", secret=shops.SECRET)
    payload = shops.shopify_customer(id=71, email="li@example.com", phone=None)
    account = stack.post_shopify(shop, "customers/create", payload)
    assert account.stored == 2
    granted = stack.ask(
        """SELECT c.granted FROM consents c JOIN nodes n USING (node_id)
            WHERE n.value = '71' OR n.value = 'li@example.com'"""
    )
    assert granted == [(True,)]
    redact = {"customer": {"id": 71, "email": "Li@Example.com", "phone": None}}
    stack.post_shopify(shop, "customers/redact", redact)
    account = stack.post_shopify(shop, "customers/redact", redact)
    assert (account.duplicate, account.balanced) == (1, True)
    assert stack.ask(
        """SELECT kind, identifier_type, identifier_value, reason, status FROM privacy_requests
            WHERE source_id = %s ORDER BY identifier_type""",
        shop.source_id,
    ) == [
        ("delete", "email", "li@example.com", "shopify customers/redact", "queued"),
        ("delete", "shopify_customer_id", "71", "shopify customers/redact", "queued"),
    ]


def test_an_unknown_topic_is_answered_200_and_kept_with_its_bytes(stack: Shops) -> None:
    shop = stack.add_shop(preset="shopify", secret=shops.SECRET)
    account = stack.post_shopify(shop, "themes/publish", {"id": 1})
    assert (account.rejected, account.balanced) == (1, True)
    assert stack.ask("SELECT code, raw FROM rejected WHERE source_id = %s", shop.source_id) == [
        ("unknown_topic", b'{"id": 1}')
    ]


def test_a_refused_order_is_read_again_once_its_source_is_set_right(stack: Shops) -> None:
    shop = stack.add_shop(preset="custom", secret=shops.SECRET, mapping=CUSTOM)
    good = {"id": "A1", "at": "2026-03-01T00:00:00Z", "currency": "CNY", "sum": "5.00", "card": 7}
    body = shops.to_body({"orders": [good, good | {"id": "A2", "currency": "yuan"}]})
    answer = stack.post(shop, body, {"X-Signature": shops.sign_hex(body)})
    told = answer.json()
    assert told["accepted"] == 1
    assert [(one["index"], one["code"]) for one in told["rejected"]] == [(1, "unknown_currency")]
    stack.wait_for(shop, 2)
    (raw,) = stack.ask("SELECT raw FROM rejected WHERE source_id = %s", shop.source_id)[0]
    assert json.loads(raw)["id"] == "A2"
    mended = CUSTOM | {"fields": CUSTOM["fields"] | {"currency": "'CNY'"}}  # type: ignore[operator]
    with stack.database.transaction() as connection:
        patch_source(driver(connection), shop.source_id, settings={"mapping": mended})
    stack.directory.refresh()
    replayer = Replayer(
        stack.door, ["events", "orders"], stack.directory.by_id, {"hooks": read_delivery}
    )
    with stack.database.transaction() as connection:
        wanted = RejectedFilter(shop.source_id)
        tx = driver(connection)
        done = replayer.replay(tx, wanted, after=0, until=replayer.start(tx), limit=10)
    assert len(done.replayed) == 1
    wait_until(lambda: stack.ask("SELECT 1 FROM orders WHERE order_id = 'A2'"))
    assert stack.read_order("A2")["total"] == 500


def test_woocommerce_may_try_its_hook_and_order_in_yen(stack: Shops) -> None:
    shop = stack.add_shop(preset="woocommerce", secret=shops.SECRET)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    tried = stack.post(shop, b"webhook_id=3", form)
    assert (tried.status_code, tried.json()["accepted"]) == (200, 0)
    body = shops.to_body(shops.woo_order())
    assert stack.post(shop, body, shops.woo_headers(body, "order.created")).status_code == 200
    assert stack.wait_for(shop, 1).stored == 1
    assert stack.read_order("727")["total"] == 3300


def test_youzan_reads_success_and_a_later_fate_leaves_the_money_alone(stack: Shops) -> None:
    shop = stack.add_shop(preset="youzan", secret=shops.SECRET)
    fate = {"tid": "E20260301163000068500001", "update_time": "2026-03-05 10:00:00"}
    for kind, message in (
        ("trade_TradeSuccess", fate),
        ("trade_TradePaid", shops.youzan_trade()),
    ):
        body = shops.youzan_message(kind, message)
        told = stack.post(shop, body, shops.youzan_headers(body, kind)).json()
        assert (told["code"], told["msg"], told["accepted"]) == (0, "success", 1)
    stack.wait_for(shop, 2)
    kept = stack.read_order("E20260301163000068500001")
    assert (kept["status"], kept["total"], kept["currency"]) == ("completed", 13914, "CNY")


@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({}, 403, "hook_not_configured"),
        ({"preset": "shopify"}, 403, "missing_secret"),
        ({"preset": "shopify", "secret": "another"}, 401, "bad_signature"),
    ],
)
def test_nothing_is_taken_without_the_right_secret(
    stack: Shops, settings: dict[str, Any], status: int, code: str
) -> None:
    shop = stack.add_shop(**settings)
    body = shops.to_body(shops.shopify_order())
    answer = stack.post(shop, body, shops.shopify_headers(body, "orders/create"))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert stack.read_account(shop).received == 0


def test_a_source_that_is_unknown_or_disabled_takes_no_hook(stack: Shops) -> None:
    shop = stack.add_shop(preset="shopify", secret=shops.SECRET)
    with stack.database.transaction() as connection:
        patch_source(driver(connection), shop.source_id, disabled=True)
    stack.directory.refresh()
    answer = stack.post(shop, b"{}", {})
    assert (answer.status_code, answer.json()["code"]) == (403, "source_disabled")
    unknown = stack.post(Sender("src_nobody", 0, ""), b"{}", {})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "source_not_found")
    wrong = httpx.get(f"{stack.url}/v1/hooks/{shop.source_id}", trust_env=False)
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
