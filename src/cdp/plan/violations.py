"""What of an object breaks a schema, and what is left of it when that is taken out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jsonschema_rs

from cdp.plan.schema import Steps, Validator

MOST_FINDINGS = 20
"""Of one object; whoever breaks more is told of these."""

_DEEP_ROUNDS = 8
_SURPLUS = ("additionalProperties", "unevaluatedProperties")


class Finding(NamedTuple):
    """One mistake: where it is, the keyword it breaks, and words that repeat no value."""

    steps: Steps
    rule: str
    message: str


def find_violations(validator: Validator, value: Any) -> list[Finding]:
    """Return what is wrong with ``value``; at most ``MOST_FINDINGS``."""
    if validator.is_valid(value):
        return []
    return [
        Finding(steps, error.kind.name, error.message)
        for error, steps in _take(_list_places(validator.iter_errors(value)), MOST_FINDINGS)
    ]


def remove_violations(validator: Validator, value: dict[str, Any]) -> list[Steps]:
    """Take out of ``value`` whatever breaks the schema; return where it stood at the beginning.

    The smallest part goes that holds the mistake: a surplus member, a member with a wrong value, an
    element of a list, and what encloses it when it is wrong without it. What ``value`` itself lacks
    (a required property) or breaks as a whole cannot be mended by taking away, and stays broken.
    """
    places = _Places()
    rounds = 0
    while not validator.is_valid(value):
        found = {steps for _, steps in _list_places(validator.iter_errors(value)) if steps}
        if rounds >= _DEEP_ROUNDS:
            # Whole properties from here on, so that it ends soon.
            found = {steps[:1] for steps in found}
        if not found:
            break
        for steps in _outermost(found):
            places.remove(value, steps)
        rounds += 1
    return _outermost(set(places.removed))


def _list_places(
    errors: Iterable[jsonschema_rs.ValidationError],
) -> Iterator[tuple[jsonschema_rs.ValidationError, Steps]]:
    """Yield each mistake with the steps to what would have to go."""
    for error in errors:
        within: Steps = tuple(error.instance_path)
        kind = error.kind
        if kind.name in _SURPLUS:
            yield from ((error, (*within, name)) for name in kind.as_dict()["unexpected"])
        elif kind.name == "propertyNames":
            yield error, (*within, str(kind.as_dict()["error"].instance))
        else:
            yield error, within


def _take(pairs: Iterable[tuple[Any, Steps]], most: int) -> Iterator[tuple[Any, Steps]]:
    for number, pair in enumerate(pairs):
        if number >= most:
            return
        yield pair


def _outermost(found: set[Steps]) -> list[Steps]:
    """Drop what lies within another; the last elements of a list come first."""
    kept = [
        steps
        for steps in found
        if not any(steps[:length] in found for length in range(1, len(steps)))
    ]
    return sorted(kept, key=_as_key, reverse=True)


def _as_key(steps: Steps) -> tuple[tuple[int, str], ...]:
    return tuple((step, "") if isinstance(step, int) else (-1, step) for step in steps)


class _Places:
    """Removes by where things stand now, and remembers where they stood at the beginning."""

    def __init__(self) -> None:
        self.removed: list[Steps] = []
        # By the identity of a list: the first places of its elements.
        self._firsts: dict[int, list[int]] = {}

    def remove(self, value: Any, steps: Steps) -> None:
        first: list[str | int] = []
        for step in steps[:-1]:
            first.append(self._first(value, step))
            value = value[step]
        first.append(self._first(value, steps[-1]))
        if isinstance(value, list):
            self._firsts[id(value)].pop(int(steps[-1]))
        del value[steps[-1]]
        self.removed.append(tuple(first))

    def _first(self, within: Any, step: str | int) -> str | int:
        if not isinstance(within, list):
            return step
        return self._firsts.setdefault(id(within), list(range(len(within))))[int(step)]
