"""What changes between two plans, in words, and whether senders of today would break. Pure.

A change is breaking when an event that followed the old plan, with planned properties only, may
not follow the new one. So a further optional property is none, and one taken out is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cdp.plan.plan import SCHEMAS, Document
from cdp.plan.proof import REMARKS, close, covers, strip
from cdp.runtime.error_answers import make_pointer

Change = Literal["added", "removed", "changed"]
Steps = tuple[str | int, ...]

_TITLES = {
    "traits": "traits of people",
    "group_traits": "traits of accounts",
    "page": "properties of pages",
    "screen": "properties of screens",
}
_STRUCTURE = frozenset({"properties", "required", "items"})
_MISSING = object()


@dataclass(frozen=True, slots=True)
class PlanChange:
    """One difference. ``path`` is a JSON Pointer into the plan that has it."""

    change: Change
    path: str
    what: str
    """What it is about: ``event Order Completed``, ``Order Completed.total``."""
    message: str
    breaking: bool


def diff_plans(old: Document, new: Document) -> list[PlanChange]:
    """Return what changes from ``old`` to ``new``, both checked; in the order of names."""
    changes = list(_diff_part(old, new, (), ""))
    before, after = old.get("sources", {}), new.get("sources", {})
    for source_id in sorted({*before, *after}):
        own = ("sources", source_id)
        changes += _diff_part(
            before.get(source_id, {}), after.get(source_id, {}), own, f"{source_id}: "
        )
    return changes


def show_diff(changes: list[PlanChange]) -> dict[str, Any]:
    """Return differences as callers see them."""
    return {
        "breaking": any(change.breaking for change in changes),
        **{
            kind: sum(1 for change in changes if change.change == kind)
            for kind in ("added", "removed", "changed")
        },
        "changes": [
            {
                "change": change.change,
                "path": change.path,
                "what": change.what,
                "message": change.message,
                "breaking": change.breaking,
            }
            for change in changes
        ],
    }


def _diff_part(old: Document, new: Document, steps: Steps, prefix: str) -> Iterator[PlanChange]:
    before, after = old.get("events", {}), new.get("events", {})
    for name in sorted({*before, *after}):
        place = (*steps, "events", name)
        yield from _diff_event(before.get(name), after.get(name), place, prefix, name)
    for name in SCHEMAS:
        place = (*steps, name)
        yield from _diff_optional(old.get(name), new.get(name), place, prefix + _TITLES[name])


def _diff_event(
    old: Document | None, new: Document | None, steps: Steps, prefix: str, name: str
) -> Iterator[PlanChange]:
    path, what = make_pointer(steps), f"{prefix}event {name}"
    if new is None:
        if old is not None:
            yield PlanChange("removed", path, what, "the event is planned no longer", True)
        return
    if old is None:
        yield PlanChange("added", path, what, "the event is planned now", False)
        return
    was, is_now = old.get("enabled", True), new.get("enabled", True)
    if was != is_now:
        word = "enabled" if is_now else "disabled"
        yield PlanChange("changed", f"{path}/enabled", what, f"the event is {word}", not is_now)
    if old.get("description") != new.get("description"):
        message = "the description is another"
        yield PlanChange("changed", f"{path}/description", what, message, False)
    place = (*steps, "properties")
    yield from _diff_optional(old.get("properties"), new.get("properties"), place, prefix + name)


def _diff_optional(old: Any, new: Any, steps: Steps, what: str) -> Iterator[PlanChange]:
    if old == new:
        return
    path = make_pointer(steps)
    if old is None:
        message = "there is a schema now, where anything was taken"
        yield PlanChange("added", path, what, message, True)
    elif new is None:
        message = "there is no schema any longer: anything is taken"
        yield PlanChange("removed", path, what, message, False)
    else:
        yield from _diff_schema(old, new, steps, what)


def _diff_schema(old: Any, new: Any, steps: Steps, what: str) -> Iterator[PlanChange]:
    """Give the differences of two whole schemas; the proof decides whether they break anything."""
    is_safe = strip(new) == strip(old) or covers(close(new), close(old))
    changes = list(_diff_node(old, new, steps, what))
    if is_safe:
        yield from (PlanChange(c.change, c.path, c.what, c.message, False) for c in changes)
        return
    yield from changes
    if not any(change.breaking for change in changes):
        message = "it cannot be shown that all that followed the schema follows it now"
        yield PlanChange("changed", make_pointer(steps), what, message, True)


def _diff_node(old: Any, new: Any, steps: Steps, what: str) -> Iterator[PlanChange]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            message = f"{_show(old)} → {_show(new)}"
            yield PlanChange("changed", make_pointer(steps), what, message, not covers(new, old))
        return
    yield from _diff_keywords(old, new, steps, what)
    yield from _diff_required(old, new, steps, what)
    before, after = _as_map(old.get("properties")), _as_map(new.get("properties"))
    for name in sorted({*before, *after}):
        place, inner = (*steps, "properties", name), f"{what}.{name}"
        if name not in after:
            message = "the property is planned no longer"
            yield PlanChange("removed", make_pointer(place), inner, message, True)
        elif name not in before:
            is_required = name in new.get("required", ())
            message = f"the {'required' if is_required else 'optional'} property is planned now"
            yield PlanChange("added", make_pointer(place), inner, message, is_required)
        else:
            yield from _diff_node(before[name], after[name], place, inner)
    if "items" in old and "items" in new:
        yield from _diff_node(old["items"], new["items"], (*steps, "items"), f"{what}[]")
    elif "items" in old or "items" in new:
        message = "elements have a schema now" if "items" in new else "elements may be anything"
        change: Change = "added" if "items" in new else "removed"
        place = (*steps, "items")
        yield PlanChange(change, make_pointer(place), f"{what}[]", message, "items" in new)


def _diff_keywords(
    old: Mapping[str, Any], new: Mapping[str, Any], steps: Steps, what: str
) -> Iterator[PlanChange]:
    names = sorted(({*old, *new}) - _STRUCTURE)
    different = [n for n in names if old.get(n, _MISSING) != new.get(n, _MISSING)]
    if not different:
        return
    ours, theirs = (
        {name: value for name, value in one.items() if name not in _STRUCTURE | REMARKS}
        for one in (old, new)
    )
    breaks = not covers(theirs, ours)
    for name in different:
        message = _tell(name, old.get(name, _MISSING), new.get(name, _MISSING))
        is_remark = name in REMARKS
        place = make_pointer((*steps, name))
        yield PlanChange("changed", place, what, message, breaks and not is_remark)


def _diff_required(
    old: Mapping[str, Any], new: Mapping[str, Any], steps: Steps, what: str
) -> Iterator[PlanChange]:
    before, after = set(old.get("required", ())), set(new.get("required", ()))
    known = _as_map(old.get("properties")).keys()
    path = make_pointer((*steps, "required"))
    for name in sorted(after - before):
        # A new property that is required says so itself.
        if name in known or name not in _as_map(new.get("properties")):
            yield PlanChange("changed", path, f"{what}.{name}", "it is required now", True)
    for name in sorted(before - after):
        if name in _as_map(new.get("properties")):
            yield PlanChange("changed", path, f"{what}.{name}", "it is optional now", False)


def _tell(name: str, old: Any, new: Any) -> str:
    if name in REMARKS:
        return f"the {name} is another"
    if name == "enum" and isinstance(old, list) and isinstance(new, list):
        gone = [_show(one) for one in old if one not in new]
        come = [_show(one) for one in new if one not in old]
        parts = [f"no longer {', '.join(gone)}"] * bool(gone)
        parts += [f"also {', '.join(come)}"] * bool(come)
        return f"allowed values: {'; '.join(parts) or 'in another order'}"
    if old is _MISSING:
        return f"{name} is {_show(new)} now"
    if new is _MISSING:
        return f"{name} is no longer {_show(old)}"
    return f"{name}: {_show(old)} → {_show(new)}"


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _as_map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
