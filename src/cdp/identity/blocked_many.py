"""Which of many values name nobody, without asking about each. Pure.

Patterns are looked for in a thousand values at once, one a line. What is found in no thousand is in
none of them; where something is found, each value is asked about by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cdp.identity.default_types import HASHED_TYPES
from cdp.identity.identifiers import QUOTES, is_blocked
from cdp.identity.patterns import compile_pattern
from cdp.identity.rules import Rules
from cdp.model import Identifier

_AT_ONCE = 1000
# What means another place in many lines than in one, or may switch that.
_OF_ONE_TEXT = ("\\A", "\\z", "(?")


def find_blocked(type_name: str, values: Sequence[str], rules: Rules) -> list[int]:
    """Return the positions of those of ``values``, normalised, that name nobody."""
    rule = rules.rule_of(type_name)
    listed = {value.lower() for value in rule.blocked}
    finds = [_look_in_lines(pattern) for pattern in rule.blocked_patterns]
    is_easy = type_name not in HASHED_TYPES and not rules.blocks
    found: list[int] = []
    for start in range(0, len(values), _AT_ONCE):
        some = values[start : start + _AT_ONCE]
        bare = list(map(str.strip, [value.strip(QUOTES) for value in some]))
        text = "\n".join(bare)
        if (
            is_easy
            and all(bare)
            and listed.isdisjoint(map(str.lower, bare))
            and not any(find(text) for find in finds)
        ):
            continue
        found += [
            start + n
            for n, value in enumerate(some)
            if is_blocked(Identifier(type_name, value), rules)
        ]
    return found


def _look_in_lines(pattern: str) -> Callable[[str], bool]:
    """Return whether ``pattern`` may occur in one of many lines; when in doubt it may."""
    if any(mark in pattern for mark in _OF_ONE_TEXT):
        return _always
    try:
        return compile_pattern(f"(?m){pattern}")
    except ValueError:
        return _always


def _always(_: str) -> bool:
    return True
