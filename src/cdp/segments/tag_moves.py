"""Say in words how somebody moved from one value of a tag to another. Pure."""

from __future__ import annotations

from typing import Any

from cdp.segments.transitions import find_level

_MOST_FIGURES = 2
_BEFORE = "_before"


def describe_move(before: Any, after: Any, field: str | None) -> str | None:
    """Return ``regular → churn warning, revenue −18 %``; ``None`` when the level is the same.

    ``field`` is where the level is in an object. Figures beside it tell how they changed: since the
    value before, or, of ``revenue`` beside ``revenue_before``, since what that says.
    """
    left, reached = find_level(before, field), find_level(after, field)
    if left == reached or isinstance(left, (dict, list)) or isinstance(reached, (dict, list)):
        return None
    moved = f"{_show(left)} → {_show(reached)}"
    return ", ".join([moved, *_list_figures(before, after)[:_MOST_FIGURES]])


def _show(level: Any) -> str:
    return "nothing" if level is None else str(level)


def _list_figures(before: Any, after: Any) -> list[str]:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return []
    told = []
    for name, new in after.items():
        if name.endswith(_BEFORE) and name.removesuffix(_BEFORE) in after:
            continue
        old = after.get(name + _BEFORE, before.get(name))
        if old is not None and _is_number(old) and _is_number(new) and old != new:
            told.append(f"{name} {_tell_change(old, new)}")
    return told


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tell_change(old: float, new: float) -> str:
    if old <= 0 or new < 0:
        return f"{old:g} → {new:g}"
    share = round((new - old) / old * 100)
    return f"{'+' if share >= 0 else '−'}{abs(share)} %"
