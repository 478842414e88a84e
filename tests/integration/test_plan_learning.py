"""Traffic becomes figures: counted once, whatever happens between, and gone when it is erased."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.plan.learner_engine import Learner
from cdp.plan.observed import EventKey, Observed, ObservedEvent, share_of
from cdp.plan.observed_engine import read_learned, read_observed
from cdp.plan.show_observed import show_observed
from cdp.storage.database import Database, driver
from tests.support.committed import committing

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def source(database: Database) -> int:
    with database.transaction() as connection:
        row = (
            driver(connection)
            .execute(
                "INSERT INTO sources (source_id, name, type) VALUES ('src_1', 'web', 'web')"
                " RETURNING number"
            )
            .fetchone()
        )
    assert row is not None
    return int(row[0])


def observe(engine: Engine) -> Observed:
    with engine.cursor() as duck:
        return read_observed(duck)


def find(engine: Engine, event: str, kind: str = "track") -> ObservedEvent:
    return observe(engine)[EventKey("src_1", kind, event)]


def order(number: int, **more: Any) -> dict[str, Any]:
    products = [{"sku": f"s{number}", "price": 1.5}, {"sku": "gift"}]
    return {"order_id": str(number), "total": 10 + number, "products": products, **more}


def test_events_are_counted_with_their_properties(
    database: Database, engine: Engine, feed: Feed, source: int
) -> None:
    with committing(database) as batch:
        ann = batch.add_person("ann")
        for number in range(8):
            more: dict[str, Any] = {"coupon": "X"} if number % 4 == 0 else {}
            if number == 1:
                more = {"total": 9.5}
            elif number == 2:
                more = {"coupon": None}
            batch.add_event(ann, "Order Completed", order(number, **more), source=source, at=NOON)
        batch.add_event(ann, "Home", {"path": "/"}, source=source, kind="page")
        batch.add_event(ann, "Cart", {"path": "/cart"}, source=source, kind="page")
        batch.add_event(ann, None, {"age": 3}, source=source, kind="identify")
    feed.step(0)
    Learner(engine).catch_up()

    found = find(engine, "Order Completed")
    assert (found.count, found.read, found.first_seen, found.last_seen) == (8, 8, NOON, NOON)
    shares = {path: share_of(found, one) for path, one in found.properties.items()}
    types = {path: dict(one.types) for path, one in found.properties.items()}
    assert shares == {
        "/coupon": 0.375, "/order_id": 1, "/products": 1, "/total": 1,
        "/products/*": 1, "/products/*/sku": 1, "/products/*/price": 0.5,
    }  # fmt: skip
    assert types["/total"] == {"integer": 7, "number": 1}
    assert types["/coupon"] == {"string": 2, "null": 1}
    assert types["/products"] == {"array": 8}
    assert types["/products/*/price"] == {"number": types["/products/*/price"]["number"]}
    assert find(engine, "", "page").count == 2
    assert find(engine, "", "identify").properties["/age"].types == {"integer": 1}


def test_a_batch_is_counted_once_whoever_starts_again(
    database: Database, engine: Engine, feed: Feed, source: int
) -> None:
    for _ in range(3):
        with committing(database) as batch:
            batch.add_event(batch.add_person(f"p{batch.batch_id}"), "Seen", {"a": 1}, source=source)
        feed.step(0)
        learner = Learner(engine)
        learner.catch_up()
        learner.catch_up()
    assert find(engine, "Seen").count == 3
    with engine.cursor() as duck:
        assert read_learned(duck).seq == engine.applied_seq() == 3


def test_batches_without_events_are_passed(
    database: Database, engine: Engine, feed: Feed, source: int
) -> None:
    with committing(database) as batch:
        batch.add_event(batch.add_person("ann"), "Seen", {}, source=source)
    with committing(database) as batch:
        batch.add_person("bob")
    feed.step(0)
    learner = Learner(engine)
    assert learner.step()
    assert not learner.step()
    with engine.cursor() as duck:
        assert read_learned(duck).seq == 2


def test_a_step_that_fails_leaves_no_trace_and_is_done_again(
    database: Database,
    engine: Engine,
    feed: Feed,
    source: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with committing(database) as batch:
        batch.add_event(batch.add_person("ann"), "Seen", {"a": 1}, source=source)
    feed.step(0)
    learner = Learner(engine, clock=iter([0.0] * 4 + [100.0] * 4).__next__)
    with monkeypatch.context() as patched:
        patched.setattr("cdp.plan.learner_engine.write_observed", _fail_after_writing)
        learner.look()
    assert observe(engine) == {}
    learner.look()
    assert find(engine, "Seen").count == 1


def _fail_after_writing(duck: Any, changed: Any, learned: Any) -> None:
    from cdp.plan.observed_engine import write_observed

    write_observed(duck, changed, learned)
    raise OSError("the disk is full")


def test_a_file_that_was_fed_again_is_learned_again(
    database: Database, engine: Engine, feed: Feed, source: int
) -> None:
    with committing(database) as batch:
        batch.add_event(batch.add_person("ann"), "Seen", {"a": 1}, source=source)
    learner = Learner(engine)
    feed.step(0)
    learner.catch_up()
    feed.rebuild()
    assert observe(engine) == {}
    learner.catch_up()
    assert find(engine, "Seen").count == 1


def test_examples_differ_are_masked_and_go_with_the_person(
    database: Database, engine: Engine, feed: Feed, source: int
) -> None:
    with committing(database) as batch:
        ann, bob = batch.add_person("ann"), batch.add_person("bob")
        for number in range(20):
            properties = {"city": "上海", "email": "ann@example.com", "sku": f"s{number}"}
            batch.add_event(ann, "Seen", properties, source=source)
        batch.add_event(bob, "Seen", {"city": "北京", "email": "bob@example.com"}, source=source)
    feed.step(0)
    Learner(engine).catch_up()

    def show(*, sees_personal: bool) -> dict[str, list[Any]]:
        with engine.cursor() as duck:
            (row,) = show_observed(duck, observe(engine), sees_personal=sees_personal)
        return {one["path"]: one["examples"] for one in row["properties"]}

    plain = show(sees_personal=True)
    assert set(plain["/city"]) == {"上海", "北京"}
    assert len(plain["/sku"]) == 3
    assert set(plain["/email"]) == {"ann@example.com", "bob@example.com"}
    assert set(show(sees_personal=False)["/email"]) == {"a***", "b***"}

    with committing(database) as batch:
        batch.erase(bob)
    feed.step(0)
    assert show(sees_personal=True)["/email"] == ["ann@example.com"]


def test_names_made_of_ids_do_not_fill_the_table(
    database: Database, engine: Engine, feed: Feed, source: int
) -> None:
    with committing(database) as batch:
        ann = batch.add_person("ann")
        for number in range(1100):
            batch.add_event(ann, f"Clicked {number}", {}, source=source)
        batch.add_event(ann, "Map", {f"key {n}": n for n in range(400)}, source=source)
        batch.add_event(ann, "Map", {f"key {n}": n for n in range(400)}, source=source)
    feed.step(0)
    Learner(engine).catch_up()
    observed = observe(engine)
    assert len(observed) == 1000
    found = find(engine, "Map")
    assert (len(found.properties), found.is_truncated) == (300, True)
