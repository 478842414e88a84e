"""Paths into JSON documents as DuckDB expressions; the meaning is ``paths.value_at``.

Names travel as JSON Pointers (RFC 6901) in parameters: unlike dollar paths they know no wildcards
and need no quotes.
"""

from __future__ import annotations

import re

from cdp.segments.compile_values import Parameters
from cdp.segments.rules import Path

# DuckDB would read such a name as a position where it meets a list.
_LIKE_A_POSITION = re.compile(r"[0-9-]+")


def json_at(document: str, path: Path, parameters: Parameters, *, is_object: bool) -> str:
    """Return the JSON text at ``path`` below ``document``, NULL when there is none.

    ``is_object`` promises that the document is an object (as properties are), so that the common
    one-name path is a single extraction. A result may be a JSON list, or JSON null. Stored values
    are compact JSON, so an empty path needs no extraction at all.
    """
    if not path:
        return document
    if len(path) == 1 and is_object:
        return _extract(document, path, parameters)
    through_lists = _through_lists(document, path, parameters, is_object)
    if any(_LIKE_A_POSITION.fullmatch(name) for name in path):
        return through_lists
    direct = _extract(document, path, parameters)
    # Only where the straight way leads nowhere a list may lie on it.
    return f"CASE WHEN {direct} IS NOT NULL THEN {direct} ELSE {through_lists} END"


def _extract(document: str, path: Path, parameters: Parameters) -> str:
    pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path)
    return f"json_extract({document}, {parameters.add(pointer)})"


def _through_lists(document: str, path: Path, parameters: Parameters, is_object: bool) -> str:
    if is_object:
        values, rest = f"[{_extract(document, path[:1], parameters)}]", path[1:]
    else:
        values, rest = f"[json_extract({document}, '$')]", path
    for name in rest:
        inner, found = parameters.variable(), parameters.variable()
        opened = _opened(values, parameters)
        objects = f"list_filter({opened}, lambda {inner}: starts_with({inner}, '{{'))"
        item = parameters.variable()
        values = (
            f"list_filter(list_transform({objects}, "
            f"lambda {item}: {_extract(item, (name,), parameters)}), "
            f"lambda {found}: {found}::VARCHAR <> 'null')"
        )
    return f"CASE WHEN len({values}) > 0 THEN to_json({_opened(values, parameters)}) END"


def _opened(values: str, parameters: Parameters) -> str:
    """Return a list of JSON values in which every list is replaced by its elements."""
    item = parameters.variable()
    return (
        f"flatten(list_transform({values}, lambda {item}: CASE WHEN starts_with({item}, '[') "
        f"THEN json_extract({item}, '$[*]') ELSE [{item}] END))"
    )
