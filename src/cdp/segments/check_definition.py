"""What keys and references of definitions may be. Pure."""

from __future__ import annotations

from cdp.errors import Unprocessable
from cdp.segments.definitions import Definition, UnitName, find_cycle, is_key
from cdp.segments.rules import InSegment, Rule, Tag, walk


def require_key(key: str) -> None:
    """Raise ``Unprocessable`` for what cannot name a segment or a tag."""
    if not is_key(key):
        raise Unprocessable(
            "bad_key",
            "a key has lower-case letters, digits, _ and dots, begins with a letter, "
            "and is up to 100 characters long",
            path="/key",
        )


def require_no_cycle(changed: Definition, definitions: list[Definition], rules: list[Rule]) -> None:
    """Raise ``Unprocessable`` at the reference by which ``changed`` would refer to itself.

    ``rules`` are the trees of ``changed``, which know where they were written.
    """
    others = [each for each in definitions if each.name != changed.name]
    cycle = find_cycle([*others, changed])
    if not cycle:
        return
    named = " → ".join(name.key for name in cycle)
    raise Unprocessable(
        "cycle", f"these would refer to each other: {named}", path=_find_place(set(cycle), rules)
    )


def _find_place(cycle: set[UnitName], rules: list[Rule]) -> str:
    for rule in rules:
        for node in walk(rule):
            if isinstance(node, InSegment) and UnitName("segment", node.key) in cycle:
                return f"{node.origin.pointer}/segment"
            if isinstance(node, Tag) and UnitName("tag", node.key) in cycle:
                return f"{node.origin.pointer}/tag"
    return "/rule"
