"""Events out of tables with typed columns: the same meaning as out of JSON, without reading any.

A comparison with a value of one type is a comparison with one column, as it would be written by
hand; only where lists, objects or other types were ever seen of a property is more asked.
"""

from __future__ import annotations

from datetime import datetime

from cdp.segments.compile_paths import json_at
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_values import (
    Parameters,
    SqlValue,
    json_holds,
    list_holds,
    value_verdict,
)
from cdp.segments.rules import ABSENT_OPS, Comparison, Condition, Events, Path
from cdp.typed_columns import NESTED, TypedEvent, TypedProperty

_NOTHING = "NULL::JSON"


def typed_events(
    events: Events,
    table: TypedEvent,
    scope: Scope,
    parameters: Parameters,
    value_path: Path | None = None,
    *,
    present: bool = False,
    adds_up: bool = False,
) -> str:
    """Return ``SELECT profile_no, "at", message_id, source_id[, value[, number]]``.

    As ``matching_events`` does; ``table`` has columns for all that is asked. When it ``adds_up``,
    numbers come as doubles in ``number``, and ``value`` is JSON of lists and large numbers only.
    """
    tests = [
        f"({_condition_holds(condition, table, scope, parameters)})" for condition in events.where
    ]
    tests.append(scope.in_window('e."at"', events.within, parameters))
    columns = ""
    if value_path is not None and adds_up and len(value_path) == 1:
        typed = table.properties[value_path[0]]
        other = f"e.{typed.other}" if typed.other else _NOTHING
        number = f"e.{typed.number}" if typed.number else "NULL::DOUBLE"
        columns = f", {other} AS value, {number} AS number"
    elif value_path is not None:
        value = _json_value(value_path, table, parameters)
        columns = f", {value} AS value" + (", NULL::DOUBLE AS number" if adds_up else "")
        if present:
            tests.append(json_holds(value, Comparison("exists"), scope.now, parameters))
    return (
        f'SELECT o.profile_no, e."at", e.message_id, e.source_id{columns} '
        f"FROM {table.table} e JOIN {scope.owners()} o "
        'ON e.node_id = o.node_id AND e."at" >= o.since AND e."at" < o.until '
        f"WHERE {' AND '.join(tests)}"
    )


def _condition_holds(
    condition: Condition, table: TypedEvent, scope: Scope, parameters: Parameters
) -> str:
    typed = table.properties[condition.path[0]]
    if len(condition.path) > 1:
        if not typed.kinds & NESTED:
            return "TRUE" if condition.comparison.op in ABSENT_OPS else "FALSE"
        found = _below(condition.path, typed, parameters)
        return json_holds(found, condition.comparison, scope.now, parameters)
    return typed_holds(typed, condition.comparison, scope.now, parameters)


def typed_holds(
    typed: TypedProperty, comparison: Comparison, now: datetime, parameters: Parameters
) -> str:
    """Return the condition of a comparison with a property; where it is NULL it does not hold."""
    columns = [f"e.{name}" for name in typed.columns()]
    present = f"({' OR '.join(f'{name} IS NOT NULL' for name in columns)})"
    op, operand = comparison
    if op == "exists" or (op == "not_in" and operand == ()):
        return present
    if op == "not_exists":
        return f"NOT {present}"
    tests = [value_verdict(_view(typed), comparison, now, parameters)]
    if typed.kinds & NESTED:
        listed = list_holds(f"e.{typed.other}", comparison, now, parameters)
        tests.append(
            f"(e.{typed.other} IS NOT NULL AND starts_with(e.{typed.other}, '[') AND {listed})"
        )
    if op in ABSENT_OPS:
        tests.append(f"NOT {present}")
    return " OR ".join(tests)


def _view(typed: TypedProperty) -> SqlValue:
    nothing = SqlValue()
    return SqlValue(
        text=f"e.{typed.text}" if typed.text else nothing.text,
        number=f"e.{typed.number}" if typed.number else nothing.number,
        boolean=f"e.{typed.boolean}" if typed.boolean else nothing.boolean,
    )


def _below(path: Path, typed: TypedProperty, parameters: Parameters) -> str:
    if not typed.kinds & NESTED:
        return _NOTHING
    return json_at(f"e.{typed.other}", path[1:], parameters, is_object=False)


def _json_value(path: Path, table: TypedEvent, parameters: Parameters) -> str:
    """Return what lies at ``path`` as JSON, which is equal to what was sent."""
    typed = table.properties[path[0]]
    if len(path) > 1:
        return _below(path, typed, parameters)
    parts = []
    if typed.other:
        parts.append(f"e.{typed.other}")
    if typed.text:
        parts.append(f"to_json(e.{typed.text})")
    if typed.number:
        number = f"e.{typed.number}"
        # Whole numbers are written without a fraction; those too large to be exact are in JSON.
        parts.append(
            f"CASE WHEN {number} = trunc({number}) THEN to_json({number}::BIGINT)"
            f" ELSE to_json({number}) END"
        )
    if typed.boolean:
        parts.append(f"to_json(e.{typed.boolean})")
    return f"coalesce({', '.join(parts)})"
