"""Paths into JSON values: how they are written, and what lies at their end."""

from __future__ import annotations

import re

from cdp.segments.rules import Path

_TOKEN = re.compile(r"\\([.\\])|(\.)|(.)", re.DOTALL)


def read_path(text: str) -> Path:
    r"""Split a dotted path into names: ``\.`` is a dot, ``\\`` a backslash, any other backslash
    stands for itself."""
    names = [""]
    for escaped, dot, plain in _TOKEN.findall(text):
        if dot:
            names.append("")
        else:
            names[-1] += escaped or plain
    return tuple(names)


def write_path(path: Path) -> str:
    """Return the dotted text of ``path``: the inverse of ``read_path``."""
    return ".".join(name.replace("\\", "\\\\").replace(".", "\\.") for name in path)


def value_at(value: object, path: Path) -> object:
    """Return what lies at ``path`` below a JSON value, ``None`` when absent.

    Where lists of objects lie on the way, the result is the list of the values of all of them.
    """
    for depth, name in enumerate(path):
        if isinstance(value, list):
            found = [value_at(item, path[depth:]) for item in value if isinstance(item, dict)]
            present = [item for item in found if item is not None]
            return [part for item in present for part in elements(item)] if present else None
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def elements(value: object) -> list[object]:
    """Return the values that an operator looks at: a list's elements without the nulls, or the
    value itself; none when absent."""
    if isinstance(value, list):
        return [item for item in value if item is not None]
    return [] if value is None else [value]
