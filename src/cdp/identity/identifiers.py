"""From what a caller wrote to identifiers: normalised, blocked values dropped, strongest first."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import phonenumbers

from cdp.identity.rules import Rules, TypeRule
from cdp.model import Identifier

MAX_LENGTH = 512
"""Characters. Longer values name nobody, and would not fit an index entry."""

_Ranked = tuple[int, Identifier]
_CACHE_SIZE = 200_000
_QUOTES = "\"'`"


def identify(claims: Sequence[tuple[str, object]], rules: Rules) -> tuple[Identifier, ...]:
    """Return the identifiers that ``claims`` (type, raw value) make, strongest first.

    Without duplicates; blocked, empty and unreadable values are left out.
    """
    return _reader_of(rules).identify(claims)


def normalise(type_name: str, value: object, rules: Rules) -> str | None:
    """Return the one spelling of ``value`` under its type, or ``None`` when it names nobody.

    Strong identifiers are only trimmed: ``USER-1`` and ``user-1`` may be two people. Whole
    numbers become digits; anything else that is not text is no identifier.
    """
    return _reader_of(rules).normalise(type_name, value)


def is_blocked(identifier: Identifier, rules: Rules) -> bool:
    """Whether ``identifier`` (normalised) names nobody: by its type's rule, or by hand."""
    return _reader_of(rules).is_blocked(identifier.type, identifier.value)


class _Reader:
    """The rules made ready: blocked sets, compiled patterns, and a cache of what was read."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._checks: dict[str, Callable[[str], bool]] = {}
        self._cache: dict[tuple[str, str], _Ranked | None] = {}

    def identify(self, claims: Sequence[tuple[str, object]]) -> tuple[Identifier, ...]:
        found: list[_Ranked] = []
        cache = self._cache
        for claim in claims:
            if type(claim[1]) is str:
                try:
                    ranked = cache[claim]  # type: ignore[index]
                except KeyError:
                    ranked = self._read(claim)
            else:
                # 1, 1.0 and True are one dictionary key, so only text is remembered.
                ranked = self._rank(claim[0], claim[1])
            if ranked is not None:
                found.append(ranked)
        if len(found) == 1:
            return (found[0][1],)
        if len(found) > 1:
            found.sort()
            return tuple(dict.fromkeys([identifier for _, identifier in found]))
        return ()

    def _read(self, claim: tuple[str, object]) -> _Ranked | None:
        ranked = self._rank(claim[0], claim[1])
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[claim] = ranked  # type: ignore[index]
        return ranked

    def _rank(self, type_name: str, value: object) -> _Ranked | None:
        text = self.normalise(type_name, value)
        if text is None:
            return None
        return self._rules.rule_of(type_name).priority, Identifier(type_name, text)

    def normalise(self, type_name: str, value: object) -> str | None:
        text = _read_text(value)
        if text is None:
            return None
        rule = self._rules.rule_of(type_name)
        spelled = _spell(text, rule, self._rules.country)
        if spelled is None or len(spelled) > MAX_LENGTH or self.is_blocked(type_name, spelled):
            return None
        return spelled

    def is_blocked(self, type_name: str, text: str) -> bool:
        if self._rules.blocks and Identifier(type_name, text) in self._rules.blocks:
            return True
        check = self._checks.get(type_name)
        if check is None:
            check = self._checks[type_name] = _blocked_check(self._rules.rule_of(type_name))
        return check(text)


_last: tuple[Rules, _Reader] | None = None


def _reader_of(rules: Rules) -> _Reader:
    global _last
    last = _last
    if last is not None and last[0] is rules:
        return last[1]
    reader = _Reader(rules)
    _last = (rules, reader)
    return reader


def _read_text(value: object) -> str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if not text.isascii():
        # A lone surrogate cannot be written as UTF-8.
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\0", "\ufffd") or None


def _spell(text: str, rule: TypeRule, country: str) -> str | None:
    match rule.normalise:
        case "email":
            return _spell_email(text)
        case "phone":
            return _spell_phone(text, country)
        case "lower":
            return text.lower()
        case "upper":
            return text.upper()
        case _:
            return text


_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+$")
_CHINESE_MOBILE = re.compile(r"^1[3-9]\d{9}$")
_CHINESE_MOBILE_E164 = re.compile(r"^\+861[3-9]\d{9}$")


def _spell_email(text: str) -> str | None:
    text = text.removeprefix("mailto:").lower()
    return text if _EMAIL.match(text) else None


def _spell_phone(text: str, country: str) -> str | None:
    """E.164 by the numbering plans of ``phonenumbers``; ``country`` when it has no code."""
    if _CHINESE_MOBILE_E164.match(text):
        return text
    if country == "CN" and _CHINESE_MOBILE.match(text):
        return f"+86{text}"
    return _parse_phone(text, country)


@lru_cache(maxsize=100_000)
def _parse_phone(text: str, country: str) -> str | None:
    try:
        number = phonenumbers.parse(text.removeprefix("tel:"), country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _blocked_check(rule: TypeRule) -> Callable[[str], bool]:
    values = frozenset(value.lower() for value in rule.blocked)
    patterns = [re.compile(pattern) for pattern in rule.blocked_patterns]

    def is_blocked(text: str) -> bool:
        bare = text.strip(_QUOTES).strip().lower()
        return not bare or bare in values or any(pattern.match(bare) for pattern in patterns)

    return is_blocked
