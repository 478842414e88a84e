"""What is known of people as DuckDB sets: traits, identifiers, consents, tags, segments."""

from __future__ import annotations

from collections.abc import Sequence

from cdp.model import DEFAULT_CONSENT_AT
from cdp.reach import list_names, write_reach_query
from cdp.segments.compile_members import Members, as_members, members_where
from cdp.segments.compile_paths import json_at
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_values import Parameters, SqlValue, json_holds, scalar_holds
from cdp.segments.rules import (
    ABSENT_OPS,
    EVERY_ELEMENT_OPS,
    Consent,
    HasIdentifier,
    InSegment,
    Tag,
    Trait,
)

# What several registers of a trait amount to, see ``cdp.trait_value``.
TRAIT_VALUE = 'core.trait_value(value, part, rank, "at", message_id, source_number)'


def trait_members(
    name: str,
    rules: Sequence[tuple[Trait, bool]],
    scope: Scope,
    parameters: Parameters,
) -> Members:
    """Return the profiles whose trait ``name`` meets all ``rules`` (True: negated) at once."""
    paths = dict.fromkeys(rule.path[1:] for rule, _ in rules)
    columns = {path: f"v{number}" for number, path in enumerate(paths)}
    extracted = "".join(
        f", {json_at('value', path, parameters, is_object=False)} AS {column}"
        for path, column in columns.items()
    )
    test, absent_holds = trait_test(rules, columns, scope, parameters)
    copied = scope.copied_traits()
    if copied is not None:
        values = f"SELECT profile_no{extracted} FROM {copied} WHERE name = {parameters.add(name)}"
        return as_members(
            f"SELECT profile_no FROM ({values}) WHERE {test}", is_complement=absent_holds
        )
    said = (
        'SELECT o.profile_no, t.value, t.part, t.rank, t."at", t.message_id, t.source_number '
        f"FROM {owned_traits(scope)} "
        f'WHERE t.name = {parameters.add(name)} AND t."at" <= {parameters.add(scope.now)}'
    )
    # Nearly always all of a person's values agree, and are whole; only where not, all that was said
    # is put together.
    verdicts = (
        "SELECT profile_no, bool_or(fits) AS some_fit, bool_and(fits) AS all_fit, "
        f"bool_or(is_parted) AS is_parted FROM (SELECT profile_no, {test} AS fits, is_parted FROM ("
        f"SELECT profile_no, core.is_parted(part, value) AS is_parted{extracted} FROM ({said}))) "
        "GROUP BY profile_no"
    )
    disputed = "(SELECT profile_no FROM verdicts WHERE is_parted OR (some_fit AND NOT all_fit))"
    put_together = (
        f"SELECT profile_no, {TRAIT_VALUE} AS value FROM ({said}) "
        f"SEMI JOIN {disputed} USING (profile_no) GROUP BY profile_no"
    )
    return as_members(
        f"WITH verdicts AS ({verdicts}) "
        "SELECT profile_no FROM verdicts WHERE all_fit AND NOT is_parted UNION ALL "
        f"SELECT profile_no FROM (SELECT profile_no{extracted} FROM ({put_together})) WHERE {test}",
        is_complement=absent_holds,
    )


def owned_traits(scope: Scope) -> str:
    """Return the trait values ``t`` joined with whose they are (``o``)."""
    return (
        f"{scope.table('node_traits')} t JOIN {scope.owners()} o "
        'ON t.node_id = o.node_id AND t."at" >= o.since AND t."at" < o.until'
    )


def trait_test(
    rules: Sequence[tuple[Trait, bool]],
    columns: dict[tuple[str, ...], str],
    scope: Scope,
    parameters: Parameters,
) -> tuple[str, bool]:
    """Return the test on a trait's value, and whether the absent are members.

    Where they are, the test is the opposite one: it finds those who are not members.
    """
    tests = []
    for rule, is_negated in rules:
        column = columns[rule.path[1:]]
        test = json_holds(column, rule.comparison, scope.now, parameters)
        tests.append(f"NOT {test}" if is_negated else test)
    joined = f"({' AND '.join(tests)})"
    absent_holds = all(
        (rule.comparison.op in ABSENT_OPS) != is_negated for rule, is_negated in rules
    )
    return (f"(NOT {joined})" if absent_holds else joined), absent_holds


def tag_members(rule: Tag, scope: Scope, parameters: Parameters) -> Members:
    """Return the profiles whose tag value meets the comparison."""
    value = json_at("value", rule.path, parameters, is_object=False)
    rows = _known(
        scope.table("tag_values"),
        f"key = {parameters.add(rule.key)}",
        f"profile_no, {value} AS value",
        scope,
    )
    test = json_holds("value", rule.comparison, scope.now, parameters)
    return members_where(rows, test, rule.comparison.op in ABSENT_OPS)


def segment_members(rule: InSegment, scope: Scope, parameters: Parameters) -> Members:
    """Return the members of another segment."""
    condition = f"segment = {parameters.add(rule.key)}"
    return as_members(_known(scope.table("memberships"), condition, "profile_no", scope))


def _known(table: str, condition: str, columns: str, scope: Scope) -> str:
    """Select from a table of results, which may still name profiles that are gone."""
    return (
        f"SELECT {columns} FROM {table} SEMI JOIN {scope.everyone()} USING (profile_no) "
        f"WHERE {condition}"
    )


def identifier_members(rule: HasIdentifier, scope: Scope, parameters: Parameters) -> Members:
    """Return the profiles whose identifiers of one type meet the comparison, as a list does."""
    # The profile that an identifier names now: the row that is open to the future.
    rows = (
        f"SELECT o.profile_no, n.value FROM {scope.table('nodes')} n JOIN {scope.owners()} o "
        "ON n.node_id = o.node_id "
        f"WHERE n.type = {parameters.add(rule.type)} AND n.variant = '' AND o.until = 'infinity'"
    )
    op = rule.comparison.op
    if op in ("exists", "not_exists"):
        select = f"SELECT DISTINCT profile_no FROM ({rows})"
        return as_members(select, is_complement=op == "not_exists")
    test = scalar_holds(SqlValue(text="value"), rule.comparison, scope.now, parameters)
    if op not in EVERY_ELEMENT_OPS:
        return as_members(f"SELECT DISTINCT profile_no FROM ({rows}) WHERE {test}")
    tested = f"SELECT profile_no, {test} AS holds FROM ({rows})"
    grouped = f"SELECT profile_no, bool_and(holds) AS holds FROM ({tested}) GROUP BY profile_no"
    return members_where(grouped, "holds", op in ABSENT_OPS)


def consent_members(rule: Consent, scope: Scope, parameters: Parameters) -> Members:
    """Return the profiles that granted, or denied, a purpose or a channel of it."""
    verdicts = write_reach_query(
        "duckdb",
        names=[parameters.add(name) for name in list_names(rule.purpose)],
        at=parameters.add(scope.now),
        default_at=parameters.add(DEFAULT_CONSENT_AT),
        consents=scope.table("node_consents"),
        owners=scope.owners(),
        profiles=scope.table("profiles"),
    )
    wanted = "granted" if rule.granted else "NOT granted"
    return as_members(f"SELECT profile_no FROM ({verdicts}) WHERE {wanted}")
