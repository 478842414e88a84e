"""What a lab was told, and who is who after it by the oracle; and what the lab says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cdp.identity.identifiers import is_blocked
from cdp.identity.profile_id import make_profile_id
from cdp.identity.rules import Rules
from cdp.model import Identifier, Observation
from cdp.runtime.clock import format_time
from tests.support.identity_lab import BEGINNING, Lab
from tests.support.identity_oracle import Place, judge
from tests.support.identity_oracle_sessions import give_devices_to_the_last_seen
from tests.support.wire import RECEIVED_AT

Decided = tuple[str, tuple[Identifier, ...], datetime, str]
"""Kind, identifiers, moment and id of a decision."""


@dataclass(frozen=True)
class Told:
    """An event, or an order when it has an amount."""

    message_id: str
    names: tuple[Identifier, ...]
    at: datetime
    public: bool = False
    amount: int | None = None
    city: str | None = None

    def write(self) -> dict[str, Any]:
        """Write it as it travels."""
        if self.amount is not None:
            return {
                "order_id": self.message_id, "messageId": self.message_id,
                "placed_at": format_time(self.at), "updated_at": format_time(self.at),
                "currency": "CNY", "status": "paid", "total": f"{self.amount}.00",
                "identifiers": [name._asdict() for name in self.names],
            }  # fmt: skip
        body: dict[str, Any] = {
            "type": "track", "event": "Seen", "messageId": self.message_id,
            "timestamp": format_time(self.at),
        }  # fmt: skip
        traits: dict[str, Any] = {"city": self.city} if self.city else {}
        others = []
        for kind, value in self.names:
            match kind:
                case "user_id" if "userId" not in body:
                    body["userId"] = value
                case "anonymous_id" if "anonymousId" not in body:
                    body["anonymousId"] = value
                case "email" if "email" not in traits:
                    traits[kind] = value
                case _:
                    others.append({"type": kind, "id": value, "collection": "users"})
        return {**body, "context": {"traits": traits, "externalIds": others}}


def day(number: float) -> datetime:
    """A moment of a story."""
    return BEGINNING + timedelta(days=number)


@dataclass
class Model:
    """Everything that was told, and what of it has been worked off."""

    rules: Rules
    salt: bytes
    told: dict[str, Told] = field(default_factory=dict)
    heard: dict[str, tuple[Identifier, ...]] = field(default_factory=dict)
    """The identifiers of what has been worked off, without those that were blocked then."""
    issued: set[str] = field(default_factory=set)
    """Profile ids that somebody has read."""
    first_seen: dict[Identifier, datetime] = field(default_factory=dict)

    def hear(self) -> None:
        """All that was told has been worked off, under these rules."""
        for one in self.told.values():
            if one.message_id not in self.heard:
                names = sorted(one.names, key=self.rules.order_of)
                left = tuple(name for name in names if not is_blocked(name, self.rules))
                self.heard[one.message_id] = left

    def observe(self) -> list[Observation]:
        """What identity has heard."""
        return [
            Observation(
                names,
                self.told[message_id].at,
                message_id,
                1,
                trusted=not self.told[message_id].public,
                received_at=RECEIVED_AT,
                is_event=self.told[message_id].amount is None,
            )
            for message_id, names in self.heard.items()
            if names
        ]


@dataclass
class Truth:
    """Who is who, and what each has, told by identifiers and profile ids."""

    owners: dict[Identifier, tuple[tuple[datetime | None, datetime | None, str], ...]]
    refusals: set[tuple[Identifier, Identifier, str]]
    events: dict[str, int] = field(default_factory=dict)
    amounts: dict[str, int] = field(default_factory=dict)
    cities: dict[str, str] = field(default_factory=dict)

    def owner_at(self, name: Identifier, at: datetime) -> str:
        """Whose an identifier is at a moment."""
        return next(
            owner
            for since, until, owner in self.owners[name]
            if (since is None or since <= at) and (until is None or at < until)
        )


def work_out(model: Model, decisions: Iterable[Decided]) -> Truth:
    """Judge all facts at once, and say what each person has."""
    observations = model.observe()
    verdict = judge(observations, model.rules, decisions)
    give_devices_to_the_last_seen(verdict, observations, model.rules)

    def name_profile(place: Place) -> str:
        return make_profile_id(model.salt, *place.name, "shared" if place.own else "")

    truth = Truth(
        {
            name: tuple((since, until, name_profile(place)) for since, until, place in spans)
            for name, spans in verdict.spans.items()
        },
        {(told.strong, told.weak, told.reason) for told in verdict.refusals},
    )
    said: dict[str, tuple[datetime, str, str]] = {}
    for one in observations:
        told = model.told[one.message_id]
        owner = truth.owner_at(one.identifiers[0], one.at)
        if told.amount is None:
            truth.events[owner] = truth.events.get(owner, 0) + 1
        else:
            truth.amounts[owner] = truth.amounts.get(owner, 0) + told.amount * 100
        if told.city:
            claim = (told.at, told.message_id, told.city)
            said[owner] = max(said.get(owner, claim), claim)
    truth.cities = {owner: claim[2] for owner, claim in said.items()}
    return truth


def read_truth(lab: Lab) -> Truth:
    """Who is who as stored, and what each person has by the join that all readers use."""
    names = {
        row[0]: Identifier(row[1], row[2])
        for row in lab.ask("SELECT node_id, type, value FROM nodes WHERE variant = ''")
    }
    owners: dict[Identifier, list[tuple[datetime | None, datetime | None, str]]] = {}
    for node_id, since, until, profile_id in lab.ask(
        """SELECT node_id, nullif(since, '-infinity'), nullif(until, 'infinity'), p.profile_id
             FROM node_profiles JOIN profiles p USING (profile_no) ORDER BY node_id, since"""
    ):
        if node_id in names:
            owners.setdefault(names[node_id], []).append((since, until, profile_id))
    owned = """JOIN node_profiles s
                 ON s.node_id = f.node_id AND f.{0} >= s.since AND f.{0} < s.until
               JOIN profiles p USING (profile_no)"""
    cities = lab.ask(
        f"""SELECT p.profile_id, f.value #>> '{{}}' FROM traits f {owned.format("at")}
             WHERE f.name = 'city' ORDER BY f.at, f.message_id"""
    )
    return Truth(
        {name: tuple(spans) for name, spans in owners.items()},
        {
            (names[a], names[b], reason)
            for a, b, reason in lab.ask("SELECT node_a, node_b, reason FROM refusals")
        },
        dict(
            lab.ask(f"SELECT p.profile_id, count(*) FROM events f {owned.format('at')} GROUP BY 1")
        ),
        {
            profile_id: int(amount)
            for profile_id, amount in lab.ask(
                f"""SELECT p.profile_id, sum(f.total) FROM orders f {owned.format("placed_at")}
                     GROUP BY 1"""
            )
        },
        dict(cities),
    )


def read_decisions(lab: Lab) -> list[Decided]:
    """The decisions that stand, as facts."""
    rows = lab.ask(
        """SELECT kind, node_ids, first_at, first_message_id FROM links
            WHERE kind <> 'seen' AND retracted_at IS NULL"""
    )
    names = {
        row[0]: Identifier(row[1], row[2])
        for row in lab.ask("SELECT node_id, type, value FROM nodes")
    }
    return [
        (kind, tuple(names[n] for n in node_ids), at, said) for kind, node_ids, at, said in rows
    ]
