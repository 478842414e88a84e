"""What the demo's people did: the calls that a shop's systems would have sent. Pure.

Same seed, same number of people, same days and same end: the same calls, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any, Literal, NamedTuple

from cdp.demo.names import (
    CAMPAIGNS,
    PRODUCTS,
    REFUND_REASONS,
    REVIEWS,
    STORES,
    TICKET_SUBJECTS,
    Product,
)
from cdp.demo.people import Person, make_person, pick, seeded
from cdp.runtime.clock import format_time

SourceName = Literal["web", "app", "store", "crm", "service", "server"]

DEFAULT_DAYS = 200
"""Long enough that the first orders lie further back than a forecast of value asks for."""

# Shanghai is eight hours ahead: most of life there is between 01:00 and 15:00 UTC.
_WAKING_HOURS = tuple(range(1, 15))
# Visitors who never say who they are, per person who does.
_VISITORS_PER_PERSON = 0.4


class Call(NamedTuple):
    """One call, and the system that would have sent it."""

    source: SourceName
    document: dict[str, Any]


def generate(seed: int, people: int, days: int, end: datetime) -> Iterator[list[Call]]:
    """Yield the calls of one person after another, visitors in between, each in time order.

    Everything happens in the ``days`` before ``end``.
    """
    due = 0.0
    for index in range(people):
        yield _Life(seed, make_person(seed, index), days, end).tell()
        due += _VISITORS_PER_PERSON
        if due >= 1:
            due -= 1
            yield _visit(seed, index, days, end)


def count_lives(people: int) -> int:
    """Return how many lists ``generate`` yields, for a progress bar."""
    return people + int(people * _VISITORS_PER_PERSON + 1e-9)


class _Life:
    """One person's history as it unfolds."""

    def __init__(self, seed: int, person: Person, days: int, end: datetime) -> None:
        self._draw = seeded(seed, "life", person.number)
        self._person = person
        self._days = days
        self._end = end
        self._calls: list[tuple[datetime, Call]] = []
        self._known_on: set[str] = set()
        self._joined: datetime | None = None
        self._orders = 0

    def tell(self) -> list[Call]:
        draw, person = self._draw, self._person
        arrived = draw.randrange(max(1, int(self._days * 0.85)))
        span = self._days - arrived
        sessions = 2 + int(person.liveliness * span / 30 * draw.uniform(0.6, 1.4))
        starts = sorted(self._draw_time(arrived) for _ in range(sessions))
        for number, start in enumerate(starts):
            self._session(start, number)
        if person.crm_id is not None:
            self._keep_in_crm(self._draw_time(arrived))
        if person.email is not None and draw.random() < 0.18:
            self._open_ticket(self._draw_time(arrived))
        if person.email is not None and draw.random() < 0.25:
            self._answer_survey(self._draw_time(arrived))
        self._calls.sort(key=lambda item: item[0])
        return [call for _, call in self._calls]

    def _draw_time(self, first_day: int) -> datetime:
        day = first_day + self._draw.randrange(max(1, self._days - first_day))
        start = self._end - timedelta(days=self._days - day)
        return start + timedelta(
            hours=pick(self._draw, _WAKING_HOURS),
            seconds=self._draw.randrange(3600),
            milliseconds=self._draw.randrange(1000),
        )

    # ── Where they are ──────────────────────────────────────────────────────────────────────────

    def _session(self, start: datetime, number: int) -> None:
        draw, person = self._draw, self._person
        if self._joined is not None and draw.random() < (0.25 if person.member_card else 0.05):
            self._visit_store(start)
        elif person.app_device is not None and number > 0 and draw.random() < 0.55:
            self._open_app(start)
        else:
            self._browse(start, pick(draw, person.browsers))

    def _browse(self, at: datetime, browser: str) -> None:
        draw = self._draw
        context = _browser_context(draw)
        for _ in range(1 + draw.randrange(4)):
            at = self._later(at, 8, 90)
            path = pick(draw, ("/", "/tea", "/coffee", "/gifts", "/about"))
            self._say("web", "page", at, browser, context, name=path, properties={"path": path})
        seen = self._look_around("web", at, browser, context)
        at = self._later(at, 200, 600)
        wants_to_buy = draw.random() < self._person.buys
        if browser not in self._known_on and (wants_to_buy or draw.random() < 0.45):
            self._sign_in(at, browser, context)
        if browser in self._known_on and wants_to_buy:
            self._order("web", self._later(at, 30, 300), browser, context, seen)

    def _open_app(self, at: datetime) -> None:
        device = self._person.app_device
        assert device is not None
        context = {
            "app": {"name": "Chaye", "version": "3.2.0"},
            "device": {"id": device, "type": pick(self._draw, ("ios", "android"))},
            "os": {"name": pick(self._draw, ("iOS", "Android"))},
        }
        anonymous = device.lower()
        self._say("app", "track", at, anonymous, context, event="Application Opened")
        for _ in range(1 + self._draw.randrange(3)):
            at = self._later(at, 5, 60)
            screen = pick(self._draw, ("Home", "Category", "Cart", "Membership"))
            self._say("app", "screen", at, anonymous, context, name=screen)
        seen = self._look_around("app", at, anonymous, context)
        at = self._later(at, 200, 600)
        if anonymous not in self._known_on:
            self._sign_in(at, anonymous, context)
        if self._draw.random() < self._person.buys:
            self._order("app", self._later(at, 30, 300), anonymous, context, seen)

    def _visit_store(self, at: datetime) -> None:
        """They sign in on the store's tablet, as many others do, or just pay at the till."""
        draw, person = self._draw, self._person
        store, tablets = pick(draw, STORES)
        tablet = pick(draw, tablets)
        context: dict[str, Any] = {"store": store}
        if person.member_card is not None:
            context["externalIds"] = [_external("member_card", person.member_card)]
        signs_in = draw.random() < 0.5
        if signs_in:
            context["device"] = {"id": tablet}
            self._say(
                "store", "track", at, tablet, context, user=person.user_id, event="Signed In",
                properties={"method": "tablet", "store": store},
            )  # fmt: skip
        if draw.random() < 0.7:
            at = self._later(at, 60, 900)
            anonymous = tablet if signs_in else None
            self._order("store", at, anonymous, context, _choose(draw), store=store)

    # ── What they do ────────────────────────────────────────────────────────────────────────────

    def _look_around(
        self, source: SourceName, at: datetime, anonymous: str, context: dict[str, Any]
    ) -> list[Product]:
        seen = _choose(self._draw)
        for product in seen:
            at = self._later(at, 5, 60)
            self._say(
                source, "track", at, anonymous, context,
                event="Product Viewed", properties=_as_property(product),
            )  # fmt: skip
        if self._draw.random() < 0.4:
            at = self._later(at, 5, 60)
            self._say(
                source, "track", at, anonymous, context,
                event="Product Added", properties={**_as_property(seen[0]), "quantity": 1},
            )  # fmt: skip
        return seen

    def _sign_in(self, at: datetime, anonymous: str, context: dict[str, Any]) -> None:
        person = self._person
        is_new = self._joined is None
        self._known_on.add(anonymous)
        externals = [
            _external(kind, value)
            for kind, value in (
                ("wechat_unionid", person.union_id),
                ("wechat_openid", person.open_id),
            )
            if value is not None
        ]
        said = {
            **context,
            "consent": {
                "categoryPreferences": {
                    "analytics": True,
                    "marketing": person.consents_to_marketing,
                }
            },
        }
        if externals and "app" in context:
            said["externalIds"] = externals
        traits: dict[str, Any] = {"name": person.name, "city": person.city}
        if person.email is not None:
            traits["email"] = person.email
        if person.phone is not None:
            traits["phone"] = person.phone
        if is_new:
            self._joined = at
            traits["createdAt"] = format_time(at)
        source: SourceName = "app" if "app" in context else "web"
        self._say(source, "identify", at, anonymous, said, traits=traits)
        event = "Signed Up" if is_new else "Signed In"
        self._say(source, "track", at + timedelta(milliseconds=40), anonymous, context, event=event)

    def _order(
        self,
        source: SourceName,
        at: datetime,
        anonymous: str | None,
        context: dict[str, Any],
        seen: list[Product],
        *,
        store: str | None = None,
    ) -> None:
        draw, person = self._draw, self._person
        lines = [
            {**_as_property(product), "quantity": 1 + (draw.random() < 0.2)}
            for product in seen[: 1 + draw.randrange(len(seen))]
        ]
        fen = sum(round(line["price"] * 100) * line["quantity"] for line in lines)
        self._orders += 1
        order: dict[str, Any] = {
            "order_id": f"D{person.number}-{self._orders}",
            "revenue": fen / 100,
            "total": fen / 100,
            "currency": "CNY",
            "channel": source,
            "products": lines,
        }
        if store is not None:
            order["store"] = store
        user = person.user_id
        if store is None:
            self._say(
                source, "track", at, anonymous, context, user=user, event="Checkout Started",
                properties={"value": fen / 100, "currency": "CNY"},
            )  # fmt: skip
        at = self._later(at, 20, 200)
        self._say(
            source, "track", at, anonymous, context, user=user,
            event="Order Completed", properties=order,
        )  # fmt: skip
        if draw.random() < 0.08:
            self._refund(at + timedelta(days=1 + draw.randrange(12)), order)
        if store is None:
            self._review(at, order)

    def _review(self, bought_at: datetime, order: dict[str, Any]) -> None:
        """Some write, days later and from the shop's back office, what they think of a thing."""
        draw = seeded(self._person.number, "review", self._orders)
        at = bought_at + timedelta(days=3 + draw.randrange(10), seconds=draw.randrange(3600))
        if draw.random() >= 0.15 or at >= self._end:
            return
        rating, text = pick(draw, REVIEWS)
        self._say(
            "server", "track", at, None, {}, user=self._person.user_id, event="Product Reviewed",
            properties={"product_id": pick(draw, order["products"])["product_id"],
                        "review_id": f"R{order['order_id']}", "rating": rating,
                        "review_body": text},
        )  # fmt: skip

    def _refund(self, at: datetime, order: dict[str, Any]) -> None:
        if at >= self._end:
            return
        whole = self._draw.random() < 0.6
        fen = round(order["total"] * 100)
        amount = (fen if whole else fen // 2) / 100
        self._say(
            "server", "track", at, None, {}, user=self._person.user_id, event="Order Refunded",
            properties={"order_id": order["order_id"], "total": amount, "revenue": -amount,
                        "currency": "CNY", "reason": pick(self._draw, REFUND_REASONS)},
        )  # fmt: skip

    # ── What the back office knows ──────────────────────────────────────────────────────────────

    def _keep_in_crm(self, at: datetime) -> None:
        person = self._person
        externals = [_external("crm_id", str(person.crm_id))]
        if person.member_card is not None:
            externals.append(_external("member_card", person.member_card))
        traits: dict[str, Any] = {
            "level": pick(self._draw, ("普通", "银卡", "金卡", "黑卡")),
            "birthday": person.birthday.isoformat(),
            "city": person.city,
        }
        # The CRM knows people by how they can be reached, rarely by the shop's own number.
        for contact, value in (("email", person.email), ("phone", person.phone)):
            if value is not None:
                traits[contact] = value
        user = person.user_id if self._draw.random() < 0.7 else None
        self._say("crm", "identify", at, None, {"externalIds": externals}, user=user, traits=traits)

    def _open_ticket(self, at: datetime) -> None:
        context = {"traits": {"email": self._person.email}}
        ticket = {
            "ticket_id": f"T{self._person.number}",
            "subject": pick(self._draw, TICKET_SUBJECTS),
            "priority": pick(self._draw, ("low", "normal", "high")),
        }
        self._say(
            "service",
            "track",
            at,
            None,
            context,
            user="",
            event="Ticket Created",
            properties=ticket,
        )
        solved = at + timedelta(hours=2 + self._draw.randrange(90))
        if solved < self._end:
            self._say(
                "service", "track", solved, None, context, user="", event="Ticket Solved",
                properties={**ticket, "satisfaction": 1 + self._draw.randrange(5)},
            )  # fmt: skip
            self._ask_after_ticket(solved, ticket["ticket_id"])

    def _answer_survey(self, at: datetime) -> None:
        score = min(10, max(0, round(self._draw.gauss(8.0, 2.2))))
        self._say(
            "service", "track", at, None, {"traits": {"email": self._person.email}}, user="",
            event="NPS Answered",
            properties={"score": score, "survey_id": "relationship", "touchpoint": "email"},
        )  # fmt: skip

    def _ask_after_ticket(self, at: datetime, ticket_id: str) -> None:
        """A second survey, right after a ticket; not everybody answers."""
        draw = seeded(self._person.number, "after ticket")
        score = min(10, max(0, round(draw.gauss(6.5, 2.8))))
        touchpoint = pick(draw, ("phone", "chat", "email"))
        at += timedelta(hours=1 + draw.randrange(20))
        if draw.random() < 0.5 and at < self._end:
            self._say(
                "service", "track", at, None, {"traits": {"email": self._person.email}}, user="",
                event="NPS Answered", properties={
                    "score": score, "survey_id": "after_ticket", "touchpoint": touchpoint,
                    "ticket_id": ticket_id},
            )  # fmt: skip

    # ── Writing it down ─────────────────────────────────────────────────────────────────────────

    def _later(self, at: datetime, least: int, most: int) -> datetime:
        return at + timedelta(
            seconds=self._draw.randrange(least, most), milliseconds=self._draw.randrange(1000)
        )

    def _say(
        self,
        source: SourceName,
        kind: str,
        at: datetime,
        anonymous: str | None,
        context: dict[str, Any],
        *,
        user: str | None = None,
        **rest: Any,
    ) -> None:
        """``user=""`` says that this system does not know the shop's number of the person."""
        document: dict[str, Any] = {
            "messageId": f"demo-{self._person.number}-{len(self._calls)}",
            "type": kind,
            "timestamp": format_time(at),
            "context": context,
            **rest,
        }
        if user is None and anonymous in self._known_on:
            user = self._person.user_id
        if user:
            document["userId"] = user
        if anonymous is not None:
            document["anonymousId"] = anonymous
        self._calls.append((at, Call(source, document)))


def _visit(seed: int, index: int, days: int, end: datetime) -> list[Call]:
    """Somebody looks around once and never says who they are."""
    draw = seeded(seed, "visitor", index)
    visitor = f"visitor-{seed}-{index}-{draw.getrandbits(48):012x}"
    at = (
        end
        - timedelta(days=1 + draw.randrange(days))
        + timedelta(hours=pick(draw, _WAKING_HOURS), seconds=draw.randrange(3600))
    )
    context = _browser_context(draw)
    calls = []
    for number in range(1 + draw.randrange(6)):
        at += timedelta(seconds=5 + draw.randrange(90))
        product = pick(draw, PRODUCTS)
        looks = number > 0 and draw.random() < 0.5
        document: dict[str, Any] = {
            "messageId": f"demo-{seed}-visitor-{index}-{number}",
            "type": "track" if looks else "page",
            "timestamp": format_time(at),
            "context": context,
            "anonymousId": visitor,
        }
        if looks:
            document |= {"event": "Product Viewed", "properties": _as_property(product)}
        else:
            document |= {"name": "/", "properties": {"path": "/"}}
        calls.append(Call("web", document))
    return calls


def _choose(draw: Random) -> list[Product]:
    """Two or three different products."""
    return draw.sample(PRODUCTS, 1 + draw.randrange(3))


def _as_property(product: Product) -> dict[str, Any]:
    return {
        "product_id": product.sku,
        "sku": product.sku,
        "name": product.name,
        "category": product.category,
        "price": product.fen / 100,
        "currency": "CNY",
    }


def _external(kind: str, value: str) -> dict[str, str]:
    return {"id": value, "type": kind, "collection": "users", "encoding": "none"}


def _browser_context(draw: Random) -> dict[str, Any]:
    context: dict[str, Any] = {
        "locale": pick(draw, ("zh-CN", "zh-CN", "zh-CN", "en-US")),
        "library": {"name": "analytics.js", "version": "npm:next-1.84.3"},
    }
    if draw.random() < 0.3:
        source, medium, name = pick(draw, CAMPAIGNS)
        context["campaign"] = {"source": source, "medium": medium, "name": name}
    return context
