"""What the members of companies and households come to, and how these are found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cdp import account_activity_routes
from cdp.access import tokens_store
from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.accounts import routes
from cdp.accounts.account import AccountSaid, MemberSaid
from cdp.accounts.accounts_store import PlacedAccount, write_accounts
from cdp.model import Event, Source
from cdp.orders.order import Report
from cdp.orders.orders_store import PlacedReport, write_reports
from cdp.runtime.clock import now
from cdp.runtime.error_answers import install_error_answers
from cdp.service.service_store import write_service
from cdp.storage.database import Database, driver
from tests.support.committed import Batch, committing

SPRING = datetime(2026, 3, 1, 12, tzinfo=UTC)
DESK = Source("src_desk", 0, "desk", "service")


@pytest.fixture
def client(database: Database) -> TestClient:
    routers = [
        routes.create_router(database, lambda name: name, "CNY"),
        account_activity_routes.create_router(database, lambda name: name),
    ]
    app = FastAPI()
    for router in routers:
        app.include_router(router)
    app.add_middleware(Guard, routes=read_requirements(routers), tokens=TokenDirectory(database))
    install_error_answers(app)
    return as_token(app, database, "profiles:read", "pii:read")


def as_token(app: Any, database: Database, *scopes: str) -> TestClient:
    with database.transaction() as connection:
        token = tokens_store.create_token(driver(connection), "t", scopes)[1]
    return TestClient(app, headers={"Authorization": f"Bearer {token}"})


def tell(batch: Batch, account_id: str, members: Mapping[int, str] = {}, **said: Any) -> None:
    """Say something of an account; ``type`` and ``parent`` are its fields."""
    fields = {name: said.pop(name) for name in ("type", "parent") if name in said}
    placed = [(node, MemberSaid(True, role, True)) for node, role in members.items()]
    account = AccountSaid(account_id, SPRING, f"a-{account_id}", fields, said)
    changed = write_accounts(batch.tx, [PlacedAccount(account, 0, placed)])
    batch.changes.accounts |= changed.accounts


def buy(batch: Batch, node: int, order_id: str, total: int, currency: str = "CNY") -> None:
    at = SPRING + timedelta(hours=len(order_id))
    said = Report(
        order_id, "record", at, f"o-{order_id}", placed_at=at, currency=currency, total=total
    )
    batch.changes.orders |= write_reports(batch.tx, [PlacedReport("", 0, node, said)], "CNY")


def open_ticket(batch: Batch, node: int) -> None:
    told = Event(DESK, f"t{node}", "track", "Ticket Created", SPRING, SPRING, (), b"{}", b"{}")
    write_service(batch.tx, [(told, node)])


def figures(client: TestClient, account_id: str, part: str = "figures") -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/accounts/{account_id}").json()[part]
    return found


def cny(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "CNY"}


def test_members_are_counted_once_also_after_two_of_them_became_one(
    client: TestClient, database: Database
) -> None:
    with committing(database) as batch:
        ann, anna, bob = (batch.add_person(name) for name in ("ann", "anna", "bob"))
        batch.tx.execute(
            "UPDATE nodes SET last_seen = %s WHERE node_id = %s",
            (now() - timedelta(days=31), bob),
        )
        roles = {ann: "payer", anna: "decision maker", bob: "influencer"}
        tell(batch, "acme", roles, type="household")
        for node in (ann, anna):
            buy(batch, node, f"o{node}", 1_000)
            open_ticket(batch, node)
    before = figures(client, "acme")
    assert (before["members"], before["active_members"], before["open_tickets"]) == (3, 2, 2)

    with committing(database) as batch:
        batch.merge([anna], ann)
    after = client.get("/v1/accounts/acme").json()
    told = after["figures"]
    assert (told["members"], told["active_members"], told["open_tickets"]) == (2, 1, 2)
    assert (told["orders"], told["reporting"]["net"]) == (2, cny(2_000))
    assert len(after["members"]) == 2
    assert {row["role"] for row in after["members"]} == {"payer", "influencer"}


def test_revenue_is_told_in_one_currency_once_there_are_rates(
    client: TestClient, database: Database
) -> None:
    with committing(database) as batch:
        ann = batch.add_person("ann")
        tell(batch, "acme", {ann: "user"})
        buy(batch, ann, "1", 1_000)
        for order_id in ("22", "23"):
            buy(batch, ann, order_id, 101, "USD")
    assert figures(client, "acme")["reporting"] is None
    assert figures(client, "acme")["missing_rates"][0]["orders"] == 2
    with database.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO rates VALUES ('USD', 'CNY', '2026-03-01', 7.125)")
    # Twice 7.19625, each rounded.
    assert figures(client, "acme")["reporting"]["net"] == cny(1_000 + 2 * 720)
    assert figures(client, "acme")["net_revenue"] == [
        cny(1_000), {"amount": 202, "currency": "USD"},
    ]  # fmt: skip


def test_what_stands_below_is_rolled_up_with_each_person_once(
    client: TestClient, database: Database
) -> None:
    with committing(database) as batch:
        ann, bob = batch.add_person("ann"), batch.add_person("bob")
        tell(batch, "group")
        tell(batch, "acme", {ann: "user"}, parent="group")
        tell(batch, "shop", {ann: "user", bob: "payer"}, parent="acme")
        # A circle below does no harm.
        tell(batch, "acme.cn", {bob: "user"}, parent="shop")
        tell(batch, "acme.eu", parent="acme.eu.x")
        tell(batch, "acme.eu.x", parent="acme.eu")
        buy(batch, ann, "1", 1_000)
        buy(batch, bob, "22", 500)
    rollup = figures(client, "group", "rollup")

    assert (rollup["accounts"], rollup["members"]) == (4, 2)
    assert rollup["reporting"]["net"] == cny(1_500)
    assert figures(client, "group")["members"] == 0
    assert client.get("/v1/accounts/acme.cn").json()["rollup"] is None
    assert figures(client, "acme.eu", "rollup")["accounts"] == 2


def test_orders_and_events_of_members_are_one_list_each(
    client: TestClient, database: Database
) -> None:
    with committing(database) as batch:
        ann, bob, eve = (batch.add_person(name) for name in ("ann", "bob", "eve"))
        tell(batch, "acme", {ann: "user", bob: "user"})
        tell(batch, "shop", {eve: "user"}, parent="acme")
        for number in range(1, 6):
            node = ann if number % 2 else bob
            buy(batch, node, "x" * number, 100)
            batch.add_event(node, f"E{number % 3}", at=SPRING + timedelta(hours=number))
        batch.add_event(eve, "E1", at=SPRING)

    assert read_all(client, "acme/orders", "order_id") == ["xxxxx", "xxxx", "xxx", "xx", "x"]
    assert read_all(client, "acme/events", "event") == ["E2", "E1", "E0", "E2", "E1"]
    assert read_all(client, "acme/events?event=E1", "profile_id") == [
        "prf_user_id_bob", "prf_user_id_ann",
    ]  # fmt: skip
    assert len(read_all(client, "acme/events?below=true", "event")) == 6
    assert client.get("/v1/accounts/nobody/orders").json()["code"] == "account_not_found"


def read_all(client: TestClient, path: str, column: str) -> list[Any]:
    found, cursor = [], None
    while True:
        more = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = client.get(f"/v1/accounts/{path}{'&' if '?' in path else '?'}" + "&".join(
            f"{name}={value}" for name, value in more.items()
        )).json()  # fmt: skip
        found += [row[column] for row in page["data"]]
        cursor = page["next"]
        if cursor is None:
            return found


def test_accounts_are_found_by_type_traits_and_the_beginning_of_id_or_name(
    client: TestClient, database: Database
) -> None:
    with committing(database) as batch:
        tell(batch, "acme", type="company", name="大公司", plan="pro", seats=50)
        tell(batch, "ACM2", type="company", name="Bigger 100%", plan="pro", seats=5)
        tell(batch, "home", type="household", name="Acme family", plan="free")

    def found(query: str, asked: TestClient = client) -> list[str]:
        rows = asked.get(f"/v1/accounts?{query}").json()["data"]
        return [row["account_id"] for row in rows]

    assert found("type=household") == ["home"]
    assert found("trait.plan=pro&trait.seats=50") == ["acme"]
    assert found("q=acm") == ["acme", "ACM2", "home"]
    assert found("q=大公") == ["acme"]
    assert found("q=%25") == []
    blind = as_token(client.app, database, "profiles:read")
    assert found("q=acm", blind) == ["acme", "ACM2"]
    assert blind.get("/v1/accounts?trait.name=x").status_code == 403
