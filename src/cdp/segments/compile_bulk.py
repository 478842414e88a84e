"""Many leaves over the same table in one look at it.

A statement with a subquery for each of a thousand leaves takes DuckDB minutes to plan. Here they
become columns of one pass, and each profile gets a row for every leaf that speaks for or against
it (``Ballot``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdp.segments.compile_events import plain_figure
from cdp.segments.compile_facts import TRAIT_VALUE, owned_traits, trait_test
from cdp.segments.compile_figures import AT_LEAST_ONE, figure_holds, holds_when_absent
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
from cdp.segments.rules import Comparison, EventCount, EventFigure, Events, Path, Trait

# Figures in one pass: each event is held once for every rule that it counts for.
MOST_FIGURES = 48
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
    copied = scope.copied_traits()
    newest = (
        f"SELECT profile_no, name, value FROM {copied} WHERE name IN (SELECT unnest({names}))"
        if copied is not None
        else f"SELECT o.profile_no, t.name, {TRAIT_VALUE} AS value "
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
    rows = _rows(columns, scope, parameters)
    grouped = f"SELECT profile_no, {', '.join(numbers)} FROM ({rows}) GROUP BY profile_no"
    counted = f"SELECT profile_no, unnest([{', '.join(votes)}]) AS inside FROM ({grouped})"
    return Ballot(f"(SELECT * FROM ({counted}) WHERE inside IS NOT NULL)", inside)


def figure_ballot(
    rules: Sequence[tuple[EventFigure, bool]], scope: Scope, parameters: Parameters
) -> Ballot:
    """Return what some figures of one function (True: negated) say of the profiles.

    Every event gets a row for each rule that it counts for. What is grouped is not the profile but
    profile and rule, written as one number: one table of groups for all of them.
    """
    function, many = rules[0][0].function, len(rules)
    columns = _Columns(parameters)
    meant, values = [], []
    for index, (rule, _) in enumerate(rules):
        assert isinstance(rule.events, Events)
        meant.append(
            f"CASE WHEN {_is_meant(rule.events, scope, parameters, columns)} THEN {index} END"
        )
        values.append(f"WHEN {index} THEN {columns.at(rule.path) if rule.path else 'NULL'}")
    tested = (
        f"SELECT *, unnest([{', '.join(meant)}]) AS leaf "
        f"FROM ({_rows(columns, scope, parameters, ', e.message_id, e.source_id')})"
    )
    labelled = (
        f'SELECT profile_no * {many} + leaf AS profile_no, "at", message_id, source_id, '
        f"CASE leaf {' '.join(values)} END AS value FROM ({tested}) WHERE leaf IS NOT NULL"
    )
    if function in ("first", "last"):
        exists = json_holds("value", Comparison("exists"), scope.now, parameters)
        labelled = f"SELECT * FROM ({labelled}) WHERE {exists}"
    figure = plain_figure(function, labelled, scope, parameters)
    votes, inside = [], 0
    for index, (rule, is_negated) in enumerate(rules):
        comparison = rule.comparison
        assert isinstance(comparison, Comparison)
        absent_holds = holds_when_absent(function, comparison, scope)
        is_complement = absent_holds != is_negated
        inside += not is_complement
        test = figure_holds(figure, comparison, scope, parameters)
        verdict = f"NOT {test}" if absent_holds else test
        vote = f"CASE WHEN {verdict} THEN {-1 if is_complement else 1} END"
        votes.append(f"WHEN {index} THEN {vote}")
    counted = (
        f"SELECT profile_no // {many} AS profile_no, "
        f"CASE profile_no % {many} {' '.join(votes)} END AS inside FROM ({figure.sql})"
    )
    return Ballot(f"(SELECT * FROM ({counted}) WHERE inside IS NOT NULL)", inside)


def _rows(columns: _Columns, scope: Scope, parameters: Parameters, more: str = "") -> str:
    """Return the events of the names in ``columns``, with what is read of them."""
    named = parameters.add(list(columns.events), "VARCHAR[]")
    return (
        f'SELECT profile_no, e.event, e."at"{more}{columns.extracted()} '
        f"FROM {scope.owned_events()} "
        f'WHERE e.event IN (SELECT unnest({named})) AND e."at" <= {parameters.add(scope.now)}'
    )


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
