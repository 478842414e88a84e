"""Many leaves over the same table in one look at it.

A statement with a subquery for each of a thousand leaves takes DuckDB minutes to plan. Here they
become columns of one pass, and each profile gets a row for every leaf that speaks for or against
it (``Ballot``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdp.segments.compile_facts import TRAIT_VALUE, owned_traits, trait_test
from cdp.segments.compile_figures import AT_LEAST_ONE
from cdp.segments.compile_members import Ballot
from cdp.segments.compile_paths import json_at
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_values import (
    Parameters,
    SqlValue,
    json_holds,
    scalar_holds,
)
from cdp.segments.evaluate_values import value_holds
from cdp.segments.rules import EventCount, Events, Path, Trait

# Counts in one pass: memory grows with their number times the profiles that have such events.
MOST_COUNTED = 24


def trait_ballot(
    traits: Mapping[str, Sequence[tuple[Trait, bool]]], scope: Scope, parameters: Parameters
) -> Ballot:
    """Return what the conditions (True: negated) on each of many traits say of the profiles."""
    votes, inside = [], 0
    for name, rules in traits.items():
        columns = {
            rule.path[1:]: json_at("value", rule.path[1:], parameters, is_object=False)
            for rule, _ in rules
        }
        test, absent_holds = trait_test(rules, columns, scope, parameters)
        inside += not absent_holds
        vote = f"CASE WHEN {test} THEN {-1 if absent_holds else 1} END"
        votes.append(f"WHEN {parameters.add(name)} THEN {vote}")
    names = parameters.add(list(traits), "VARCHAR[]")
    newest = (
        f"SELECT o.profile_no, t.name, {TRAIT_VALUE} AS value "
        f"FROM {owned_traits(scope)} "
        f'WHERE t.name IN (SELECT unnest({names})) AND t."at" <= {parameters.add(scope.now)} '
        "GROUP BY o.profile_no, t.name"
    )
    counted = f"SELECT profile_no, CASE name {' '.join(votes)} END AS inside FROM ({newest})"
    return Ballot(f"(SELECT * FROM ({counted}) WHERE inside IS NOT NULL)", inside)


def count_ballot(
    rules: Sequence[tuple[EventCount, bool]], scope: Scope, parameters: Parameters
) -> Ballot:
    """Return what some numbers of events (True: negated) say of the profiles.

    Of more than ``MOST_COUNTED`` ask for several: a profile's numbers are held side by side.
    """
    columns = _Columns(parameters)
    numbers, votes, inside = [], [], 0
    for index, (rule, is_negated) in enumerate(rules):
        assert isinstance(rule.events, Events)
        comparison = rule.comparison or AT_LEAST_ONE
        meant = _is_meant(rule.events, scope, parameters, columns)
        numbers.append(f"count(*) FILTER (WHERE {meant}) AS n{index}")
        test = scalar_holds(SqlValue(number=f"n{index}"), comparison, scope.now, parameters)
        absent_holds = value_holds(0.0, comparison, scope.now) != is_negated
        inside += not absent_holds
        sign = "NOT " if absent_holds != is_negated else ""
        votes.append(f"CASE WHEN {sign}{test} THEN {-1 if absent_holds else 1} END")
    named = parameters.add(list(columns.events), "VARCHAR[]")
    rows = (
        f'SELECT o.profile_no, e.event, e."at"{columns.extracted()} '
        f"FROM {scope.table('events')} e JOIN {scope.owners()} o "
        'ON e.node_id = o.node_id AND e."at" >= o.since AND e."at" < o.until '
        f'WHERE e.event IN (SELECT unnest({named})) AND e."at" <= {parameters.add(scope.now)}'
    )
    grouped = f"SELECT profile_no, {', '.join(numbers)} FROM ({rows}) GROUP BY profile_no"
    counted = f"SELECT profile_no, unnest([{', '.join(votes)}]) AS inside FROM ({grouped})"
    return Ballot(f"(SELECT * FROM ({counted}) WHERE inside IS NOT NULL)", inside)


class _Columns:
    """What is read of events: every name, and every property once, however many ask for it."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self.events: dict[str, str] = {}
        self._paths: dict[Path, str] = {}

    def name(self, event: str) -> str:
        """Return the placeholder of an event's name."""
        if event not in self.events:
            self.events[event] = self._parameters.add(event)
        return self.events[event]

    def at(self, path: Path) -> str:
        """Return the column that holds what lies at ``path``."""
        return self._paths.setdefault(path, f"w{len(self._paths)}")

    def extracted(self) -> str:
        """Return the columns of what lies at the paths, for a select list over events ``e``."""
        return "".join(
            f", {json_at('e.properties', path, self._parameters, is_object=True)} AS {column}"
            for path, column in self._paths.items()
        )


def _is_meant(events: Events, scope: Scope, parameters: Parameters, columns: _Columns) -> str:
    tests = [
        f"event = {columns.name(events.name)}",
        scope.in_window('"at"', events.within, parameters),
    ]
    for condition in events.where:
        column = columns.at(condition.path)
        tests.append(json_holds(column, condition.comparison, scope.now, parameters))
    return " AND ".join(tests)
