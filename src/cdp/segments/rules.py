"""The rule tree: what a rule document means, typed. Data only; ``parse`` makes it.

Numbers are doubles, times aware UTC, names and texts as sent. A path is the list of names that
lead into a value: ``("address", "city")``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

Op = Literal[
    "eq", "ne", "gt", "gte", "lt", "lte", "between", "in", "not_in",
    "contains", "not_contains", "starts_with", "ends_with", "matches",
    "exists", "not_exists", "before", "after", "within_last", "not_within_last",
]  # fmt: skip
OPS: tuple[Op, ...] = Op.__args__  # type: ignore[attr-defined]
COUNT_OPS: tuple[Op, ...] = ("eq", "ne", "gt", "gte", "lt", "lte", "between")
TEXT_OPS: frozenset[Op] = frozenset(
    {"contains", "not_contains", "starts_with", "ends_with", "matches"}
)
EVERY_ELEMENT_OPS: frozenset[Op] = frozenset({"ne", "not_in", "not_contains", "not_within_last"})
"""Over a list these hold when they hold for every element; the others when for at least one."""
ABSENT_OPS: frozenset[Op] = frozenset({"not_exists", "not_within_last"})
"""The only operators that hold for an absent value."""

Function = Literal[
    "sum", "avg", "min", "max", "count_distinct",
    "first", "last", "most_frequent", "days_since_last", "days_since_first",
]  # fmt: skip
FUNCTIONS: tuple[Function, ...] = Function.__args__  # type: ignore[attr-defined]
NUMBER_FUNCTIONS: frozenset[Function] = frozenset({"sum", "avg", "min", "max"})
ELAPSED_FUNCTIONS: frozenset[Function] = frozenset({"days_since_last", "days_since_first"})
"""These look at event times only and take no property."""

DurationUnit = Literal["m", "h", "d", "w", "mo", "y"]
CalendarUnit = Literal["day", "week", "month", "quarter", "year"]
CALENDAR_UNITS: tuple[CalendarUnit, ...] = CalendarUnit.__args__  # type: ignore[attr-defined]

Path = tuple[str, ...]
Scalar = str | float | bool


class Duration(NamedTuple):
    """``30d``: exact lengths for m, h, d, w; calendar steps in UTC for mo and y."""

    amount: int
    unit: DurationUnit


Operand = Scalar | tuple[Scalar, ...] | datetime | Duration | None


class Comparison(NamedTuple):
    """An operator with its operand: scalars for in, not_in, between; a time for before, after;
    a duration for within_last, not_within_last; nothing for exists, not_exists."""

    op: Op
    operand: Operand = None


class Money(NamedTuple):
    """An amount in major units of its currency: ``Money(100.0, "CNY")``."""

    amount: float
    currency: str


class MoneyComparison(NamedTuple):
    """A comparison in which money stands: with amounts of the same currency only."""

    op: Op
    operand: Money | tuple[Scalar | Money, ...]

    def currencies(self) -> list[str]:
        """Return the currencies named, each once."""
        return list(dict.fromkeys(m.currency for m in self._operands() if isinstance(m, Money)))

    def settle(self, currency: str | None) -> Comparison | None:
        """Return what is compared with an amount in ``currency``; ``None``: it never holds.

        Of the values of in and not_in those in another currency are passed over.
        """
        own = tuple(
            each.amount if isinstance(each, Money) else each
            for each in self._operands()
            if not isinstance(each, Money) or each.currency == currency
        )
        if self.op in ("in", "not_in"):
            return Comparison(self.op, own) if own else None
        if len(own) != len(self._operands()):
            return None
        return Comparison(self.op, own if self.op == "between" else own[0])

    def _operands(self) -> tuple[Scalar | Money, ...]:
        return (self.operand,) if isinstance(self.operand, Money) else self.operand


# ── Windows ─────────────────────────────────────────────────────────────────────────────────────


class LastWindow(NamedTuple):
    duration: Duration


class SinceWindow(NamedTuple):
    start: datetime


class BetweenWindow(NamedTuple):
    start: datetime
    end: datetime


class CalendarWindow(NamedTuple):
    unit: CalendarUnit
    offset: int
    timezone: str | None
    """An IANA name; None stands for the workspace's."""


Window = LastWindow | SinceWindow | BetweenWindow | CalendarWindow


# ── Nodes ───────────────────────────────────────────────────────────────────────────────────────


class Origin(NamedTuple):
    """Where a node was written: its JSON Pointer and the document itself."""

    pointer: str
    document: Mapping[str, Any]


NOWHERE = Origin("", {})


@dataclass(frozen=True, slots=True)
class AllOf:
    rules: tuple[Rule, ...]
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AnyOf:
    rules: tuple[Rule, ...]
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Not:
    rule: Rule
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Trait:
    """The trait is the path's first name; the rest leads into its value."""

    path: Path
    comparison: Comparison
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class HasIdentifier:
    type: str
    comparison: Comparison
    """Operands of eq, ne, in, not_in are normalised as identifiers of this type are."""
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Tag:
    key: str
    path: Path
    """Into the tag's value; empty for the value itself."""
    comparison: Comparison
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class InSegment:
    key: str
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Consent:
    """``purpose`` may also be one channel of a purpose: ``marketing.email``."""

    purpose: str
    granted: bool
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AnyAccount:
    """Any of the profile's accounts satisfies the rule, whose traits are the account's."""

    rule: Rule
    """Of ``AllOf``, ``AnyOf``, ``Not`` and ``Trait`` only."""
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


class Condition(NamedTuple):
    """One condition of a ``where``: a property path and its comparison."""

    path: Path
    comparison: Comparison
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Events:
    """Which events are meant: those of one name that meet every condition inside the window."""

    name: str
    where: tuple[Condition, ...] = ()
    within: Window | None = None


class OrderCondition(NamedTuple):
    """One condition on a field of an order, or of a line of it."""

    field: str
    comparison: Comparison | MoneyComparison


@dataclass(frozen=True, slots=True)
class Orders:
    """Which orders are meant: those inside the window that meet every condition of ``where`` and,
    where there are conditions on lines, have a line that meets all of those."""

    where: tuple[OrderCondition, ...] = ()
    line_where: tuple[OrderCondition, ...] = ()
    within: Window | None = None


@dataclass(frozen=True, slots=True)
class EventCount:
    """How many events or orders there are; without a comparison: at least one."""

    events: Events | Orders
    comparison: Comparison | None = None
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class EventFigure:
    """A figure over events or orders. Only as a tag's definition it has no comparison."""

    events: Events | Orders
    function: Function
    path: Path
    """The property, or the order's field; empty for days_since_last and days_since_first."""
    comparison: Comparison | MoneyComparison | None
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)
    currency: str | None = None
    """What amounts of orders are converted into."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a sequence and the gap allowed since the step before."""

    events: Events
    min: Duration | None = None
    max: Duration | None = None


@dataclass(frozen=True, slots=True)
class Sequence:
    steps: tuple[Step, ...]
    within: Window | None = None
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)


Rule = (
    AllOf | AnyOf | Not | Trait | HasIdentifier | Tag | InSegment | Consent
    | AnyAccount | EventCount | EventFigure | Sequence
)  # fmt: skip


def children(rule: Rule) -> tuple[Rule, ...]:
    """Return the rules directly below ``rule``; none for a leaf.

    What is asked of an account is not asked of the profile, so ``AnyAccount`` is a leaf.
    """
    match rule:
        case AllOf(rules=rules) | AnyOf(rules=rules):
            return rules
        case Not(rule=inner):
            return (inner,)
        case _:
            return ()


def walk(rule: Rule) -> Iterator[Rule]:
    """Yield ``rule`` and everything below it, parents first."""
    yield rule
    for child in children(rule):
        yield from walk(child)


def segments_used(rule: Rule) -> frozenset[str]:
    """Return the keys of the segments that ``rule`` looks at directly."""
    return frozenset(node.key for node in walk(rule) if isinstance(node, InSegment))


def tags_used(rule: Rule) -> frozenset[str]:
    """Return the keys of the tags that ``rule`` looks at directly."""
    return frozenset(node.key for node in walk(rule) if isinstance(node, Tag))
