"""How what is said of a trait comes apart into registers, and what may not be said. Pure.

Whoever keeps traits keeps *parts*: each is a patch of the trait with a key of its own, and of each
key one patch survives, mostly the newest. Applied in order they amount to the trait; see
``cdp.profiles.traits``. So nested objects merge path by path, whatever the order of arrival.

    said                       parts (key, patch)
    "上海"  null  [1, 2]         "", the value itself (null removes)
    {"city": "上海"}            "/city", {"city": "上海"}: one for each leaf, by JSON Pointer
    {}                         "/~", {}: an object there is, whatever lies in it
    {"$unset": true}           "", null
    {"$set_once": v}           "~once", {"$set_once": v}; of these the oldest survives
    {"$add": [a, b]}           "~add/…", {"$add": [a]}: one for each element

``~`` and what follows is no JSON Pointer (RFC 6901), so such keys meet no path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

ONCE = "~once"
ADD = "~add/"
_EMPTY = "/~"

SET_ONCE_OP, ADD_OP, UNSET_OP = "$set_once", "$add", "$unset"
OPERATIONS = (SET_ONCE_OP, ADD_OP, UNSET_OP)

MOST_TRAITS = 1_000
"""Values in one event, those within objects counted each."""
LONGEST_NAME = 200
"""Characters of a trait's name, and of a name within it."""
DEEPEST = 10
"""Objects within each other."""
LARGEST_TRAIT = 32 * 1024
"""Bytes of one trait as JSON, where the source's settings name no other number."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class Fault(NamedTuple):
    """Why traits are refused."""

    code: str
    message: str


def list_parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Give the parts (key, patch) of what was said of one trait."""
    if type(value) is not dict:
        yield "", value
        return
    if len(value) == 1:
        if UNSET_OP in value:
            yield "", None
            return
        if SET_ONCE_OP in value:
            if value[SET_ONCE_OP] is not None:
                yield ONCE, value
            return
        if ADD_OP in value:
            added = value[ADD_OP]
            for element in added if isinstance(added, list) else [added]:
                yield _add(element)
            return
    yield from _list_leaves(value, (), "")


def outlives(part: str, stamp: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Return whether of two patches with the key ``part`` the one with ``stamp`` survives.

    Stamps are of one source: event time, message id.
    """
    return stamp < other if part == ONCE else stamp > other


def _add(element: Any) -> tuple[str, Any]:
    # Equal objects are one element, whatever the order of their keys; a digest is short enough for
    # an index.
    data = _encode_sorted(element)
    key = ADD + blake2b(data, digest_size=12).hexdigest()
    return key, {ADD_OP: [_decode(data) if type(element) in (dict, list) else element]}


def _list_leaves(
    value: Mapping[str, Any], path: tuple[str, ...], pointer: str
) -> Iterator[tuple[str, Any]]:
    if not value:
        yield pointer + _EMPTY, _nest(path, {})
    for name, inner in value.items():
        here = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if type(inner) is dict and inner.keys() != {UNSET_OP}:
            yield from _list_leaves(inner, (*path, name), here)
        else:
            leaf = None if type(inner) is dict else inner
            yield here, _nest((*path, name), leaf)


def _nest(path: tuple[str, ...], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


# ── What may not be said ────────────────────────────────────────────────────────────────────────


def find_fault(traits: Mapping[str, Any], largest: int = LARGEST_TRAIT) -> Fault | None:
    """Return why ``traits`` of one event are refused, or ``None``; ``largest`` is in bytes."""
    if len(traits) > MOST_TRAITS:
        return _too_many()
    leaves = 0
    for name, value in traits.items():
        if len(name) > LONGEST_NAME:
            return Fault(
                "trait_name_too_long",
                f"the name {name[:40]!r}… has {len(name)} characters; {LONGEST_NAME} are the most",
            )
        kind = type(value)
        if kind is dict:
            fault = _find_operation_fault(name, value)
            if fault is not None:
                return fault
            leaves += _count_leaves(value)
            if leaves > MOST_TRAITS:
                return _too_many()
        if name in OPERATIONS:
            return Fault(
                "misplaced_operation",
                f'{name} stands in a trait\'s place: write {{"plan": {{"{name}": …}}}}',
            )
        # Only what can be large is measured.
        if (kind is str and len(value) * 4 > largest) or kind is dict or kind is list:
            size = len(_encode(value))
            if size > largest:
                return Fault(
                    "trait_too_large",
                    f"the trait {name[:40]!r} has {size} bytes; {largest} are the most",
                )
    return None


def _too_many() -> Fault:
    return Fault("too_many_traits", f"an event says up to {MOST_TRAITS} traits")


def _count_leaves(value: Any) -> int:
    if type(value) is not dict:
        return 1
    return sum(map(_count_leaves, value.values())) if value else 1


def _find_operation_fault(name: str, value: Mapping[str, Any]) -> Fault | None:
    operation = next((key for key in value if key.startswith("$")), None)
    if operation is None:
        return _find_nested_fault(name, value, 1)
    if operation not in OPERATIONS:
        return Fault(
            "unknown_operation",
            f"{operation[:40]!r} of the trait {name[:40]!r} is no operation; there are"
            f" {', '.join(OPERATIONS)}",
        )
    if len(value) > 1:
        return Fault("mixed_operation", f"{operation} stands alone in the trait {name[:40]!r}")
    if operation == UNSET_OP and value[operation] is not True:
        return Fault("invalid_operation", f'write {{"{UNSET_OP}": true}} to remove {name[:40]!r}')
    if operation == ADD_OP and not isinstance(value[operation], list):
        return Fault("invalid_operation", f"{ADD_OP} takes a list of what is to be added")
    return None


def _find_nested_fault(name: str, value: Mapping[str, Any], depth: int) -> Fault | None:
    if depth > DEEPEST:
        return Fault("trait_too_deep", f"the trait {name[:40]!r} has more than {DEEPEST} levels")
    for key, inner in value.items():
        if len(key) > LONGEST_NAME:
            return Fault(
                "trait_name_too_long",
                f"a name in the trait {name[:40]!r} has {len(key)} characters;"
                f" {LONGEST_NAME} are the most",
            )
        if type(inner) is not dict:
            continue
        operation = next((one for one in inner if one.startswith("$")), None)
        if operation is not None and inner != {UNSET_OP: True}:
            return Fault(
                "nested_operation" if operation in OPERATIONS else "unknown_operation",
                f"{operation[:40]!r} stands within the trait {name[:40]!r}; there only"
                f' {{"{UNSET_OP}": true}} is understood',
            )
        if operation is None:
            fault = _find_nested_fault(name, inner, depth + 1)
            if fault is not None:
                return fault
    return None
