"""Dense random worlds and rules from one seed: few names and values, so that most rules hold for
some people and not for others. What hypothesis finds by shrinking, this finds by numbers."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from cdp.model import DEFAULT_CONSENT_AT
from cdp.segments.evaluate import ConsentFact, EventFact, TraitFact
from cdp.segments.rules import FUNCTIONS
from tests.support.rule_world import Belonging, Node, Person

NAMES = ("p", "p", "q", "a.b", "城")
PATHS = ("p", "p", "p", "q", r"a\.b", "城", "p.p", "p.q", "q.p.q", "p.0", "never")
TEXTS = ("", "a", "ab", "A", "é", "e\u0301", "42", "true", "2026-03-01", "2026-03-31T12:00:00Z",
         "2026-03-30T20:00:00+08:00", "2026-02-28T12:00:00.0000019Z", "2026-02-30")  # fmt: skip
NUMBERS = (0, 1, 1.0, 2, 3, 0.1, 0.7, 42, -1, 1e18, 9007199254740993)
EVENTS = ("E", "E", "F", "G")
ACCOUNTS = ("acme", "beta", "é", "")
DURATIONS = ("1h", "1d", "7d", "1mo", "13mo", "0d")
SIMPLE_OPS = ("eq", "ne", "gt", "gte", "lt", "lte")
TEXT_OPS = ("contains", "not_contains", "starts_with", "ends_with")


class Dice:
    """Draws the parts of a world around the instant ``now``."""

    def __init__(self, seed: int, now: datetime, edges: list[datetime]) -> None:
        self.random = random.Random(seed)
        self.now = now
        self.edges = edges

    def one(self, *options: Any) -> Any:
        return self.random.choice(options)

    def some(self, most: int, draw: Any) -> list[Any]:
        return [draw() for _ in range(self.random.randint(0, most))]

    def time(self) -> datetime:
        if self.random.random() < 0.4:
            return self.now - timedelta(hours=self.random.randint(-30, 24 * 40))
        nudge = self.one(0, 0, 0, 1, -1, 3_600_000_000)
        return self.random.choice(self.edges) + timedelta(microseconds=nudge)

    def scalar(self) -> Any:
        return self.one(
            self.random.choice(TEXTS), self.random.choice(NUMBERS), self.one(True, False)
        )

    def value(self, depth: int = 2) -> Any:
        roll = self.random.random()
        if roll < 0.6 or depth == 0:
            return self.scalar()
        if roll < 0.67:
            return None
        if roll < 0.85:
            return self.some(3, lambda: self.value(depth - 1))
        return {self.random.choice(NAMES): self.value(depth - 1) for _ in range(2)}

    # ── People ──────────────────────────────────────────────────────────────────────────────────

    def person(self) -> Person:
        nodes = [self.node(number) for number in range(self.random.randint(1, 3))]
        tags = {"t": value} if (value := self.value()) is not None else {}
        segments = frozenset(self.random.sample(("s1", "s2"), self.random.randint(0, 2)))
        return Person(nodes, tags, segments, self.one(None, self.time()))

    def node(self, number: int) -> Node:
        def event() -> EventFact:
            properties = {self.random.choice(NAMES): self.value() for _ in range(2)}
            return EventFact(self.random.choice(EVENTS), self.time(), "", "s", properties)

        events = [
            fact._replace(message_id=f"{index % 3}{number}", source=f"s{index // 3}")
            for index, fact in enumerate(self.some(6, event))
        ]
        traits = [
            TraitFact(name, self.value(), self.time(), f"m{number}", number)
            for name in (*sorted(set(NAMES)), *(f"t{n}" for n in range(0, 20, 3)))
            if self.random.random() < 0.6
        ]
        consents = [
            ConsentFact(
                purpose,
                self.one(True, False),
                DEFAULT_CONSENT_AT if self.random.random() < 0.3 else self.time(),
                f"m{number}",
                number,
            )
            for purpose in ("marketing", "marketing.email", "ads", "ads.sms")
            if self.random.random() < 0.6
        ]
        belongings = [
            Belonging(account_id, self.one(True, True, False), self.time(), "m", self.one(1, 2))
            for account_id in ACCOUNTS
            if self.random.random() < 0.4
        ]
        kind, variant = self.one("email", "user_id"), self.one("", "shared")
        value = self.random.choice(TEXTS)
        return Node(kind, value, traits, consents, events, variant, (), belongings)

    def accounts(self) -> dict[str, list[TraitFact]]:
        """Return what is known of accounts, of some nothing."""
        return {
            account_id: [
                TraitFact(name, self.value(), self.time(), "m", 1)
                for name in sorted(set(NAMES))
                if self.random.random() < 0.7
            ]
            for account_id in ACCOUNTS
        }

    # ── Rules ───────────────────────────────────────────────────────────────────────────────────

    def comparison(self) -> dict[str, Any]:
        op = self.one(*SIMPLE_OPS, *SIMPLE_OPS, "between", "in", "not_in", *TEXT_OPS, "matches",
                      "before", "after", "within_last", "not_within_last", "exists",
                      "not_exists")  # fmt: skip
        if op in ("exists", "not_exists"):
            return {"op": op}
        value: Any = self.scalar()
        if op == "between":
            value = sorted(self.one(self.random.sample(TEXTS, 2), self.random.sample(NUMBERS, 2)))
        elif op in ("in", "not_in"):
            value = self.some(self.one(4, 14), self.scalar)
        elif op in TEXT_OPS:
            value = self.random.choice(TEXTS)
        elif op == "matches":
            value = self.one("a", "^a$", "(?i)A", r"^\d", "")
        elif op in ("before", "after"):
            value = self.one("2026-03-01", "2026-03-31T12:00:00Z", "2026-03-30T12:00:00")
        elif op in ("within_last", "not_within_last"):
            value = self.one(*DURATIONS)
        return {"op": op, "value": value}

    def window(self) -> dict[str, Any]:
        form = self.one("none", "last", "since", "between", "calendar")
        if form == "none":
            return {}
        times = sorted(self.random.sample(self.edges, 2))
        if form == "calendar":
            unit = self.one("day", "week", "month", "quarter", "year")
            zone = self.one({}, {"tz": "Asia/Shanghai"}, {"tz": "America/New_York"})
            return {"within": {"calendar": unit, "offset": self.one(0, -1), **zone}}
        body = {
            "last": self.one(*DURATIONS),
            "since": times[0].isoformat(),
            "between": [time.isoformat() for time in times],
        }
        return {"within": {form: body[form]}}

    def where(self) -> dict[str, Any]:
        conditions = self.some(
            2, lambda: {"property": self.random.choice(PATHS), **self.comparison()}
        )
        return {"where": conditions} if conditions and self.random.random() < 0.6 else {}

    def events(self) -> dict[str, Any]:
        return {"event": self.random.choice(EVENTS), **self.where(), **self.window()}

    def aggregate(self) -> dict[str, Any]:
        function = self.random.choice(FUNCTIONS)
        if function.startswith("days"):
            return {"aggregate": {"fn": function}}
        path = self.random.choice(PATHS)
        return {"aggregate": {"fn": function, "property": path}}

    def count(self) -> dict[str, Any]:
        op = self.one(*SIMPLE_OPS, "between")
        value = [self.one(0, 1), self.one(1, 3)] if op == "between" else self.one(0, 1, 2, 3)
        return {"count": {"op": op, "value": value}}

    def sequence(self) -> dict[str, Any]:
        steps: list[dict[str, Any]] = []
        for index in range(self.random.randint(1, 4)):
            step = {"event": self.random.choice(EVENTS), **self.where()}
            limits = {key: self.one(*DURATIONS) for key in self.random.sample(("min", "max"), 1)}
            if index and self.random.random() < 0.6:
                step["after"] = limits
            steps.append(step)
        return {"sequence": steps, **self.window()}

    def leaf(self) -> dict[str, Any]:
        roll = self.random.randint(0, 11)
        if roll <= 2:
            path = self.one(self.random.choice(PATHS), f"t{self.random.randint(0, 20)}")
            return {"trait": path, **self.comparison()}
        if roll == 3:
            return {"tag": self.one("t", "t.p", "t.p.q", "t.q"), **self.comparison()}
        if roll == 4:
            return {"identifier": self.one("email", "user_id"), **self.comparison()}
        if roll == 5:
            purpose = {"consent": self.one("marketing", "ads"), "op": self.one("granted", "denied")}
            purpose |= self.one({}, {"channel": self.one("email", "sms")})
            return self.one(purpose, {"segment": self.one("s1", "s2")})  # type: ignore[no-any-return]
        if roll == 6:
            return {**self.events(), **self.one({}, self.count())}
        if roll == 9:
            return self.sequence()
        if roll >= 10:
            return {"account": self.account_rule()}
        return {**self.events(), **self.aggregate(), **self.comparison()}

    def account_rule(self, depth: int = 2) -> dict[str, Any]:
        """Return what may be asked of an account."""
        if depth == 0 or self.random.random() < 0.5:
            return {"trait": self.random.choice(PATHS), **self.comparison()}
        form = self.one("all", "any", "not")
        if form == "not":
            return {"not": self.account_rule(depth - 1)}
        return {form: self.some(3, lambda: self.account_rule(depth - 1))}

    def rule(self, depth: int = 2) -> dict[str, Any]:
        if depth == 0 or self.random.random() < 0.6:
            return self.leaf()
        form = self.one("all", "any", "not")
        if self.random.random() < 0.1:
            return self.wide_rule()
        if form == "not":
            return {"not": self.rule(depth - 1)}
        return {form: self.some(4, lambda: self.rule(depth - 1))}

    def wide_rule(self) -> dict[str, Any]:
        """Return many leaves side by side that rarely hold, so that few of them decide."""

        def rare() -> dict[str, Any]:
            if self.random.random() < 0.5:
                count = {"count": {"op": "eq", "value": self.one(2, 3)}}
                return {"event": self.one("F", "G"), **self.window(), **count}
            path = f"t{self.random.randint(0, 20)}"
            return {"trait": path, "op": self.one("eq", "starts_with"), "value": self.one("a", "é")}

        found = [rare() for _ in range(self.random.randint(30, 50))]
        if self.random.random() < 0.5:
            return {"any": [*found, self.leaf()]}
        return {"all": [*({"not": leaf} for leaf in found), self.leaf()]}
