"""Orders in DuckDB: fed from Postgres as they stand, and whom a report of one touches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.orders.order import Line, Refund, Report
from cdp.orders.orders_store import PlacedReport, write_reports
from cdp.segments.membership_store import read_touched
from cdp.storage.database import Database, driver
from tests.support.committed import Batch, committing

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def tell(batch: Batch, node: int | None, hours: int = 0, **said: Any) -> None:
    """Report on order 1001, ``hours`` after noon."""
    report = Report(
        **{
            "order_id": "1001",
            "kind": "record",
            "at": NOON + timedelta(hours=hours),
            "message_id": f"m{hours}",
            "placed_at": NOON,
            "currency": "CNY",
            **said,
        }
    )
    placed = PlacedReport("", 1, node, report)
    batch.changes.orders |= write_reports(batch.tx, [placed], "CNY")


def rows(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in engine.read(sql).to_pylist()]


def test_an_order_and_its_lines_arrive_with_their_buyer(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann = batch.add_person("ann")
        lines = (Line("tea", "绿茶", "茶", 3, 2_505), Line(sku="gift"), Line(quantity=0.5, price=3))
        refunds = (Refund("r1", 1_000),)
        tell(batch, ann, total=7_517, status="paid", store="s1", lines=lines, refunds=refunds)

    step = feed.step(0)

    assert step.touched == {ann}
    assert rows(engine, "FROM orders") == [
        (
            "1001", "prf_user_id_ann", "paid", "CNY", 7_517, 1_000, 6_517, "s1", None, NOON, NOON,
        )
    ]  # fmt: skip
    assert rows(engine, "FROM order_lines") == [
        ("1001", "tea", "绿茶", "茶", 3.0, 2_505, 7_515),
        ("1001", "gift", None, None, 1.0, None, None),
        ("1001", None, None, None, 0.5, 3, 2),
    ]


def test_a_newer_version_replaces_the_order_and_its_lines(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        tell(batch, batch.add_person("ann"), total=100, lines=(Line("a"), Line("b")))
    feed.step(0)
    with committing(database) as batch:
        tell(batch, None, hours=1, total=300, lines=(Line("c"),))
    feed.step(0)
    assert rows(engine, "SELECT profile_id, total FROM orders") == [("prf_user_id_ann", 300)]
    assert rows(engine, "SELECT sku FROM order_lines") == [("c",)]


def test_an_order_without_a_person_is_there_and_joins_whom_a_later_version_names(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann = batch.add_person("ann")
        tell(batch, None, total=100)
    feed.step(0)
    assert rows(engine, "SELECT profile_id, total FROM orders") == [(None, 100)]
    with committing(database) as batch:
        tell(batch, ann, hours=1, total=100)
    assert feed.step(0).touched == {ann}
    assert rows(engine, "SELECT profile_id FROM orders") == [("prf_user_id_ann",)]


def test_an_order_that_changes_hands_touches_who_had_it_and_who_has_it(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann, bob = batch.add_person("ann"), batch.add_person("bob")
        tell(batch, ann, total=100)
    feed.step(0)
    with committing(database) as batch:
        tell(batch, bob, hours=1, total=100)
    assert feed.step(0).touched == {ann, bob}
    with database.transaction() as connection:
        assert sorted(read_touched(driver(connection), 1, 2).profiles) == [ann, bob]


def test_an_order_touches_the_profile_that_its_buyer_has_been_merged_into(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann, guest = batch.add_person("ann"), batch.add_person("g", "anonymous_id")
        tell(batch, guest, total=100)
    with committing(database) as batch:
        batch.merge([guest], into=ann)
    feed.step(0)
    assert rows(engine, "SELECT profile_id FROM orders") == [("prf_user_id_ann",)]
    with committing(database) as batch:
        tell(batch, None, hours=1, total=200)
    assert feed.step(0).touched == {ann}


def test_contacts_in_an_order_are_masked_as_everywhere(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        tell(batch, batch.add_person("ann"), store="shop@example.com", lines=(Line("a", "Tea"),))
    feed.step(0)
    assert rows(engine, "SELECT store FROM masked.orders") == [("***",)]
    assert rows(engine, "SELECT name FROM masked.order_lines") == [("Tea",)]


def test_a_rebuild_gives_the_same_orders(database: Database, engine: Engine, feed: Feed) -> None:
    with committing(database) as batch:
        tell(batch, batch.add_person("ann"), total=100, lines=(Line("a"), Line("b")))
    feed.step(0)
    with committing(database) as batch:
        tell(batch, None, hours=1, total=300, lines=(Line("c"), Line("d")))
    feed.step(0)
    before = rows(engine, "FROM orders"), rows(engine, "FROM order_lines")
    feed.rebuild()
    assert (rows(engine, "FROM orders"), rows(engine, "FROM order_lines")) == before


def test_a_backlog_of_orders_is_taken_in_bounded_pieces(
    database: Database, engine: Engine, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_most_events", 2)
    for hours in range(5):
        with committing(database) as batch:
            tell(batch, None, hours=hours, total=hours)
    assert [feed.step(0).batches for _ in range(3)] == [2, 2, 1]
    assert rows(engine, "SELECT total FROM orders") == [(4,)]
