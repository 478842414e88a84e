"""Paths into the properties of events: ``/products/*/sku`` runs through every element. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cdp.runtime.error_answers import make_pointer

DEEPEST = 4
_MOST_ELEMENTS = 5
ELEMENT = "*"
"""The step of a path that stands for any element of a list."""


def find_leaf(values: Iterable[Any]) -> Any:
    """Return the first of ``values`` that can be an example: text, number or truth."""
    return next((one for one in values if isinstance(one, str | int | float)), None)


def read_path(properties: Any, path: str) -> list[Any]:
    """Return the values at ``path`` in ``properties``; several where it runs through a list."""
    values = [properties]
    for step in split_path(path):
        inner: list[Any] = []
        for value in values:
            if step == ELEMENT and isinstance(value, list):
                inner += value[:_MOST_ELEMENTS]
            elif isinstance(value, dict) and step in value:
                inner.append(value[step])
        values = inner
    return values


def split_path(path: str) -> list[str]:
    """Return the steps of a path."""
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def walk(properties: dict[str, Any]) -> Iterator[tuple[str, list[Any], int]]:
    """Yield every path with the values at it and the number of objects that could have it."""
    pending: list[tuple[tuple[str, ...], list[dict[str, Any]]]] = [((), [properties])]
    while pending:
        steps, objects = pending.pop()
        for name in dict.fromkeys(name for one in objects for name in one):
            path = (*steps, name)
            values = [one[name] for one in objects if name in one]
            yield make_pointer(path), values, len(objects)
            elements = [one for value in values if isinstance(value, list) for one in value]
            inner = [value for value in values if isinstance(value, dict)]
            if len(path) >= DEEPEST:
                continue
            if inner:
                pending.append((path, inner))
            if elements:
                elements = elements[: _MOST_ELEMENTS * len(values)]
                yield make_pointer((*path, ELEMENT)), elements, len(elements)
                within = [one for one in elements if isinstance(one, dict)]
                if within:
                    pending.append(((*path, ELEMENT), within))


def type_of(value: Any) -> str:
    """Return the type of a JSON value, in the words of JSON Schema."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    kinds = ((str, "string"), (int, "integer"), (float, "number"), (dict, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "array")
