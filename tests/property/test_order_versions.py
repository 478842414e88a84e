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
_people = st.lists(
    st.sampled_from(("ann", "bob")).map(lambda name: {"type": "user_id", "value": name}), max_size=1
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    order = {
        "order_id": draw(st.sampled_from(("1", "2"))),
        "updated_at": draw(_hours),
        "identifiers": draw(_people),
        "total": draw(st.sampled_from((0, 10, 99.95))),
        "status": draw(st.sampled_from(("pending", "paid"))),
    }
    if draw(st.booleans()):
        order["refunds"] = [{"refund_id": "r", "amount": draw(st.sampled_from((5, 10)))}]
    return order


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(("Completed", "Updated", "Refunded", "Cancelled")))
    order_id, at = draw(st.sampled_from(("1", "2"))), draw(_hours)
    total = draw(st.sampled_from((0, 10, 99.95)))
    message_id = f"{name}-{order_id}-{at}-{total}"
    event = track(f"Order {name}", message_id, userId=draw(st.sampled_from(("ann", "bob"))))
    return {**event, "timestamp": at, "properties": {"order_id": order_id, "total": total}}


class World:
    """One log, one worker, one source; emptied before each run."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.log = PostgresLog(database, 2)
        rules = default_rules("CN")
        with database.transaction() as connection:
            tx = driver(connection)
            salt = ensure_salt(tx)
            self.source_id = create_source(tx, "erp", "erp", {})[0].source_id
        identity = IdentityStore(rules, salt)
        self.worker = Worker(
            database,
            self.log,
            SourceDirectory(database),
            identity,
            partial(identify_claims, rules=rules),
        )

    def run(self, told: list[dict[str, Any]], cuts: list[int]) -> list[tuple[Any, ...]]:
        """Tell everything, cut into requests that are worked off one by one; show the orders."""
        with self.database.transaction() as connection:
            connection.exec_driver_sql("TRUNCATE orders, order_reports, ledger, events")
        edges = sorted({0, len(told), *(cut % (len(told) + 1) for cut in cuts)})
        for start, end in pairwise(edges):
            piece = told[start:end]
            append_orders(self.log, self.source_id, [one for one in piece if "type" not in one])
            append_events(self.log, self.source_id, [one for one in piece if "type" in one])
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
    st.lists(st.one_of(records(), events()), min_size=1, max_size=8),
    st.lists(st.integers(0, 12), max_size=4),
    st.randoms(use_true_random=False),
)
def test_any_order_and_repetition_of_versions_gives_the_same_orders(
    world: World, told: list[dict[str, Any]], cuts: list[int], random: Any
) -> None:
    # A message id means one event, whoever it names.
    told = list({one.get("messageId", repr(one)): one for one in told}.values())
    wanted = world.run(told, [])
    again = told + told[: len(told) // 2]
    random.shuffle(again)
    assert world.run(again, cuts) == wanted
