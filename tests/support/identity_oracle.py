"""Who is who by the written specification alone: slow, simple, and nothing of the resolver's.

The specification, as this oracle reads it:

- A *fact* is a set of identifiers seen together by sources of one trust: its first claim (time,
  message id), and the days on which it was seen. A public claim that is dated more than a week
  before its receipt counts from its receipt.
- Facts take effect in the order of time, then message id, then the identifiers. Within one, the
  strongest identifier's person takes in the weaker ones, one after the other, or refuses.
- A blocked identifier, and one that was seen with too many people, ties nobody together.
- Refused are: a shared device; people who were parted by hand; two values of a unique type; a
  device that would bring a second contact of a type; more of a type than its limit; and two known
  people by a public source.
- A refused device leaves its person from that moment: to be shared when anybody else but the
  newcomer was seen on it before, to follow the newcomer otherwise.
- A refused contact moves to the claimant once its holder was not seen with it for so many days; a
  claim is looked at again on the days on which it is repeated.
- A refusal that parted a device from somebody to whom it belongs in the end never was.

State is a plain dictionary from *place* to the number of a person, relabelled by scanning it. A
place is an identifier, or a shared device's own profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations
from typing import NamedTuple

from cdp.identity.identifiers import is_blocked
from cdp.identity.rules import Rules
from cdp.model import Identifier, Observation

_BY_HAND = ("merge", "exception")


class Place(NamedTuple):
    """An identifier's own place, or that of the profile which a shared device has of its own."""

    name: Identifier
    own: bool = False


class Fact(NamedTuple):
    """These were seen together, or somebody decided about them by hand."""

    names: tuple[Identifier, ...]
    trusted: bool
    at: datetime
    message: str
    days: tuple[int, ...]
    kind: str = "seen"


class Told(NamedTuple):
    """A join that was refused."""

    strong: Identifier
    weak: Identifier
    reason: str
    at: datetime


Span = tuple[datetime | None, datetime | None, Place]


@dataclass
class Verdict:
    """Who is who."""

    spans: dict[Identifier, list[Span]]
    """Per identifier: from when (included) until when it belongs to the profile of which place."""
    refusals: set[Told]
    hot: set[Identifier]


def judge(
    seen: Iterable[Observation],
    rules: Rules,
    decided: Iterable[tuple[str, tuple[Identifier, ...], datetime, str]] = (),
) -> Verdict:
    """Say who is who after ``seen`` and after what was decided by hand."""
    seen = list(seen)
    first_seen: dict[Identifier, datetime] = {}
    for one in seen:
        for name in one.identifiers:
            first_seen[name] = min(one.at, first_seen.get(name, one.at))
    facts = list_facts(seen)
    facts += [Fact(names, True, at, message, (), kind) for kind, names, at, message in decided]
    void: set[tuple[Fact, Identifier]] = set()
    while True:
        replay = Replay(first_seen, facts, rules, void)
        replay.run()
        mistaken = replay.list_mistaken() - void
        if not mistaken:
            return replay.tell()
        void |= mistaken


def list_facts(seen: Iterable[Observation]) -> list[Fact]:
    """Return one fact for each set of identifiers and trust."""
    claims: dict[tuple[frozenset[Identifier], bool], list[tuple[datetime, str]]] = {}
    for one in seen:
        at = one.at
        if not one.trusted and one.received_at and one.received_at - at > timedelta(days=7):
            at = one.received_at
        if len(one.identifiers) > 1:
            key = (frozenset(one.identifiers), one.trusted)
            claims.setdefault(key, []).append((at, one.message_id))
    facts = []
    for (names, trusted), made in claims.items():
        days = sorted({at.toordinal() for at, _ in made})
        facts.append(Fact(tuple(sorted(names)), trusted, *min(made), tuple(days)))
    return facts


@dataclass
class Replay:
    """One reading of all facts, with some refusals declared void."""

    first_seen: dict[Identifier, datetime]
    facts: list[Fact]
    rules: Rules
    void: set[tuple[Fact, Identifier]]

    person: dict[Place, int] = field(default_factory=dict)
    place: dict[Identifier, Place] = field(default_factory=dict)
    moved: dict[Identifier, list[tuple[datetime, Place]]] = field(default_factory=dict)
    seen_on: dict[Identifier, set[Identifier]] = field(default_factory=dict)
    """Who was seen on a device."""
    past: list[Fact] = field(default_factory=list)
    waiting: list[tuple[Fact, Identifier, int]] = field(default_factory=list)
    """Claims of a contact, and the day from which they are looked at again."""
    refusals: dict[tuple[Fact, Identifier], Told] = field(default_factory=dict)
    voided: dict[tuple[Fact, Identifier], Told] = field(default_factory=dict)

    def run(self) -> None:
        self.blocked = {name for name in self.first_seen if is_blocked(name, self.rules)}
        self.hot = self.find_hot()
        self.apart = [
            (pair, fact.at)
            for fact in self.facts
            if fact.kind in ("parted", "detached")
            for pair in (
                combinations(fact.names, 2)
                if fact.kind == "parted"
                else [(fact.names[0], other) for other in fact.names[1:]]
            )
        ]
        for number, name in enumerate(self.first_seen):
            self.place[name] = Place(name)
            self.person[Place(name)] = number
        turns: list[tuple[datetime, str, list[tuple[int, str, str]], bool, bool, Fact]] = []
        for fact in self.facts:
            if fact.kind in ("parted", "detached"):
                continue
            order = sorted(self.rank(name) for name in fact.names)
            turns.append((fact.at, fact.message, order, fact.trusted, False, fact))
            for day in fact.days:
                midnight = datetime.combine(date.fromordinal(day), time(), UTC)
                if midnight > fact.at:
                    turns.append((midnight, "", order, fact.trusted, True, fact))
        for at, _, _, _, is_repetition, fact in sorted(turns, key=lambda turn: turn[:5]):
            if is_repetition:
                self.repeat(fact, at)
            else:
                self.take(fact, at)

    # ── What is known of identifiers and people ─────────────────────────────────────────────

    def rank(self, name: Identifier) -> tuple[int, str, str]:
        return self.rules.rule_of(name.type).priority, name.type, name.value

    def is_a(self, name: Identifier, strength: str) -> bool:
        return self.rules.rule_of(name.type).strength == strength

    def find_hot(self) -> set[Identifier]:
        hot = set()
        for name in self.first_seen.keys() - self.blocked:
            met: dict[str, set[str]] = {}
            for fact in self.facts:
                if fact.kind != "seen" or name not in fact.names:
                    continue
                for other in fact.names:
                    if other in self.blocked or other.type == name.type:
                        continue
                    counts = self.rules.rule_of(other.type).unique or (
                        self.is_a(other, "contact") and not self.is_a(name, "strong")
                    )
                    if counts:
                        met.setdefault(other.type, set()).add(other.value)
            if any(
                len(values) > self.rules.hot_limit for values in met.values()
            ) or self.is_crowded(name):
                hot.add(name)
        return hot

    def is_crowded(self, name: Identifier) -> bool:
        """Whether more than twice as many of a type as one may have were seen with a name."""
        met: dict[str, set[Identifier]] = {}
        for fact in self.facts:
            if fact.kind == "seen" and name in fact.names:
                for other in fact.names:
                    if other not in self.blocked and other.type != name.type:
                        met.setdefault(other.type, set()).add(other)
        for type_name, others in met.items():
            rule = self.rules.rule_of(type_name)
            if rule.unique or rule.limit is None or rule.window is not None:
                continue
            if len(others) > max(2 * rule.limit, 8 * self.rules.hot_limit):
                return True
        return False

    def who(self, name: Identifier) -> int:
        """The person an identifier belongs to at this point."""
        return self.person[self.place[name]]

    def holds(self, person: int, type_name: str) -> set[Identifier]:
        """The identifiers of a type that belong to a person at this point."""
        return {n for n in self.place if n.type == type_name and self.who(n) == person}

    def ever(self, person: int) -> list[Identifier]:
        """The identifiers that belong to a person by their first place."""
        return [p.name for p, owner in self.person.items() if owner == person and not p.own]

    def is_shared(self, person: int) -> bool:
        return any(p.own for p, owner in self.person.items() if owner == person)

    def is_known(self, person: int) -> bool:
        return any(self.is_a(name, "strong") for name in self.ever(person))

    def is_person(self, person: int) -> bool:
        contacts = [n for n in self.place if self.who(n) == person and self.is_a(n, "contact")]
        ever = [n for n in self.ever(person) if not self.is_a(n, "ephemeral")]
        return bool(contacts or ever)

    def since(self, person: int) -> datetime:
        return min(self.first_seen[name] for name in self.ever(person))

    # ── A fact takes effect ─────────────────────────────────────────────────────────────────

    def take(self, fact: Fact, at: datetime) -> None:
        names = sorted(fact.names, key=self.rank)
        left = [name for name in names if name not in self.blocked | self.hot]
        if not left:
            return
        for name in names:
            if name in self.blocked:
                self.refuse(fact, left[0], name, "blocked", at)
            elif name in self.hot:
                self.refuse(fact, left[0], name, "hot_identifier", at)
        self.past.append(fact)
        while left:
            top, weaker, left = left[0], left[1:], []
            for weak in weaker:
                if self.were_parted(fact, self.who(top), self.who(weak), weak):
                    self.refuse(fact, top, weak, "parted_by_hand", at)
                    left.append(weak)
                    continue
                self.add(fact, top, weak, at)
                if self.is_a(weak, "ephemeral") and not self.is_a(top, "ephemeral"):
                    self.seen_on.setdefault(weak, set()).add(top)

    def add(self, fact: Fact, top: Identifier, weak: Identifier, at: datetime) -> None:
        if self.who(top) == self.who(weak):
            return
        reason = self.object_to(fact, top, weak)
        if reason is None:
            self.unite(self.who(top), self.who(weak))
        elif (fact, weak) in self.void:
            self.voided.setdefault((fact, weak), Told(top, weak, reason, at))
        else:
            self.refuse(fact, top, weak, reason, at)
            if fact.kind in _BY_HAND or reason == "limit":
                return
            if self.is_a(weak, "ephemeral"):
                self.part_device(top, weak, at)
            elif self.is_a(weak, "contact"):
                self.contest(fact, top, weak, at)

    def object_to(self, fact: Fact, top: Identifier, weak: Identifier) -> str | None:
        ours, theirs = self.who(top), self.who(weak)
        if self.is_shared(ours) or self.is_shared(theirs):
            return "shared_device"
        if self.were_parted(fact, ours, theirs):
            return "parted_by_hand"
        types = {
            name.type
            for name in self.place
            if self.holds(ours, name.type) and self.holds(theirs, name.type)
        }
        if fact.kind != "exception" and any(self.rules.rule_of(kind).unique for kind in types):
            return "unique_conflict"
        if not fact.trusted and all(
            self.is_known(person) and self.since(person) < fact.at for person in (ours, theirs)
        ):
            return "public_source"
        if fact.kind in _BY_HAND:
            return None
        reasons = set()
        for kind in types:
            rule = self.rules.rule_of(kind)
            if rule.strength == "contact" and self.is_a(weak, "ephemeral"):
                reasons.add("other_contact")
            elif rule.limit is not None:
                every = self.holds(ours, kind) | self.holds(theirs, kind)
                if rule.window is not None:
                    every = {n for n in every if fact.at - self.first_seen[n] < rule.window}
                if len(every) > rule.limit:
                    reasons.add("limit")
        for reason in ("other_contact", "limit"):
            if reason in reasons:
                return reason
        return None

    def were_parted(
        self, fact: Fact, ours: int, theirs: int, one: Identifier | None = None
    ) -> bool:
        if ours == theirs:
            return False
        for pair, at in self.apart:
            if fact.kind in _BY_HAND and at < fact.at:
                continue
            if one is not None and one not in pair:
                continue
            if all(n in self.place for n in pair) and {self.who(n) for n in pair} == {ours, theirs}:
                return True
        return False

    def unite(self, ours: int, theirs: int) -> None:
        for place, person in self.person.items():
            if person == theirs:
                self.person[place] = ours

    def refuse(
        self, fact: Fact, top: Identifier, weak: Identifier, reason: str, at: datetime
    ) -> None:
        self.refusals.setdefault((fact, weak), Told(top, weak, reason, at))

    def move(self, name: Identifier, to: Place, at: datetime) -> None:
        self.place[name] = to
        self.moved.setdefault(name, []).append((at, to))

    # ── Devices of several people, contacts of several people ───────────────────────────────

    def part_device(self, top: Identifier, device: Identifier, at: datetime) -> None:
        newcomer = self.who(top)
        if self.is_shared(self.who(device)) or not self.is_person(newcomer):
            return
        if any(self.who(other) != newcomer for other in self.seen_on.get(device, ())):
            own = Place(device, own=True)
            self.person[own] = 1 + max(self.person.values())
            self.move(device, own, at)
        else:
            self.move(device, self.place[top], at)

    def contest(self, fact: Fact, top: Identifier, contact: Identifier, at: datetime) -> None:
        today = at.astimezone(UTC).toordinal()
        holder = self.who(contact)
        by_holder = [
            other
            for other in self.past
            if contact in other.names
            and any(self.who(n) == holder for n in other.names if n != contact)
        ]
        held_on = [day for other in by_holder for day in other.days if day <= today]
        held_on.append(self.first_seen[contact].astimezone(UTC).toordinal())
        idle_until = max(held_on) + self.rules.rebind_after.days
        if today <= idle_until:
            self.waiting.append((fact, contact, max(today, idle_until) + 1))
            return
        self.move(contact, self.place[top], at)
        self.refusals.pop((fact, contact), None)
        self.waiting += [(other, contact, today + 1) for other in by_holder]

    def repeat(self, fact: Fact, at: datetime) -> None:
        today = at.toordinal()
        due = [one for one in self.waiting if one[0] == fact and one[2] <= today]
        for one in sorted(due, key=lambda claim: self.rank(claim[1])):
            self.waiting.remove(one)
            contact = one[1]
            left = [name for name in fact.names if name not in self.blocked | self.hot]
            top = min(left, key=self.rank)
            if top == contact or self.who(top) == self.who(contact):
                continue
            if self.were_parted(fact, self.who(top), self.who(contact), contact):
                continue
            reason = self.object_to(fact, top, contact)
            if reason is None:
                self.unite(self.who(top), self.who(contact))
                continue
            self.refuse(fact, top, contact, reason, at)
            if reason != "limit":
                self.contest(fact, top, contact, at)

    # ── The end ─────────────────────────────────────────────────────────────────────────────

    def list_mistaken(self) -> set[tuple[Fact, Identifier]]:
        return {
            (fact, weak)
            for (fact, weak), told in self.refusals.items()
            if weak in self.moved
            and self.is_a(weak, "ephemeral")
            and told.reason not in ("hot_identifier", "blocked", "shared_device")
            and self.person[Place(weak)] == self.who(told.strong)
        }

    def tell(self) -> Verdict:
        for key, told in self.voided.items():
            if self.person[Place(told.weak)] != self.who(told.strong):
                self.refusals.setdefault(key, told)
        spans = {name: list(self.list_spans(name)) for name in self.place}
        return Verdict(spans, set(self.refusals.values()), self.hot)

    def list_spans(self, name: Identifier) -> Sequence[Span]:
        """Say whose an identifier is, moment by moment: of moves at one moment the last counts."""
        owners: dict[datetime | None, Place] = {None: self.name_of(Place(name))}
        for at, to in self.moved.get(name, ()):
            owners[at] = self.name_of(to)
        spans: list[Span] = []
        for since, owner in owners.items():
            if spans and spans[-1][2] == owner:
                continue
            if spans:
                spans[-1] = (spans[-1][0], since, spans[-1][2])
            spans.append((since, None, owner))
        return spans

    def name_of(self, place: Place) -> Place:
        """A profile is named by its identifier that was seen first; the stronger one of several."""
        members = [p for p, person in self.person.items() if person == self.person[place]]
        if any(p.own for p in members):
            return next(p for p in members if p.own)
        return min(members, key=lambda p: (self.first_seen[p.name], self.rank(p.name)))
