"""What the demo's people did, told twice: sent through worker and feed, and kept as plain facts.

The facts come from the calls alone. Only whose a call is is asked of the tables, by its message.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from cdp.analytics.feed import Feed
from cdp.demo.history import Call, generate
from cdp.log.postgres_log import PostgresLog
from cdp.model import Source
from tests.support.outcome_stack import OutcomeStack
from tests.support.segments import Served
from tests.support.wire import append_events

ZONE = ZoneInfo("Asia/Shanghai")
END = datetime(2025, 3, 1, tzinfo=UTC)
# The snapshot: a few days before the end, so that there are later orders to be left out.
TODAY = date(2025, 2, 24)
SNAPSHOT = datetime(2025, 2, 24, 23, 59, 59, 999_999, tzinfo=ZONE)


@dataclass
class Order:
    order_id: str
    at: datetime
    total: int
    channel: str
    store: str | None
    categories: set[str]
    refunded: int = 0

    @property
    def net(self) -> int:
        """Minor units after refunds."""
        return self.total - self.refunded

    @property
    def day(self) -> date:
        """The date in the workspace's time zone."""
        return self.at.astimezone(ZONE).date()


@dataclass
class Said:
    """An event with a name, until the snapshot."""

    event: str
    at: datetime
    message_id: str
    properties: dict[str, Any]

    @property
    def day(self) -> date:
        """The date in the workspace's time zone."""
        return self.at.astimezone(ZONE).date()


@dataclass
class Facts:
    """Of one person, until the snapshot."""

    orders: list[Order] = field(default_factory=list)
    events: list[Said] = field(default_factory=list)
    is_known: bool = False
    """By more than a device."""

    @property
    def counted(self) -> list[Order]:
        """Orders that are worth something, by time."""
        return sorted((o for o in self.orders if o.net > 0), key=lambda order: order.at)

    @property
    def days(self) -> list[date]:
        """Different days of counted orders, rising."""
        return sorted({order.day for order in self.counted})


def read_time(text: str) -> datetime:
    """Read a time of the wire."""
    return datetime.fromisoformat(text)


def tell_history(served: Served, people: int, days: int) -> dict[str, Facts]:
    """Send the history of ``people`` over ``days``; return everybody's facts by profile id."""
    lives = list(generate(3, people, days, END))
    calls = [call for life in lives for call in [*life, *_odd_answers(life)]]
    stack = OutcomeStack(served.database, PostgresLog(served.database, 2))
    sources: dict[str, Source] = {}
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        by_source[call.source].append(call.document)
    for name, documents in by_source.items():
        sources[name] = stack.make_source(name, name)
        append_events(stack.log, sources[name].source_id, documents, request_id=f"req_{name}")
    stack.work()
    feed = Feed(served.database, served.engine)
    feed.catch_up()
    feed.close()
    stack.log.close()
    return _keep_facts(served, [call.document for call in calls])


def _odd_answers(life: list[Call]) -> list[Call]:
    """Every third person who answered answers once more, and once with what is no score."""
    answers = [call for call in life if call.document.get("event") == "NPS Answered"]
    more: list[Call] = []
    for call in answers:
        document = call.document
        number = int(document["messageId"].split("-")[1])
        if number % 3:
            continue
        said = document["properties"]
        for name, score, hour in (("again", (number * 7) % 11, "20"), ("odd", 11, "21")):
            changed = {
                "messageId": f"{document['messageId']}-{name}",
                "timestamp": f"{document['timestamp'][:11]}{hour}:30:00.000Z",
                "properties": {**said, "score": score},
            }
            more.append(Call(call.source, {**document, **changed}))
    return more


def _keep_facts(served: Served, calls: list[dict[str, Any]]) -> dict[str, Facts]:
    rows = served.engine.read("SELECT message_id, profile_id FROM events").to_pylist()
    owner = {row["message_id"]: row["profile_id"] for row in rows}
    assert len(owner) == len(calls)
    everybody = served.engine.read("SELECT profile_id FROM profiles").to_pylist()
    facts = {row["profile_id"]: Facts() for row in everybody}
    known = served.engine.read(
        """SELECT DISTINCT profile_id FROM identifiers
            WHERE type NOT IN ('anonymous_id', 'device_id')"""
    )
    for profile_id in known["profile_id"].to_pylist():
        facts[profile_id].is_known = True
    orders: dict[str, Order] = {}
    for call in calls:
        at, person = read_time(call["timestamp"]), facts[owner[call["messageId"]]]
        properties = call.get("properties", {})
        name = call["type"] if call["type"] in ("page", "screen") else call.get("event")
        if name is not None and at <= SNAPSHOT:
            person.events.append(Said(name, at, call["messageId"], properties))
        if name == "Order Completed":
            order = _read_order(properties, at)
            orders[order.order_id] = order
            if at <= SNAPSHOT:
                person.orders.append(order)
    for call in calls:
        if call.get("event") == "Order Refunded":
            properties = call["properties"]
            orders[properties["order_id"]].refunded += round(properties["total"] * 100)
    return facts


def _read_order(properties: dict[str, Any], at: datetime) -> Order:
    return Order(
        properties["order_id"],
        at,
        round(properties["total"] * 100),
        properties["channel"],
        properties.get("store"),
        {line["category"] for line in properties["products"]},
    )
