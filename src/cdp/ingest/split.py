"""Cut a batch into its elements without reading them: for bodies that strict parsers refuse. Pure.

Slower than a parser, but neither ``NaN`` nor deep nesting in one element can stop it, so each
element can be judged alone.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]', re.DOTALL)


class NoBatch(ValueError):
    """The body is no object with a list of the name asked for."""


def split_batch(body: bytes, name: str = "batch") -> tuple[list[bytes], bytes]:
    """Return the elements of the list ``name``, and the body with that list emptied.

    Of several such lists the last counts, as with every name that an object says twice. Raises
    ``NoBatch``. What is no JSON comes out as some elements or other; they are judged next.
    """
    wanted = f'"{name}"'.encode()
    depth = 0
    key = b""
    last_text = b""
    start: int | None = None
    opened = closed = 0
    elements: list[bytes] = []
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in b"[{":
            depth += 1
            if depth == 2 and mark == b"[" and key == wanted:
                start = opened = token.end()
                elements = []
        elif mark in b"]}":
            depth -= 1
            if start is not None and depth == 1:
                _keep(elements, body[start : token.start()])
                start, closed = None, token.start()
        elif mark == b"," and depth == 2 and start is not None:
            _keep(elements, body[start : token.start()])
            start = token.end()
        elif mark == b":" and depth == 1:
            key = last_text
        elif depth == 1:
            last_text = mark
    if not closed:
        raise NoBatch(f"no list named {name}")
    return elements, body[:opened] + body[closed:]


def _keep(elements: list[bytes], element: bytes) -> None:
    element = element.strip()
    if element:
        elements.append(element)
