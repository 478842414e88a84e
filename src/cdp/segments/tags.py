"""What a tag's definition may say. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from cdp.access.masking import is_personal
from cdp.errors import Unprocessable
from cdp.segments.builtins.definition import ReadContext
from cdp.segments.builtins.registry import find_kind, read_built_in
from cdp.segments.parse import NormaliseIdentifier, parse_aggregate, parse_rule
from cdp.segments.rules import Rule
from cdp.segments.sql_tags import read_sql
from cdp.segments.transitions import read_transitions, require_fitting, without_transitions

CATEGORIES = ("basic", "behaviour", "value", "sentiment")
TYPES = ("text", "number", "boolean", "time", "list", "object")
SERVED_KINDS = ("aggregate", "cases", "manual", "builtin", "sql")
MOST_CASES = 1000
_FUNCTIONS_OF_VALUES = ("first", "last", "most_frequent")

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "time": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}


def parse_definition(
    document: Any,
    *,
    type: str,
    segments: Collection[str],
    tags: Collection[str],
    normalise: NormaliseIdentifier | None,
) -> list[Rule]:
    """Check a definition that was posted at ``/definition``; return the rules in it, as trees.

    Raises ``Unprocessable`` with the place of the first mistake.
    """
    kind = _read_kind(document)
    transitions = read_transitions(document)
    rules = _read_rules(kind, without_transitions(document), type, segments, tags, normalise)
    if transitions is not None:
        require_fitting(transitions, document, type)
    return rules


def _read_rules(
    kind: str,
    document: dict[str, Any],
    type: str,
    segments: Collection[str],
    tags: Collection[str],
    normalise: NormaliseIdentifier | None,
) -> list[Rule]:
    if kind == "aggregate":
        _allow_only(document, ("aggregate",))
        parse_aggregate(document["aggregate"])
        return []
    if kind == "manual":
        _allow_only(document, ("manual",))
        if document["manual"] is not True:
            raise _mistake("bad_value", "manual is true", "/manual")
        return []
    if kind == "sql":
        _allow_only(document, ("sql",))
        read_sql(document)
        return []
    if kind == "builtin":
        context = ReadContext(segments, tags, normalise)
        built_in = read_built_in(document, context)
        return list(getattr(built_in.settings, "rules", ()))
    _allow_only(document, ("cases", "else"))
    cases = document["cases"]
    if not isinstance(cases, list) or not 1 <= len(cases) <= MOST_CASES:
        raise _mistake("bad_value", f"cases is a list of 1 to {MOST_CASES}", "/cases")
    if "else" in document:
        require_type(document["else"], type, "/definition/else")
    return [
        _parse_case(case, index, type=type, segments=segments, tags=tags, normalise=normalise)
        for index, case in enumerate(cases)
    ]


def decide_type(document: Any, type: str) -> str:
    """Return the type of a tag's values: what a built-in computes is of its own type."""
    kind = find_kind(document)
    return type if kind is None else kind.type


def require_type(value: Any, type: str, path: str) -> None:
    """Raise ``Unprocessable`` at ``path`` when a value is not of the tag's type.

    Null is the absent value of every type.
    """
    if value is None:
        return
    fits = isinstance(value, _PYTHON_TYPES[type])
    if type == "number" and isinstance(value, bool):
        fits = False
    if not fits:
        raise Unprocessable("wrong_type", f"a value of this tag is of type {type}", path=path)


def _read_kind(document: Any) -> str:
    if not isinstance(document, dict):
        raise _mistake("bad_value", "a definition is an object", "")
    kinds = [kind for kind in SERVED_KINDS if kind in document]
    served = ", ".join(SERVED_KINDS)
    if not kinds:
        raise _mistake("unknown_definition", f"a definition is one of {served}", "")
    if len(kinds) > 1:
        raise _mistake("two_forms", f"a definition has one form, not {' and '.join(kinds)}", "")
    return kinds[0]


def _parse_case(
    case: Any,
    index: int,
    *,
    type: str,
    segments: Collection[str],
    tags: Collection[str],
    normalise: NormaliseIdentifier | None,
) -> Rule:
    place = f"/cases/{index}"
    if not isinstance(case, dict):
        raise _mistake("bad_value", "a case is an object with when and then", place)
    for part in ("when", "then"):
        if part not in case:
            raise _mistake("missing_part", f"{part!r} is missing", f"{place}/{part}")
    for name in case:
        if name not in ("when", "then"):
            raise _mistake("unknown_key", f"a case has when and then, not {name!r}", place)
    require_type(case["then"], type, f"/definition{place}/then")
    return parse_rule(case["when"], f"/definition{place}/when", segments, tags, normalise=normalise)


def _allow_only(document: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in document:
        if name not in names:
            raise _mistake("unknown_key", f"{name!r} does not belong here", f"/{name}")


def _mistake(code: str, message: str, place: str) -> Unprocessable:
    return Unprocessable(code, message, path=f"/definition{place}")


def require_one_of(value: str, allowed: tuple[str, ...], path: str) -> None:
    """Raise ``Unprocessable`` at ``path`` for what is none of ``allowed``."""
    if value not in allowed:
        raise Unprocessable("bad_value", f"choose one of {', '.join(allowed)}", path=path)


def asks_for_personal(document: Any) -> bool:
    """Whether the values of a definition are those of a personal property of events or orders."""
    aggregate = document.get("aggregate") if isinstance(document, dict) else None
    asked = aggregate.get("aggregate") if isinstance(aggregate, dict) else None
    if not isinstance(asked, dict) or asked.get("fn") not in _FUNCTIONS_OF_VALUES:
        return False
    return is_personal(str(asked.get("property", "")))
