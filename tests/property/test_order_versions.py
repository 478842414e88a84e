"""Whatever the order, repetition and batching in which versions of an order come to a real worker,

the order is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.postgres_log import PostgresLog
from cdp.storage.database import Database, driver
from cdp.worker import Worker
from tests.support.postgres import PostgresServer
from tests.support.wire import append_events, append_orders, track

_hours = st.integers(0, 4).map(lambda hour: f"2026-03-01T{hour:02}:00:00Z")
# What is dated far ahead counts from its receipt, and is the newest here.
_versions = st.one_of(_hours, _hours, _hours, st.just("2099-01-01T00:00:00Z"))
_people = st.lists(
    st.sampled_from(("ann", "bob")).map(lambda name: {"type": "user_id", "value": name}), max_size=1
)
_order_ids = st.sampled_from(("1", "2"))
_totals = st.sampled_from((0, 10, 99.95, "1.005"))
_currencies = st.sampled_from(({}, {"currency": "JPY"}, {"currency": "KWD"}, {"currency": "CNY"}))
_refunds = st.lists(
    st.fixed_dictionaries(
        {"refund_id": st.sampled_from(("r1", "r2"))},
        optional={"amount": st.sampled_from((5, 10)), "at": _hours},
    ),
    max_size=2,
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """A whole order or a part of one, as a back office, a hook or an import posts it."""
    order = {
        "order_id": draw(_order_ids),
        "updated_at": draw(_versions),
        "identifiers": draw(_people),
        "refunds": draw(_refunds),
        **draw(_currencies),
    }
    if draw(st.integers(0, 3)) == 0:
        status = draw(st.sampled_from(({}, {"status": "cancelled"})))
        return {**order, "currency": order.get("currency", "CNY"), "partial": True, **status}
    return {**order, "total": draw(_totals), "status": draw(st.sampled_from(("pending", "paid")))}


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """What an SDK tells of an order."""
    name = draw(st.sampled_from(("Completed", "Updated", "Refunded", "Cancelled")))
    at = draw(_hours)
    properties = {
        "order_id": draw(_order_ids),
        "total": draw(_totals),
        **draw(_currencies),
        **draw(st.sampled_from(({}, {"refund_id": "r1"}))),
    }
    # A message id means one event, whoever it names.
    message_id = f"{name}-{at}-{sorted(properties.items())}"
    event = track(f"Order {name}", message_id, userId=draw(st.sampled_from(("ann", "bob"))))
    return {**event, "timestamp": at, "properties": properties}


Told = tuple[int, dict[str, Any]]
"""Which source says it, and what."""


class World:
    """One log, one worker, two sources with one numbering; emptied before each run."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.log = PostgresLog(database, 2)
        rules = default_rules("CN")
        with database.transaction() as connection:
            tx = driver(connection)
            salt = ensure_salt(tx)
            self.sources = [
                create_source(tx, kind, kind, {})[0].source_id  # type: ignore[arg-type]
                for kind in ("erp", "server")
            ]
        identity = IdentityStore(rules, salt)
        self.worker = Worker(
            database,
            self.log,
            SourceDirectory(database),
            identity,
            partial(identify_claims, rules=rules),
        )

    def run(self, told: list[Told], cuts: list[int]) -> list[tuple[Any, ...]]:
        """Tell everything, cut into requests that are worked off one by one; show the orders."""
        with self.database.transaction() as connection:
            connection.exec_driver_sql("TRUNCATE orders, order_reports, ledger, events")
        edges = sorted({0, len(told), *(cut % (len(told) + 1) for cut in cuts)})
        for start, end in pairwise(edges):
            for number, source_id in enumerate(self.sources):
                piece = [one for source, one in told[start:end] if source == number]
                append_orders(self.log, source_id, [one for one in piece if "type" not in one])
                append_events(self.log, source_id, [one for one in piece if "type" in one])
            while self.worker.step(0):
                pass
        with self.database.transaction() as connection:
            rows = connection.exec_driver_sql(
                """SELECT o.order_id, n.value, o.total, o.refunded, o.status, o.placed_at,
                          o.updated_at, o.document::text
                     FROM orders o LEFT JOIN nodes n USING (node_id) ORDER BY 1"""
            )
            return [tuple(row) for row in rows]


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer) -> Iterator[World]:
    with postgres_server.fresh_url() as url:
        database = Database(url)
        world = World(database)
        yield world
        world.worker.close()
        world.log.close()
        database.close()


_few = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@_few
@given(
    st.lists(st.tuples(st.integers(0, 1), st.one_of(records(), events())), min_size=1, max_size=8),
    st.lists(st.integers(0, 12), max_size=4),
    st.randoms(use_true_random=False),
)
def test_any_order_and_repetition_of_versions_gives_the_same_orders(
    world: World, told: list[Told], cuts: list[int], random: Any
) -> None:
    told = list(
        {(source, one.get("messageId", repr(one))): (source, one) for source, one in told}.values()
    )
    wanted = world.run(told, [])
    again = told + told[: len(told) // 2]
    random.shuffle(again)
    assert world.run(again, cuts) == wanted
