"""Rule tree → DuckDB SQL. Only this SQL decides membership; ``evaluate`` is its written meaning.

Values, names of events, properties and traits are parameters; table and column names stand here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cdp.segments.compile_events import Figure, Scope, counted, event_figure, matching_events
from cdp.segments.compile_members import Members, Relations, intersect, unite
from cdp.segments.compile_paths import json_at
from cdp.segments.compile_sequence import sequence_members
from cdp.segments.compile_values import Parameters, SqlValue, json_holds, scalar_holds
from cdp.segments.evaluate_values import value_holds
from cdp.segments.rules import (
    ABSENT_OPS,
    EVERY_ELEMENT_OPS,
    AllOf,
    AnyOf,
    Comparison,
    Consent,
    EventCount,
    EventFigure,
    HasIdentifier,
    InSegment,
    Not,
    Rule,
    Sequence,
    Tag,
    Trait,
)

AT_LEAST_ONE = Comparison("gte", 1.0)
# The newest of several facts: by event time, then message id; the source settles a tie.
_NEWEST = '("at", message_id, source_number)'


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement and its named parameters."""

    sql: str
    params: dict[str, object]


def compile_rule(rule: Rule, now: datetime, timezone: str, scope: bool = False) -> Compiled:
    """Return ``SELECT profile_no`` of the profiles for which ``rule`` holds at ``now``.

    ``timezone`` is the zone of calendar windows that name none. With ``scope`` only profiles in
    the relation ``scope(profile_no BIGINT)``, which the caller registers, are looked at.
    """
    compiler = _Compiler(Scope(now, timezone, scope))
    members = compiler.members(rule)
    if members.is_complement:
        select = (
            f"SELECT profile_no FROM {compiler.everyone()} ANTI JOIN {members.name} "
            "USING (profile_no)"
        )
    else:
        select = f"SELECT profile_no FROM {members.name}"
    return compiler.statement(select)


def compile_aggregate(
    rule: EventFigure | EventCount, now: datetime, timezone: str, scope: bool = False
) -> Compiled:
    """Return ``SELECT profile_no, value`` (JSON) of a tag's aggregate at ``now``.

    Counts are 0 for profiles without a matching event; profiles whose figure is absent have no
    row. ``timezone`` and ``scope`` are those of ``compile_rule``.
    """
    compiler = _Compiler(Scope(now, timezone, scope))
    return compiler.statement(compiler.values(rule))


class _Compiler:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._parameters = Parameters()
        self._relations = Relations()
        self._done: dict[str, Members] = {}

    def statement(self, select: str) -> Compiled:
        return Compiled(self._relations.prefix() + select, self._parameters.values)

    def everyone(self) -> str:
        restriction = " SEMI JOIN scope USING (profile_no)" if self._scope.is_restricted else ""
        return f"(SELECT profile_no FROM core.profiles{restriction})"

    def members(self, rule: Rule) -> Members:
        # Equal leaves are looked up once, however often they stand in the tree. The text is the key
        # because 1.0 and True are equal in Python.
        key = repr(rule)
        if key not in self._done:
            self._done[key] = self._members(rule)
        return self._done[key]

    def _members(self, rule: Rule) -> Members:
        match rule:
            case AllOf(rules=rules):
                return intersect([self.members(inner) for inner in rules], self._relations)
            case AnyOf(rules=rules):
                return unite([self.members(inner) for inner in rules], self._relations)
            case Not(rule=inner):
                return self.members(inner).inverted()
            case Trait():
                return self._trait(rule)
            case Tag():
                rows = self._tag_values(rule)
                return self._leaf(rows, *self._json_test(rule.comparison))
            case HasIdentifier():
                return self._identifier(rule)
            case InSegment(key=key):
                return self._add(self._known("core.memberships", f"segment = {self._p(key)}"))
            case Consent():
                return self._consent(rule)
            case EventCount():
                return self._count(rule)
            case EventFigure():
                return self._figure(rule)
            case Sequence():
                return self._add(sequence_members(rule, self._scope, self._parameters))

    # ── Building blocks ─────────────────────────────────────────────────────────────────────────

    def _p(self, value: object) -> str:
        return self._parameters.add(value)

    def _add(self, sql: str, *, is_complement: bool = False) -> Members:
        return Members(self._relations.add(sql), is_complement)

    def _leaf(self, rows: str, test: str, absent_holds: bool) -> Members:
        """Return the profiles whose row in ``rows`` satisfies ``test``."""
        wanted = f"NOT {test}" if absent_holds else test
        sql = f"SELECT profile_no FROM ({rows}) WHERE {wanted}"
        return self._add(sql, is_complement=absent_holds)

    def _json_test(self, comparison: Comparison) -> tuple[str, bool]:
        test = json_holds("value", comparison, self._scope.now, self._parameters)
        return test, comparison.op in ABSENT_OPS

    def _known(self, table: str, condition: str, columns: str = "profile_no") -> str:
        """Select from a table of results, which may still name profiles that are gone."""
        return (
            f"SELECT {columns} FROM {table} SEMI JOIN {self.everyone()} USING (profile_no) "
            f"WHERE {condition}"
        )

    # ── Leaves ──────────────────────────────────────────────────────────────────────────────────

    def _trait(self, rule: Trait) -> Members:
        value = json_at("t.value", rule.path[1:], self._parameters, is_object=False)
        test, absent_holds = self._json_test(rule.comparison)
        wanted = f"NOT {test}" if absent_holds else test
        tested = (
            f'SELECT profile_no, {wanted} AS fits, "at", message_id, source_number FROM ('
            f'SELECT o.profile_no, {value} AS value, t."at", t.message_id, t.source_number '
            f"FROM core.node_traits t JOIN {self._scope.owners()} o "
            f'ON t.node_id = o.node_id AND t."at" >= o.since AND t."at" < o.until '
            f'WHERE t.name = {self._p(rule.path[0])} AND t."at" <= {self._p(self._scope.now)})'
        )
        # Nearly always all of a person's values agree; only where not, the newest is looked for.
        verdicts = self._relations.add(
            "SELECT profile_no, bool_or(fits) AS some_fit, bool_and(fits) AS all_fit "
            f"FROM ({tested}) GROUP BY profile_no"
        )
        disputed = f"(SELECT profile_no FROM {verdicts} WHERE some_fit AND NOT all_fit)"
        sql = (
            f"SELECT profile_no FROM {verdicts} WHERE all_fit UNION ALL SELECT profile_no "
            f"FROM ({tested}) SEMI JOIN {disputed} USING (profile_no) "
            f"GROUP BY profile_no HAVING arg_max(fits, {_NEWEST})"
        )
        return self._add(sql, is_complement=absent_holds)

    def _tag_values(self, rule: Tag) -> str:
        value = json_at("value", rule.path, self._parameters, is_object=False)
        return self._known(
            "core.tag_values", f"key = {self._p(rule.key)}", f"profile_no, {value} AS value"
        )

    def _identifier(self, rule: HasIdentifier) -> Members:
        # The profile that an identifier names now: the row that is open to the future.
        rows = (
            f"SELECT o.profile_no, n.value FROM core.nodes n JOIN {self._scope.owners()} o "
            "ON n.node_id = o.node_id "
            f"WHERE n.type = {self._p(rule.type)} AND n.variant = '' AND o.until = 'infinity'"
        )
        op = rule.comparison.op
        if op in ("exists", "not_exists"):
            sql = f"SELECT DISTINCT profile_no FROM ({rows})"
            return self._add(sql, is_complement=op == "not_exists")
        value = SqlValue(text="value")
        if op not in EVERY_ELEMENT_OPS:
            test = scalar_holds(value, rule.comparison, self._scope.now, self._parameters)
            return self._add(f"SELECT DISTINCT profile_no FROM ({rows}) WHERE {test}")
        tested = (
            f"SELECT profile_no, "
            f"{scalar_holds(value, rule.comparison, self._scope.now, self._parameters)} AS holds "
            f"FROM ({rows})"
        )
        grouped = f"SELECT profile_no, bool_and(holds) AS holds FROM ({tested}) GROUP BY profile_no"
        return self._leaf(grouped, "holds", op in ABSENT_OPS)

    def _consent(self, rule: Consent) -> Members:
        statements = (
            'SELECT o.profile_no, c.granted, c."at", c.message_id, c.source_number, p.joined_at '
            f"FROM core.node_consents c JOIN {self._scope.owners()} o "
            f'ON c.node_id = o.node_id AND c."at" >= o.since AND c."at" < o.until '
            "JOIN core.profiles p ON p.profile_no = o.profile_no "
            f"WHERE c.purpose = {self._p(rule.purpose)} "
            f'AND c."at" <= {self._p(self._scope.now)}'
        )
        # After a merge the most restrictive statement counts until a newer one replaces them all.
        verdict = (
            'CASE WHEN coalesce(max("at") > any_value(joined_at), TRUE) '
            f"THEN arg_max(granted, {_NEWEST}) ELSE bool_and(granted) END"
        )
        rows = f"SELECT profile_no, {verdict} AS granted FROM ({statements}) GROUP BY profile_no"
        wanted = "granted" if rule.granted else "NOT granted"
        return self._add(f"SELECT profile_no FROM ({rows}) WHERE {wanted}")

    def _count(self, rule: EventCount) -> Members:
        comparison = rule.comparison or AT_LEAST_ONE
        if comparison == AT_LEAST_ONE:
            rows = matching_events(rule.events, self._scope, self._parameters)
            return self._add(f"SELECT DISTINCT profile_no FROM ({rows})")
        # Where zero satisfies too: everybody but those whose number does not.
        zero_holds = value_holds(0.0, comparison, self._scope.now)
        sql = counted(rule.events, comparison, self._scope, self._parameters, negated=zero_holds)
        return self._add(sql, is_complement=zero_holds)

    def _figure(self, rule: EventFigure) -> Members:
        assert rule.comparison is not None
        figure = event_figure(rule, self._scope, self._parameters)
        absent_holds = rule.comparison.op in ABSENT_OPS
        if rule.function == "count_distinct":
            absent_holds = value_holds(0.0, rule.comparison, self._scope.now)
        return self._leaf(figure.sql, self._figure_test(figure, rule.comparison), absent_holds)

    def _figure_test(self, figure: Figure, comparison: Comparison) -> str:
        if not figure.is_number:
            return json_holds("value", comparison, self._scope.now, self._parameters)
        if comparison.op in ("exists", "not_exists"):
            return "TRUE" if comparison.op == "exists" else "FALSE"
        return scalar_holds(figure.view(), comparison, self._scope.now, self._parameters)

    # ── Values for tags ─────────────────────────────────────────────────────────────────────────

    def values(self, rule: EventFigure | EventCount) -> str:
        if isinstance(rule, EventCount):
            rows = matching_events(rule.events, self._scope, self._parameters)
            figure = f"SELECT profile_no, count(*) AS value FROM ({rows}) GROUP BY profile_no"
            return self._counts(figure)
        result = event_figure(rule, self._scope, self._parameters)
        if rule.function == "count_distinct":
            return self._counts(result.sql)
        if not result.is_number:
            return f"SELECT profile_no, value::JSON AS value FROM ({result.sql})"
        # Whole numbers are written without a fraction, as they were sent.
        whole = "value = trunc(value) AND abs(value) < 9007199254740992"
        written = f"CASE WHEN {whole} THEN to_json(value::BIGINT) ELSE to_json(value) END"
        return f"SELECT profile_no, {written} AS value FROM ({result.sql})"

    def _counts(self, figure: str) -> str:
        name = self._relations.add(figure)
        return (
            f"SELECT e.profile_no, to_json(coalesce(f.value, 0)) AS value "
            f"FROM {self.everyone()} e LEFT JOIN {name} f ON e.profile_no = f.profile_no"
        )
