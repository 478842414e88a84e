"""The rule language as JSON Schema (draft 2020-12), for editors and form builders.

It says what a rule looks like; ``parse`` says so too, with the place of a mistake, and knows
besides which segments and tags there are and which patterns RE2 takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cdp.reach import CHANNELS
from cdp.segments.order_fields import list_fields
from cdp.segments.rules import (
    CALENDAR_UNITS,
    COUNT_OPS,
    ELAPSED_FUNCTIONS,
    FUNCTIONS,
    NUMBER_FUNCTIONS,
    OPS,
    TEXT_OPS,
)
from cdp.segments.times import TIME_PATTERN

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_MONEY: Schema = {
    "type": "object",
    "properties": {"amount": {"type": "integer"}, "currency": {"type": "string"}},
    "required": ["amount", "currency"],
    "additionalProperties": False,
}
_TIME: Schema = {"type": "string", "pattern": f"^{TIME_PATTERN}$"}
_DURATION: Schema = {"type": "string", "pattern": "^[0-9]+(mo|m|h|d|w|y)$"}
_RULE: Schema = {"$ref": "#/$defs/rule"}
_WITHIN: Schema = {"$ref": "#/$defs/window"}


def rule_schema() -> Schema:
    """Return the JSON Schema of a rule."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Rule",
        "description": "True or false for a profile at one instant.",
        "$ref": "#/$defs/rule",
        "$defs": {
            "rule": {"oneOf": _forms()},
            "account_rule": {"oneOf": _combinations({"$ref": "#/$defs/account_rule"})},
            "window": {"oneOf": _windows()},
            "comparison": {"oneOf": _comparisons(_SCALAR)},
            "order_comparison": {"oneOf": _comparisons({"anyOf": [_SCALAR, _MONEY]})},
            "count": _object({"op": {"enum": list(COUNT_OPS)}, "value": {}}, ("op", "value")),
            "condition": _compared({"property": _TEXT}),
            "order_condition": _compared(
                {"property": {"type": "string", "description": f"One of {list_fields()}."}},
                "order_comparison",
            ),
        },
    }


def _object(properties: Schema, required: Sequence[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _compared(properties: Schema, comparison: str = "comparison", **optional: Schema) -> Schema:
    """Return an object with the keys of a comparison beside its own."""
    return {
        **_object({**properties, **optional, "op": {}, "value": {}}, [*properties, "op"]),
        "allOf": [{"$ref": f"#/$defs/{comparison}"}],
    }


def _comparisons(scalar: Schema) -> list[Schema]:
    timed = ["before", "after"]
    rolling = ["within_last", "not_within_last"]
    listed = ["in", "not_in"]
    bare = ["exists", "not_exists"]
    texts = sorted(TEXT_OPS)
    special = {"between", *timed, *rolling, *listed, *bare, *texts}

    def of(ops: Sequence[str], value: Schema) -> Schema:
        return {"properties": {"op": {"enum": list(ops)}, "value": value}, "required": ["value"]}

    return [
        of([op for op in OPS if op not in special], scalar),
        of(listed, {"type": "array", "items": scalar}),
        of(["between"], {"type": "array", "items": scalar, "minItems": 2, "maxItems": 2}),
        of(texts, {"type": "string"}),
        of(timed, _TIME),
        of(rolling, _DURATION),
        {"properties": {"op": {"enum": bare}}, "not": {"required": ["value"]}},
    ]


def _windows() -> list[Schema]:
    return [
        _object({"last": _DURATION}, ("last",)),
        _object({"since": _TIME}, ("since",)),
        _object(
            {"between": {"type": "array", "items": _TIME, "minItems": 2, "maxItems": 2}},
            ("between",),
        ),
        _object(
            {
                "calendar": {"enum": list(CALENDAR_UNITS)},
                "offset": {"type": "integer"},
                "tz": {"type": "string", "description": "An IANA time zone."},
            },
            ("calendar",),
        ),
    ]


def _forms() -> list[Schema]:
    count = {"$ref": "#/$defs/count"}
    events = {"event": _TEXT, **_where("condition"), "within": _WITHIN}
    orders = {"orders": _object(_where("order_condition"), ()), "within": _WITHIN}
    return [
        *_combinations(_RULE),
        _object({"account": {"$ref": "#/$defs/account_rule"}}, ("account",)),
        _compared({"identifier": _TEXT}),
        _compared({"tag": _TEXT}),
        _object({"segment": _TEXT}, ("segment",)),
        _object(
            {
                "consent": _TEXT,
                "channel": {"enum": list(CHANNELS)},
                "op": {"enum": ["granted", "denied"]},
            },
            ("consent", "op"),
        ),
        _object({**events, "count": count}, ("event",)),
        _figure(events, "event", "comparison", {"oneOf": _aggregates()}),
        _object({**orders, "count": count}, ("orders",)),
        _figure(orders, "orders", "order_comparison", {"oneOf": _order_aggregates()}),
        _object({"sequence": _steps(), "within": _WITHIN}, ("sequence",)),
    ]


def _combinations(rule: Schema) -> list[Schema]:
    """Return what can be asked of a profile and of an account alike; ``rule`` is what nests."""
    rules = {"type": "array", "items": rule}
    return [
        _object({"all": rules}, ("all",)),
        _object({"any": rules}, ("any",)),
        _object({"not": rule}, ("not",)),
        _compared({"trait": _TEXT}),
    ]


def _where(condition: str) -> Schema:
    return {"where": {"type": "array", "items": {"$ref": f"#/$defs/{condition}"}}}


def _figure(parts: Schema, form: str, comparison: str, aggregate: Schema) -> Schema:
    properties = {**parts, "aggregate": aggregate, "op": {}, "value": {}}
    return {
        **_object(properties, (form, "aggregate", "op")),
        "allOf": [{"$ref": f"#/$defs/{comparison}"}],
    }


def _aggregates() -> list[Schema]:
    over_values = [name for name in FUNCTIONS if name not in ELAPSED_FUNCTIONS]
    return [
        _object({"fn": {"enum": over_values}, "property": _TEXT}, ("fn", "property")),
        _object({"fn": {"enum": sorted(ELAPSED_FUNCTIONS)}}, ("fn",)),
    ]


def _order_aggregates() -> list[Schema]:
    converted = {
        "fn": {"enum": sorted(NUMBER_FUNCTIONS)},
        "property": _TEXT,
        "currency": {"type": "string", "description": "An ISO 4217 currency to convert into."},
    }
    return [*_aggregates(), _object(converted, ("fn", "property", "currency"))]


def _steps() -> Schema:
    step = {"event": _TEXT, **_where("condition")}
    after = {
        **_object({"min": _DURATION, "max": _DURATION}, ()),
        "description": "The gap since the step before.",
    }
    return {
        "type": "array",
        "minItems": 1,
        "prefixItems": [_object(step, ("event",))],
        "items": _object({**step, "after": after}, ("event",)),
    }
