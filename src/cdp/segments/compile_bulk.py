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
from cdp.segments.compile_values import Parameters, SqlValue, json_holds, scalar_holds
from cdp.segments.evaluate_values import value_holds
from cdp.segments.rules import EventCount, Events, Trait


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
    """Return what many numbers of events (True: negated) say of the profiles."""
    names: list[str] = []
    numbers, votes, inside = [], [], 0
    for index, (rule, is_negated) in enumerate(rules):
        assert isinstance(rule.events, Events)
        names.append(rule.events.name)
        comparison = rule.comparison or AT_LEAST_ONE
        meant = _is_meant(rule.events, scope, parameters)
        numbers.append(f"count(*) FILTER (WHERE {meant}) AS n{index}")
        test = scalar_holds(SqlValue(number=f"n{index}"), comparison, scope.now, parameters)
        absent_holds = value_holds(0.0, comparison, scope.now) != is_negated
        inside += not absent_holds
        sign = "NOT " if absent_holds != is_negated else ""
        votes.append(f"CASE WHEN {sign}{test} THEN {-1 if absent_holds else 1} END")
    named = parameters.add(list(dict.fromkeys(names)), "VARCHAR[]")
    grouped = (
        f"SELECT o.profile_no, {', '.join(numbers)} "
        f"FROM {scope.table('events')} e JOIN {scope.owners()} o "
        'ON e.node_id = o.node_id AND e."at" >= o.since AND e."at" < o.until '
        f'WHERE e.event IN (SELECT unnest({named})) AND e."at" <= {parameters.add(scope.now)} '
        "GROUP BY o.profile_no"
    )
    counted = f"SELECT profile_no, unnest([{', '.join(votes)}]) AS inside FROM ({grouped})"
    return Ballot(f"(SELECT * FROM ({counted}) WHERE inside IS NOT NULL)", inside)


def _is_meant(events: Events, scope: Scope, parameters: Parameters) -> str:
    tests = [
        f"e.event = {parameters.add(events.name)}",
        scope.in_window('e."at"', events.within, parameters),
    ]
    for condition in events.where:
        value = json_at("e.properties", condition.path, parameters, is_object=True)
        tests.append(json_holds(f"({value})", condition.comparison, scope.now, parameters))
    return " AND ".join(tests)
