"""The reference meaning of a rule: one person's facts, one instant, true or false.

DuckDB decides membership; this says what it must decide (tests hold the two equal) and answers
"why" for one person. Pure: the facts and the time come in, nothing is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, assert_never

from cdp.rates import NO_RATES, RateTable
from cdp.reach import Statement, decide_consent
from cdp.runtime.clock import format_time
from cdp.segments import regex_engine
from cdp.segments.evaluate_events import (
    EventFact,
    Moment,
    figure_of,
    matching_events,
    sequence_times,
)
from cdp.segments.evaluate_orders import (
    OrderFact,
    amount_holds,
    matching_orders,
    order_figure,
)
from cdp.segments.evaluate_values import Search, scalar_holds, value_holds
from cdp.segments.paths import value_at
from cdp.segments.rules import (
    AllOf,
    AnyAccount,
    AnyOf,
    Comparison,
    Consent,
    EventCount,
    EventFigure,
    Events,
    HasIdentifier,
    InSegment,
    Not,
    Orders,
    Rule,
    Tag,
    Trait,
)
from cdp.segments.rules import Sequence as SequenceRule
from cdp.trait_value import fold

__all__ = [
    "ConsentFact", "EventFact", "MembershipFact", "OrderFact", "PersonFacts", "TraitFact",
    "aggregate_value", "evaluate", "explain",
]  # fmt: skip

AT_LEAST_ONE = Comparison("gte", 1.0)


class TraitFact(NamedTuple):
    """What one of the person's identifiers carries of a trait; None: removed."""

    name: str
    value: Any
    at: datetime
    message_id: str = ""
    source: int = 0
    part: str = ""
    """Of the trait, see ``cdp.trait_parts``."""
    rank: int = 0
    """Of the source."""

    @property
    def stamp(self) -> tuple[int, datetime, str, int]:
        """What decides which of two counts."""
        return self.rank, self.at, self.message_id, self.source

    @property
    def earliest(self) -> tuple[int, datetime, str, int]:
        """What decides where the oldest counts."""
        return -self.rank, self.at, self.message_id, self.source


class ConsentFact(NamedTuple):
    """The newest statement that one of the person's identifiers carries about a purpose.

    ``node`` tells whose statement it was; ``None``: nobody else's.
    """

    purpose: str
    granted: bool
    at: datetime
    message_id: str = ""
    source: int = 0
    node: int | None = None


class MembershipFact(NamedTuple):
    """What was last said of one of the person's identifiers and an account."""

    account_id: str
    is_member: bool
    at: datetime
    message_id: str = ""
    source: int = 0
    node: int = 0
    """Tells the person's identifiers apart; of what one message says the lowest counts."""


@dataclass(frozen=True, slots=True)
class PersonFacts:
    """What is known of one profile. ``joined_at`` is when its newest merge happened, if any."""

    traits: Sequence[TraitFact] = ()
    identifiers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    consents: Sequence[ConsentFact] = ()
    events: Sequence[EventFact] = ()
    orders: Sequence[OrderFact] = ()
    tags: Mapping[str, Any] = field(default_factory=dict)
    segments: frozenset[str] = frozenset()
    joined_at: datetime | None = None
    memberships: Sequence[MembershipFact] = ()
    accounts: Mapping[str, Sequence[TraitFact]] = field(default_factory=dict)
    """The traits of the accounts that ``memberships`` name."""
    rates: RateTable = NO_RATES
    """By which amounts of orders are converted."""


class Verdict(NamedTuple):
    holds: bool
    value: Any


def evaluate(
    rule: Rule,
    person: PersonFacts,
    now: datetime,
    *,
    timezone: str = "UTC",
    search: Search = regex_engine.search,
) -> bool:
    """Whether ``rule`` holds for ``person`` at ``now``.

    ``timezone`` is the zone of calendar windows that name none; ``search(pattern, text)`` the
    RE2 engine of ``matches``.
    """
    return _holds(rule, person, Moment(now, timezone, search))


def explain(
    rule: Rule,
    person: PersonFacts,
    now: datetime,
    *,
    timezone: str = "UTC",
    search: Search = regex_engine.search,
) -> dict[str, Any]:
    """Return the rule as written, with ``holds`` on every node and, on every leaf, ``value``: what
    was found, ``None`` when absent. The operand of a leaf stands in ``expected``."""
    return _explained(rule, person, Moment(now, timezone, search))


def aggregate_value(
    rule: EventFigure | EventCount,
    person: PersonFacts,
    now: datetime,
    *,
    timezone: str = "UTC",
    search: Search = regex_engine.search,
) -> object:
    """Return the value of a tag's aggregate as JSON, ``None`` when absent."""
    return _leaf(rule, person, Moment(now, timezone, search)).value


def _holds(rule: Rule, person: PersonFacts, moment: Moment) -> bool:
    match rule:
        case AllOf(rules=rules):
            return all(_holds(inner, person, moment) for inner in rules)
        case AnyOf(rules=rules):
            return any(_holds(inner, person, moment) for inner in rules)
        case Not(rule=inner):
            return not _holds(inner, person, moment)
        case _:
            return _leaf(rule, person, moment).holds


def _explained(rule: Rule, person: PersonFacts, moment: Moment) -> dict[str, Any]:
    written = dict(rule.origin.document)
    match rule:
        case AllOf(rules=rules) | AnyOf(rules=rules):
            key = "all" if isinstance(rule, AllOf) else "any"
            parts = [_explained(inner, person, moment) for inner in rules]
            verdicts = [part["holds"] for part in parts]
            holds = all(verdicts) if key == "all" else any(verdicts)
            return {**written, key: parts, "holds": holds}
        case Not(rule=inner):
            part = _explained(inner, person, moment)
            return {**written, "not": part, "holds": not part["holds"]}
        case AnyAccount():
            return _explain_account(rule, person, moment)
        case _:
            holds, value = _leaf(rule, person, moment)
            # `value` is what was found; the operand that was written there moves to `expected`.
            expected = {"expected": written["value"]} if "value" in written else {}
            return {**written, **expected, "holds": holds, "value": value}


def _leaf(rule: Rule, person: PersonFacts, moment: Moment) -> Verdict:
    match rule:
        case Trait(path=path, comparison=comparison):
            value = value_at(_trait(person, path[0], moment.now), path[1:])
            return _compared(value, comparison, moment)
        case Tag(key=key, path=path, comparison=comparison):
            return _compared(value_at(person.tags.get(key), path), comparison, moment)
        case HasIdentifier(type=kind, comparison=comparison):
            values = list(person.identifiers.get(kind, ()))
            found: Any = None if not values else values[0] if len(values) == 1 else values
            return _compared(found, comparison, moment)
        case InSegment(key=key):
            return Verdict(key in person.segments, key in person.segments)
        case Consent(purpose=purpose, granted=wanted):
            granted = _consent(person, purpose, moment.now)
            stated = None if granted is None else "granted" if granted else "denied"
            return Verdict(granted is wanted, stated)
        case EventCount(events=events, comparison=count):
            number = _count(events, person, moment)
            holds = scalar_holds(number, count or AT_LEAST_ONE, moment.now, moment.search)
            return Verdict(holds, number)
        case EventFigure():
            return _figure(rule, person, moment)
        case AnyAccount():
            found = _accounts_that_satisfy(rule, person, moment)
            return Verdict(bool(found), found)
        case SequenceRule():
            times = sequence_times(rule, person.events, moment)
            shown = None if times is None else [format_time(time) for time in times]
            return Verdict(times is not None, shown)
        case AllOf() | AnyOf() | Not():
            raise TypeError("not a leaf")
        case _:
            assert_never(rule)


def _accounts_of(person: PersonFacts, now: datetime) -> dict[str, PersonFacts]:
    """Return what is known of the accounts to which the person belongs, by account id."""
    newest: dict[str, MembershipFact] = {}
    for fact in person.memberships:
        known = newest.get(fact.account_id)
        if fact.at <= now and (known is None or _age(fact) > _age(known)):
            newest[fact.account_id] = fact
    return {
        account_id: PersonFacts(traits=person.accounts.get(account_id, ()))
        for account_id, fact in sorted(newest.items())
        if fact.is_member
    }


def _age(fact: MembershipFact) -> tuple[datetime, str, int, int]:
    return fact.at, fact.message_id, fact.source, -fact.node


def _accounts_that_satisfy(rule: AnyAccount, person: PersonFacts, moment: Moment) -> list[str]:
    accounts = _accounts_of(person, moment.now)
    return [key for key, facts in accounts.items() if _holds(rule.rule, facts, moment)]


def _explain_account(rule: AnyAccount, person: PersonFacts, moment: Moment) -> dict[str, Any]:
    """Explain by an account that satisfies the rule, else by the first; without any as written."""
    written = dict(rule.origin.document)
    accounts = _accounts_of(person, moment.now)
    found = _accounts_that_satisfy(rule, person, moment)
    shown = next(iter(found or accounts), None)
    part = written.get("account") if shown is None else None
    if shown is not None:
        part = _explained(rule.rule, accounts[shown], moment)
    return {
        **written, "account": part, "account_id": shown, "holds": bool(found), "value": found,
    }  # fmt: skip


def _compared(value: object, comparison: Comparison, moment: Moment) -> Verdict:
    return Verdict(value_holds(value, comparison, moment.now, moment.search), value)


def _count(events: Events | Orders, person: PersonFacts, moment: Moment) -> int:
    if isinstance(events, Orders):
        return len(matching_orders(events, person.orders, moment))
    return len(matching_events(events, person.events, moment))


def _figure(rule: EventFigure, person: PersonFacts, moment: Moment) -> Verdict:
    currency = None
    if isinstance(rule.events, Orders):
        figure, currency = order_figure(rule, person.orders, moment, person.rates)
    else:
        figure = figure_of(rule, person.events, moment)
    if rule.comparison is None:
        return Verdict(figure is not None, figure)
    return Verdict(amount_holds(figure, rule.comparison, currency, moment), figure)


def _trait(person: PersonFacts, name: str, now: datetime) -> object:
    """Return what was said of the trait until ``now`` amounts to."""
    facts = [fact for fact in person.traits if fact.name == name and fact.at <= now]
    return fold(facts)[0] if facts else None


def _consent(person: PersonFacts, purpose: str, now: datetime) -> bool | None:
    """Return what counts of what the person stated; ``None``: nothing."""
    statements = [
        Statement(*fact[:5], -place if fact.node is None else fact.node)
        for place, fact in enumerate(person.consents, 1)
    ]
    counted = decide_consent(statements, person.joined_at, purpose, now)
    return None if counted is None else counted.granted
