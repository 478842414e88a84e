"""What the parts of a trait amount to. Pure.

Parts (``cdp.trait_parts``) are applied as JSON Merge Patches (RFC 7396) from the least to the
greatest stamp: an object merges into an object path by path, anything else replaces, null removes.
``$add`` joins a list as a set. ``$set_once`` counts where nothing else is left. DuckDB does the
same by the macros of ``cdp.analytics.trait_macros``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from cdp.trait_parts import ADD_OP, ONCE, SET_ONCE_OP

_encode = msgspec.json.Encoder().encode


class Patch(Protocol):
    """What was said of one part of a trait."""

    @property
    def part(self) -> str: ...
    @property
    def value(self) -> Any: ...
    @property
    def stamp(self) -> tuple[Any, ...]: ...
    @property
    def earliest(self) -> tuple[Any, ...]: ...


P = TypeVar("P", bound=Patch)


def fold(patches: Sequence[P]) -> tuple[Any, list[P]]:
    """Return what patches of one trait amount to, ``None`` for nothing, and those that count.

    The last of these is the newest.
    """
    if len(patches) == 1 and patches[0].part == "" and type(patches[0].value) is not dict:
        return patches[0].value, list(patches)
    said = sorted((one for one in patches if one.part != ONCE), key=_stamp_of)
    value: Any = None
    for one in said:
        value = apply_patch(value, one.value)
    if value is not None:
        return value, said
    first = min((one for one in patches if one.part == ONCE), key=_earliest_of, default=None)
    if first is None or (said and said[-1].stamp > first.stamp):
        return None, said
    return first.value[SET_ONCE_OP], [first]


def _stamp_of(patch: Patch) -> tuple[Any, ...]:
    return patch.stamp


def _earliest_of(patch: Patch) -> tuple[Any, ...]:
    return patch.earliest


def apply_patch(value: Any, patch: Any) -> Any:
    """Return ``value`` (``None``: nothing) with a part of a trait applied to it."""
    if type(patch) is not dict:
        return patch
    if len(patch) == 1 and ADD_OP in patch:
        return _unite(value if isinstance(value, list) else [], patch[ADD_OP])
    return _merge(value, patch)


def _merge(target: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Merge by RFC 7396, section 2."""
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merge(merged.get(name), value)
        else:
            merged[name] = value
    return merged


def _unite(known: Sequence[Any], added: Sequence[Any]) -> list[Any]:
    """Return both as a set, in order of their JSON: nobody's order of arrival counts."""
    by_text = {_encode(element): element for element in (*known, *added)}
    return [by_text[text] for text in sorted(by_text)]
