"""The JSON Schemas (draft 2020-12) of a plan: which are taken, and how they are compiled. Pure.

The door runs them on every event, so a schema may cost only so much: no reference leaves it or
runs in a circle, what it amounts to with references written out is bounded, and patterns are those
of RE2, which take linear time (no look-around, no back-references).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

LONGEST_SCHEMA = 64 * 1024
"""Bytes of one schema as JSON."""
MOST_EXPANDED = 20_000
"""Nodes of one schema with its references written out."""
DEEPEST_SCHEMA = 48
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=256 * 1024, dfa_size_limit=1024 * 1024)
_HIDDEN = "the value"
_DEFINITIONS = "#/$defs/"
_ONE = frozenset(
    {
        "additionalProperties", "unevaluatedProperties", "items", "unevaluatedItems", "contains",
        "propertyNames", "not", "if", "then", "else", "contentSchema",
    }
)  # fmt: skip
_LIST = frozenset({"prefixItems", "allOf", "anyOf", "oneOf"})
_MAP = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
_CONDITIONS = (
    "not",
    "if",
    "contains",
    "unevaluatedProperties",
    "unevaluatedItems",
    "propertyNames",
)
_REFUSED = frozenset({"$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$id", "$anchor"})

Schema = dict[str, Any]
Steps = tuple[str | int, ...]
Validator = jsonschema_rs.Draft202012Validator


class BadSchema(ValueError):
    """A schema that is not taken; ``steps`` lead to the mistake in it."""

    def __init__(self, message: str, steps: Steps = ()) -> None:
        super().__init__(message)
        self.steps = steps


def check_schema(schema: Any) -> None:
    """Raise ``BadSchema`` unless ``schema`` is one that ``compile_schema`` compiles."""
    if not isinstance(schema, dict):
        raise BadSchema("a schema is a JSON object")
    _check_keywords(schema, ())
    if len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "replace")) > LONGEST_SCHEMA:
        raise BadSchema(f"a schema has at most {LONGEST_SCHEMA} bytes")
    _check_size(schema)
    try:
        _compile(schema, None)
    except ValueError as error:
        steps = tuple(getattr(error, "instance_path", ()))
        raise BadSchema(str(getattr(error, "message", error)), steps) from error


def compile_schema(schema: Schema) -> Validator:
    """Return what checks values against ``schema``; its messages repeat no value.

    Raises ``ValueError`` for one that is no schema.
    """
    return _compile(schema, _HIDDEN)


def _compile(schema: Schema, mask: str | None) -> Validator:
    return jsonschema_rs.Draft202012Validator(
        schema, pattern_options=_PATTERNS, validate_formats=True, offline=True, mask=mask
    )


def count_patterns(schema: Any) -> int:
    """Return how many regular expressions ``schema`` holds: each is kept compiled."""
    if not isinstance(schema, dict):
        return 0
    own = int("pattern" in schema) + len(_as_map(schema.get("patternProperties")))
    return own + sum(count_patterns(inner) for _, inner in list_subschemas(schema))


def count_branches(schema: Any) -> int:
    """Return how many alternatives and conditions ``schema`` holds, references written out."""
    definitions = _as_map(schema.get("$defs")) if isinstance(schema, dict) else {}
    counted: dict[str, int] = {}

    def count(one: Any) -> int:
        if not isinstance(one, dict):
            return 0
        branches = sum(len(one[name]) for name in _LIST if isinstance(one.get(name), list))
        branches += sum(1 for name in _CONDITIONS if name in one)
        branches += len(_as_map(one.get("dependentSchemas")))
        inner = (inner for steps, inner in list_subschemas(one) if steps[0] != "$defs")
        branches += sum(map(count, inner))
        reference = one.get("$ref")
        if isinstance(reference, str):
            name = _name_of(reference)
            if name not in counted:
                counted[name] = 0
                counted[name] = count(definitions.get(name))
            branches += counted[name]
        return branches

    return count(schema)


def list_subschemas(schema: Schema) -> Iterator[tuple[Steps, Any]]:
    """Yield every schema directly within ``schema`` with the steps to it."""
    for name, value in schema.items():
        if name in _ONE:
            yield (name,), value
        elif name in _LIST and isinstance(value, list):
            yield from (((name, index), inner) for index, inner in enumerate(value))
        elif name in _MAP:
            yield from (((name, key), inner) for key, inner in _as_map(value).items())


def find_named(schema: Schema) -> frozenset[str] | None:
    """Return the properties that ``schema`` names; ``None`` when it names none in ``properties``,

    or speaks of all others too: in ``additionalProperties``, ``unevaluatedProperties``,
    ``patternProperties``.
    """
    names: set[str] = set()
    lists_any = False
    pending: list[Any] = [schema]
    while pending:
        one = pending.pop()
        if not isinstance(one, dict):
            continue
        if one.keys() & {"additionalProperties", "unevaluatedProperties", "patternProperties"}:
            return None
        lists_any |= "properties" in one
        names |= _as_map(one.get("properties")).keys()
        names |= {name for name in one.get("required", ()) if isinstance(name, str)}
        for key in ("allOf", "anyOf", "oneOf"):
            pending += one.get(key, ())
        pending += [one[key] for key in ("if", "then", "else") if key in one]
        pending += _as_map(one.get("dependentSchemas")).values()
        reference = one.get("$ref")
        if isinstance(reference, str):
            pending.append(find_definition(schema, reference))
    return frozenset(names) if lists_any else None


def find_definition(schema: Schema, reference: str) -> Any:
    """Return what ``reference`` (``#/$defs/…``) stands for; raises ``KeyError`` for nothing."""
    return schema["$defs"][_name_of(reference)]


def _name_of(reference: str) -> str:
    return reference.removeprefix(_DEFINITIONS).replace("~1", "/").replace("~0", "~")


def _check_keywords(schema: Any, steps: Steps) -> None:
    if not isinstance(schema, dict):
        return
    if len(steps) > 2 * DEEPEST_SCHEMA:
        raise BadSchema("the schema is nested too deeply", steps)
    refused = _REFUSED & schema.keys()
    if refused:
        name = min(refused)
        raise BadSchema(f"`{name}` is not taken here; use `$ref` to `#/$defs/…`", (*steps, name))
    if schema.get("$schema", DIALECT) != DIALECT:
        raise BadSchema(f"schemas are of {DIALECT}", (*steps, "$schema"))
    reference = schema.get("$ref", _DEFINITIONS)
    if not isinstance(reference, str) or not reference.startswith(_DEFINITIONS):
        raise BadSchema("`$ref` reaches `#/$defs/…` of the same schema only", (*steps, "$ref"))
    if steps and "$defs" in schema:
        raise BadSchema("`$defs` stands at the top of a schema", (*steps, "$defs"))
    for inner_steps, inner in list_subschemas(schema):
        _check_keywords(inner, (*steps, *inner_steps))


def _check_size(schema: Schema) -> None:
    """Bound what the schema amounts to with every reference written out."""
    sizes: dict[str, int] = {}
    under_way: list[str] = []

    def measure(one: Any, steps: Steps) -> int:
        if not isinstance(one, dict):
            return 1
        size = 1
        reference = one.get("$ref")
        if isinstance(reference, str):
            size += measure_definition(reference, (*steps, "$ref"))
        for inner_steps, inner in list_subschemas(one):
            if inner_steps[0] != "$defs":
                size += measure(inner, (*steps, *inner_steps))
        if size > MOST_EXPANDED:
            raise BadSchema("with its references written out the schema is too large", steps)
        return size

    def measure_definition(reference: str, steps: Steps) -> int:
        if reference not in sizes:
            if reference in under_way:
                raise BadSchema("`$ref` runs in a circle", steps)
            try:
                found = find_definition(schema, reference)
            except (KeyError, TypeError) as error:
                raise BadSchema(f"there is no {reference}", steps) from error
            under_way.append(reference)
            sizes[reference] = measure(found, ("$defs", _name_of(reference)))
            under_way.pop()
        return sizes[reference]

    measure(schema, ())
    for name in _as_map(schema.get("$defs")):
        written = name.replace("~", "~0").replace("/", "~1")
        measure_definition(f"{_DEFINITIONS}{written}", ("$defs", name))


def _as_map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
