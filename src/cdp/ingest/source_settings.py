"""★ The settings of a source, checked in this one place. Pure.

    key                may be
    max_event_bytes    256 … 4194304
    max_trait_bytes    8192 … 4194304: of one trait as JSON
    trait_rank         -100 … 100: what a higher one says of a trait counts, whatever the time
    order_scope        text: whose numbers its orders have; by default all sources share theirs
    links              "known" | "anonymous": what its events may tie together
    trusted_times      true | false: whether its clock is taken at its word
    identifier_types   list of types it may bring; others are left out and flagged
    default_consent    {purpose: true | false}, while nothing else is known of a person
    rate_limit         events per second, or {"events_per_second", "burst"}
    plan_mode          "observe" | "flag" | "omit" | "block"
    preset             "shopify" | "woocommerce" | "youzan" | "custom": whose hooks it takes
    secret             text: what the shop signs with; never shown again
    client_id          text: Youzan signs with it too
    signature_header   name of a header (custom)
    mapping            document (custom), see ``hooks.mapping``
    order_id_from      "id" | "number": which of the shop's two numbers names an order
    customer_id_type   type of identifier that the shop's customer id is
    retention_days     1 … 36500: how long its events are kept; what they came to stays
    identifier_scope   name of the system whose numbers it brings, or {type: name}
    previous_id_type   type of identifier that an alias's previousId is
    session_minutes    0 … 1440: after so long without an event a new session; 0: it has none
    channel            name of the channel that its people use: web, app, wechat, store…

Whoever adds a setting adds a line to ``_CHECKS``. A key that is nearly one of these is refused as
a typing mistake; any other is a note of the user's own, and kept.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from cdp.errors import Unprocessable
from cdp.ingest.hooks.mapping import read_mapping
from cdp.model import PUBLIC_SOURCE_TYPES, SourceType

SMALLEST_EVENT, LARGEST_EVENT = 256, 4 * 1024 * 1024
SMALLEST_TRAIT, HIGHEST_RANK = 8 * 1024, 100
MASK = "********"
"""Stands for a secret wherever settings are shown; sent back, it means "as it was"."""

_LARGEST_RATE = 1_000_000
_LONGEST_TEXT = 1_000
_MOST_NAMES = 100
_HEADER = re.compile(r"^[A-Za-z0-9-]{1,100}$")
_NAME = re.compile(r"^[^\s\0]{1,100}$")
_SYSTEM = re.compile(r"^[\w.-]{1,100}$")
_NEARLY = 0.8


class _Wrong(Exception):
    """A value that may not be; ``path`` is behind the setting's own."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def check_settings(
    type_name: SourceType, posted: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what to store of ``posted``, which is laid over ``known``; null removes a key.

    Raises ``Unprocessable`` whose path is a JSON Pointer into the posted body. Settings that were
    stored by an earlier version are not judged again.
    """
    taken = {name: value for name, value in posted.items() if not _is_masked(name, value)}
    for name, value in taken.items():
        _check_one(name, value)
    whole = {k: v for k, v in {**(known or {}), **taken}.items() if v is not None}
    if not taken.keys().isdisjoint(("links", "preset", "mapping", "secret")):
        _check_whole(type_name, whole)
    return taken


def list_unknown(settings: Mapping[str, Any]) -> list[str]:
    """Return the keys that mean nothing to this version: notes of the user's own."""
    return sorted(settings.keys() - _CHECKS.keys())


def mask_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they may be shown."""
    return {k: MASK if k == "secret" and v else v for k, v in settings.items()}


def _is_masked(name: str, value: Any) -> bool:
    return name == "secret" and value == MASK


def _check_one(name: str, value: Any) -> None:
    check = _CHECKS.get(name)
    if check is None:
        near = difflib.get_close_matches(name, _CHECKS, n=1, cutoff=_NEARLY)
        if near:
            message = f"there is no setting {name!r}; did you mean {near[0]!r}?"
            raise _refuse("unknown_setting", message, name)
        return
    if value is None:
        return
    try:
        check(value)
    except _Wrong as wrong:
        raise _refuse("invalid_setting", f"{name}: {wrong}", f"{name}{wrong.path}") from wrong


def _check_whole(type_name: SourceType, whole: Mapping[str, Any]) -> None:
    if type_name in PUBLIC_SOURCE_TYPES:
        if whole.get("links") == "known":
            message = (
                "the key of a web or app source lies in the open, so its events never join two"
                " known people; send such events with the key of a source of another type"
            )
            raise _refuse("public_key", message, "links")
        if "preset" in whole or "secret" in whole:
            message = "hooks come from systems of one's own; make a source of type shop for them"
            raise _refuse("public_key", message, "preset")
    if whole.get("preset") == "custom" and "mapping" not in whole:
        message = "the preset custom needs a mapping from what is sent to what is kept"
        raise _refuse("missing_mapping", message, "mapping")


def _refuse(code: str, message: str, path: str) -> Unprocessable:
    return Unprocessable(code, message, path=f"/settings/{path}")


def _check_size(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong("a whole number of bytes")
    if not SMALLEST_EVENT <= value <= LARGEST_EVENT:
        raise _Wrong(f"lies between {SMALLEST_EVENT} and {LARGEST_EVENT}")


def _check_trait_size(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong("a whole number of bytes")
    if not SMALLEST_TRAIT <= value <= LARGEST_EVENT:
        raise _Wrong(f"lies between {SMALLEST_TRAIT} and {LARGEST_EVENT}")


def _check_rank(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > HIGHEST_RANK:
        raise _Wrong(f"a whole number from -{HIGHEST_RANK} to {HIGHEST_RANK}; by default 0")


def _check_text(value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT or "\0" in value:
        raise _Wrong(f"a text of 1 to {_LONGEST_TEXT} characters")


def _check_scope(value: Any) -> None:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or "\0" in value:
        raise _Wrong(f"a text of at most {_LONGEST_TEXT} characters")


def _check_bool(value: Any) -> None:
    if not isinstance(value, bool):
        raise _Wrong("true or false")


def _check_header(value: Any) -> None:
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise _Wrong("the name of a header, such as X-Signature")


def _check_name(value: Any) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _Wrong("a name without spaces, of at most 100 characters")


def _check_system(value: Any) -> None:
    named = value if isinstance(value, dict) else {"": value}
    if not 0 < len(named) <= _MOST_NAMES:
        raise _Wrong('a name such as crm-eu, or {"crm_id": "crm-eu"}')
    for kind, name in named.items():
        if not isinstance(name, str) or not _SYSTEM.fullmatch(name):
            message = "a name of at most 100 letters, digits and . _ -, such as crm-eu"
            raise _Wrong(message, f"/{kind}" if kind else "")


def _check_names(value: Any) -> None:
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_NAMES:
        raise _Wrong(f"a list of 1 to {_MOST_NAMES} types of identifiers")
    for number, name in enumerate(value):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _Wrong("a type is a name without spaces", f"/{number}")


def _check_consent(value: Any) -> None:
    if not isinstance(value, dict) or len(value) > _MOST_NAMES:
        raise _Wrong('an object such as {"marketing": false}')
    for purpose, granted in value.items():
        if not purpose or len(purpose) > 100 or "\0" in purpose:
            raise _Wrong("a purpose has 1 to 100 characters")
        if not isinstance(granted, bool):
            raise _Wrong("true or false", f"/{purpose}")


def _check_rate(value: Any) -> None:
    if isinstance(value, dict):
        if value.keys() - {"events_per_second", "burst"} or "events_per_second" not in value:
            raise _Wrong('a number, or {"events_per_second": 100, "burst": 500}')
        for name, part in value.items():
            _check_positive(part, f"/{name}")
    else:
        _check_positive(value)


def _check_positive(value: Any, path: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong("a number of events per second", path)
    if not 0 < value <= _LARGEST_RATE:
        raise _Wrong(f"more than 0, at most {_LARGEST_RATE}", path)


def _check_minutes(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1440:
        raise _Wrong("a whole number of minutes, 0 to 1440")


def _check_days(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 36_500:
        raise _Wrong("a whole number of days, 1 to 36500")


def _check_mapping(value: Any) -> None:
    wrong = read_mapping(value)
    if isinstance(wrong, tuple):
        raise _Wrong(wrong[1], wrong[0])


def _one_of(*allowed: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value not in allowed or not isinstance(value, str):
            raise _Wrong(f"one of {', '.join(allowed)}")

    return check


_CHECKS: Mapping[str, Callable[[Any], None]] = {
    "max_event_bytes": _check_size,
    "max_trait_bytes": _check_trait_size,
    "trait_rank": _check_rank,
    "order_scope": _check_scope,
    "links": _one_of("anonymous", "known"),
    "trusted_times": _check_bool,
    "identifier_types": _check_names,
    "default_consent": _check_consent,
    "rate_limit": _check_rate,
    "plan_mode": _one_of("observe", "flag", "omit", "block"),
    "preset": _one_of("shopify", "woocommerce", "youzan", "custom"),
    "secret": _check_text,
    "client_id": _check_text,
    "signature_header": _check_header,
    "mapping": _check_mapping,
    "order_id_from": _one_of("id", "number"),
    "customer_id_type": _check_name,
    "identifier_scope": _check_system,
    "previous_id_type": _check_name,
    "session_minutes": _check_minutes,
    "channel": _check_name,
    "retention_days": _check_days,
}
