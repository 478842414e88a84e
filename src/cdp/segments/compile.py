"""Rule tree → DuckDB SQL. Only this SQL decides membership; ``evaluate`` is its written meaning.

Values, names of events, properties and traits are parameters; table and column names stand in the
``compile_*`` files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cdp.segments.compile_accounts import account_members
from cdp.segments.compile_bulk import (
    MOST_COUNTED,
    MOST_FIGURES,
    count_ballot,
    figure_ballot,
    trait_ballot,
)
from cdp.segments.compile_facts import (
    consent_members,
    identifier_members,
    segment_members,
    tag_members,
    trait_members,
)
from cdp.segments.compile_figures import aggregate_values, count_members, figure_members
from cdp.segments.compile_members import MOST_JOINED, Ballot, Members, intersect
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_sequence import sequence_members
from cdp.segments.compile_values import Parameters
from cdp.segments.rules import (
    AllOf,
    AnyAccount,
    AnyOf,
    Consent,
    EventCount,
    EventFigure,
    Events,
    HasIdentifier,
    InSegment,
    Not,
    Rule,
    Sequence,
    Tag,
    Trait,
    walk,
)
from cdp.typed_columns import TypedEvents

_NO_TABLES: TypedEvents = {}
_PLACEHOLDER = re.compile(r"\$(p[0-9]+)\b")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement and its named parameters."""

    sql: str
    params: dict[str, object]
    copies: frozenset[str] = frozenset()
    """The tables of whose copies it makes use (see ``scope_engine``)."""


def compile_rule(
    rule: Rule,
    now: datetime,
    timezone: str,
    scope: bool = False,
    *,
    copied: bool = False,
    typed: TypedEvents = _NO_TABLES,
) -> Compiled:
    """Return ``SELECT profile_no`` of the profiles for which ``rule`` holds at ``now``.

    ``timezone`` is the zone of calendar windows that name none. With ``scope`` only profiles in
    the relation ``scope(profile_no BIGINT)``, which the caller registers, are looked at; where that
    is ``copied``, in copies of the tables. ``typed`` are the events that have tables of their own.
    """
    where = Scope(now, timezone, scope, set() if copied else None, typed)
    compiler = _Compiler(where, _repeated_leaves(rule))
    relation, is_complement = compiler.members(rule)
    if not is_complement:
        return compiler.statement(f"SELECT profile_no FROM {relation}")
    return compiler.statement(
        f"SELECT profile_no FROM {where.everyone()} ANTI JOIN {relation} USING (profile_no)"
    )


def compile_aggregate(
    rule: EventFigure | EventCount,
    now: datetime,
    timezone: str,
    scope: bool = False,
    *,
    copied: bool = False,
    typed: TypedEvents = _NO_TABLES,
) -> Compiled:
    """Return ``SELECT profile_no, value`` (JSON) of a tag's aggregate at ``now``.

    Counts are 0 for profiles without a matching event; profiles whose figure is absent have no
    row. The other arguments are those of ``compile_rule``.
    """
    parameters = Parameters()
    where = Scope(now, timezone, scope, set() if copied else None, typed)
    sql = aggregate_values(rule, where, parameters)
    return Compiled(sql, parameters.values, frozenset(where.copied or ()))


def _repeated_leaves(rule: Rule) -> frozenset[str]:
    """Return the leaves that stand in the tree more than once, as text: 1.0 and True are equal in
    Python, but not in a rule."""
    leaves = Counter(repr(node) for node in walk(rule) if not isinstance(node, AllOf | AnyOf | Not))
    return frozenset(text for text, times in leaves.items() if times > 1)


def _each_once(parts: Iterable[tuple[Rule, bool]]) -> list[tuple[Rule, bool]]:
    """Return the parts without their ``not`` (True: negated), those that say the same once."""
    found: dict[tuple[str, bool], Rule] = {}
    for part, is_negated in parts:
        rule = part
        while isinstance(rule, Not):
            rule, is_negated = rule.rule, not is_negated
        found.setdefault((repr(rule), is_negated), rule)
    return [(rule, is_negated) for (_, is_negated), rule in found.items()]


class _Compiler:
    def __init__(self, scope: Scope, repeated: frozenset[str]) -> None:
        self._scope = scope
        self._repeated = repeated
        self._parameters = Parameters()
        self._named: dict[str, Members] = {}
        self._definitions: list[str] = []

    def statement(self, select: str) -> Compiled:
        prefix = f"WITH {', '.join(self._definitions)} " if self._definitions else ""
        sql = prefix + select
        # Parts that cannot matter were left out, and DuckDB refuses parameters without a place.
        used = set(_PLACEHOLDER.findall(sql))
        params = {k: v for k, v in self._parameters.values.items() if k in used}
        return Compiled(sql, params, frozenset(self._scope.copied or ()))

    def members(self, rule: Rule) -> Members:
        match rule:
            case AllOf(rules=rules):
                return self._intersection((inner, False) for inner in rules)
            case AnyOf(rules=rules):
                # In at least one is: not outside of all.
                return self._intersection((inner, True) for inner in rules).inverted()
            case Not(rule=inner):
                return self.members(inner).inverted()
            case _:
                return self._once(rule)

    def _intersection(self, parts: Iterable[tuple[Rule, bool]]) -> Members:
        """Return the profiles for which every part holds (True: does not hold)."""
        traits: dict[str, list[tuple[Trait, bool]]] = {}
        counts: list[tuple[EventCount, bool]] = []
        figures: dict[str, list[tuple[EventFigure, bool]]] = {}
        others: list[tuple[Rule, bool]] = []
        for rule, is_negated in _each_once(parts):
            if isinstance(rule, Trait):
                traits.setdefault(rule.path[0], []).append((rule, is_negated))
            elif isinstance(rule, EventCount) and isinstance(rule.events, Events):
                counts.append((rule, is_negated))
            elif isinstance(rule, EventFigure) and isinstance(rule.events, Events):
                figures.setdefault(rule.function, []).append((rule, is_negated))
            else:
                others.append((rule, is_negated))
        ballots: list[Ballot] = []
        if len(counts) > MOST_JOINED:
            for start in range(0, len(counts), MOST_COUNTED):
                some = counts[start : start + MOST_COUNTED]
                ballots.append(count_ballot(some, self._scope, self._parameters))
            counts = []
        if len(traits) > MOST_JOINED:
            ballots.append(trait_ballot(traits, self._scope, self._parameters))
            traits = {}
        for alike in figures.values():
            if len(alike) <= MOST_JOINED:
                others += alike
                continue
            for start in range(0, len(alike), MOST_FIGURES):
                some_figures = alike[start : start + MOST_FIGURES]
                ballots.append(figure_ballot(some_figures, self._scope, self._parameters))
        members = [self._trait(name, rules) for name, rules in traits.items()]
        for rule, is_negated in [*counts, *others]:
            found = self.members(rule)
            members.append(found.inverted() if is_negated else found)
        return intersect(members, ballots)

    def _trait(self, name: str, rules: list[tuple[Trait, bool]]) -> Members:
        """Compile the conditions on one trait, which take one look at it."""
        if len(rules) > 1:
            return trait_members(name, rules, self._scope, self._parameters)
        rule, is_negated = rules[0]
        return self._once(rule).inverted() if is_negated else self._once(rule)

    def _once(self, leaf: Rule) -> Members:
        """Compile a leaf; one that is repeated becomes a named subquery, evaluated once."""
        key = repr(leaf)
        if key not in self._repeated:
            return self._leaf(leaf)
        if key not in self._named:
            relation, is_complement = self._leaf(leaf)
            name = f"s{len(self._definitions) + 1}"
            self._definitions.append(f"{name} AS {relation}")
            self._named[key] = Members(name, is_complement)
        return self._named[key]

    def _leaf(self, rule: Rule) -> Members:
        scope, parameters = self._scope, self._parameters
        match rule:
            case Trait():
                return trait_members(rule.path[0], [(rule, False)], scope, parameters)
            case Tag():
                return tag_members(rule, scope, parameters)
            case HasIdentifier():
                return identifier_members(rule, scope, parameters)
            case InSegment():
                return segment_members(rule, scope, parameters)
            case Consent():
                return consent_members(rule, scope, parameters)
            case AnyAccount():
                return account_members(rule, scope, parameters)
            case EventCount():
                return count_members(rule, scope, parameters)
            case EventFigure():
                return figure_members(rule, scope, parameters)
            case Sequence():
                return sequence_members(rule, scope, parameters)
            case _:
                raise TypeError("not a leaf")
