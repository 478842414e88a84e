"""Whether a schema takes all that another takes. Pure."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
from jsonschema_rs import canonical

from cdp.plan.schema import Steps, count_branches, list_subschemas

MOST_BRANCHES = 16
"""Of a schema of which something is to be proved; with these it takes well under a second."""

REMARKS = frozenset(
    {"title", "description", "$comment", "examples", "default", "deprecated", "$schema"}
)
"""Keywords that tell people something and change no verdict."""


def covers(new: Any, old: Any) -> bool:
    """Whether it is proved that schema ``new`` takes every value that ``old`` takes.

    Alternatives multiply in a proof: of schemas with many nothing is proved.
    """
    if max(count_branches(new), count_branches(old)) > MOST_BRANCHES:
        return False
    try:
        wide, narrow = (
            jsonschema_rs.canonicalize(one, offline=True, validate_formats=True)
            for one in (new, old)
        )
        return bool(wide.covers(narrow) == canonical.Containment.YES)
    except (ValueError, canonical.CanonicalizationError):
        return False


def close(schema: Any) -> Any:
    """Let a schema's objects take planned properties only, where it does not speak of others."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for steps, inner in list_subschemas(schema):
        # What tests a part, such as a condition, must see all of the value.
        if steps[0] in ("properties", "items", "$defs", "prefixItems", "additionalProperties"):
            _put(closed, steps, close(inner))
    combined = {"$ref", "allOf", "anyOf", "oneOf", "if", "not", "dependentSchemas"}
    speaks = {"additionalProperties", "unevaluatedProperties", "patternProperties"}
    if "properties" in schema and not (combined | speaks) & schema.keys():
        closed["additionalProperties"] = False
    return closed


def strip(schema: Any) -> Any:
    """Return ``schema`` without remarks."""
    if not isinstance(schema, dict):
        return schema
    bare = {name: value for name, value in schema.items() if name not in REMARKS}
    for steps, inner in list_subschemas(schema):
        _put(bare, steps, strip(inner))
    return bare


def _put(schema: dict[str, Any], steps: Steps, inner: Any) -> None:
    if len(steps) == 1:
        schema[str(steps[0])] = inner
        return
    held = schema[str(steps[0])]
    copy: Any = list(held) if isinstance(held, list) else dict(held)
    copy[steps[1]] = inner
    schema[str(steps[0])] = copy
