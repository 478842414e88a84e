"""From what a caller wrote to identifiers: normalised, blocked values dropped, strongest first."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from cdp.identity.default_types import HASHED_TYPES
from cdp.identity.patterns import compile_pattern
from cdp.identity.rules import Rules, TypeRule
from cdp.identity.scopes import add_scope, find_scope
from cdp.identity.spelling import read_text, spell
from cdp.identity.twins import digest, hashed_type_of
from cdp.model import Identifier, Scoped

MAX_LENGTH = 512
"""Characters. Longer values name nobody, and would not fit an index entry."""

_Ranked = tuple[int, Identifier]
_CACHE_SIZE = 200_000
_SETS_SIZE = 50_000
QUOTES = "\"'`"
_TYPE = re.compile(r"^[^\s:\0\ud800-\udfff]{1,100}$")
_RESERVED = frozenset({"id"})
"""Types by which something else is asked for: any profile id ever issued."""


class Block(NamedTuple):
    """Why an identifier names nobody: a decision by hand, or a value or pattern of its type."""

    identifier: Identifier
    kind: Literal["by_hand", "value", "pattern"]
    by: str
    """The value or the pattern that is blocked."""

    @property
    def message(self) -> str:
        """In one sentence, for whoever asked."""
        rule = {
            "by_hand": "blocked by hand",
            "value": "a blocked value of its type in the rules",
            "pattern": f"blocked by the pattern {self.by} in the rules",
        }[self.kind]
        return f"this identifier names nobody: {rule}; events that carry it hang on their others"


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
    return _reader_of(rules).names_nobody(identifier)


def find_block(type_name: str, value: object, rules: Rules) -> Block | None:
    """Say by which rule ``value`` names nobody, and how it would be spelt; ``None``: by none."""
    open_types = {
        name: rule.model_copy(update={"blocked": (), "blocked_patterns": ()})
        for name, rule in rules.types.items()
    }
    unblocked = rules.with_blocks(frozenset()).model_copy(update={"types": open_types})
    text = _Reader(unblocked).normalise(type_name, value)
    if text is None:
        return None
    name = Identifier(type_name, text)
    if name in rules.blocks:
        return Block(name, "by_hand", text)
    rule = rules.rule_of(type_name)
    bare = text.strip(QUOTES).strip().lower()
    if bare in {one.lower() for one in rule.blocked}:
        return Block(name, "value", bare)
    for pattern in rule.blocked_patterns:
        if _compile(pattern)(bare):
            return Block(name, "pattern", pattern)
    return Block(name, "value", text) if is_blocked(name, rules) else None


class _Reader:
    """The rules made ready: blocked sets, compiled patterns, and a cache of what was read."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._checks: dict[str, Callable[[str], bool]] = {}
        self._cache: dict[tuple[str, str], _Ranked | None] = {}
        self._sets: dict[tuple[tuple[str, object], ...], tuple[Identifier, ...]] = {}
        self._judged: dict[Identifier, bool] = {}
        """Whether it names nobody, of identifiers from the database: many are asked for again."""

    def identify(self, claims: Sequence[tuple[str, object]]) -> tuple[Identifier, ...]:
        # The events of one person mostly make the same claims, all of text.
        key = tuple(claims)
        try:
            known = self._sets.get(key)
        except TypeError:
            return self._identify(key)
        if known is not None:
            return known
        found = self._identify(key)
        if all(type(value) is str for _, value in key):
            if len(self._sets) >= _SETS_SIZE:
                self._sets.clear()
            self._sets[key] = found
        return found

    def _identify(self, claims: Sequence[tuple[str, object]]) -> tuple[Identifier, ...]:
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
        said = value if isinstance(value, Scoped) else None
        text = read_text(value if said is None else said.value)
        if text is None or not _TYPE.match(type_name) or type_name in _RESERVED:
            return None
        rule = self._rules.rule_of(type_name)
        spelled = spell(text, rule.normalise, self._rules.country)
        if spelled is None or self.is_blocked(type_name, spelled):
            return None
        if said is not None and rule.scope is not None:
            spelled = add_scope(spelled, find_scope(type_name, rule.scope, said))
        return None if len(spelled) > MAX_LENGTH else spelled

    def names_nobody(self, identifier: Identifier) -> bool:
        known = self._cache.get(identifier)
        if known is not None and known[1] == identifier:
            # A claim was read that says it as it is: it names somebody.
            return False
        judged = self._judged.get(identifier)
        if judged is None:
            if len(self._judged) >= _CACHE_SIZE:
                self._judged.clear()
            judged = self.is_blocked(identifier.type, identifier.value)
            self._judged[identifier] = judged
        return judged

    def is_blocked(self, type_name: str, text: str) -> bool:
        if self._rules.blocks and self._is_blocked_by_hand(type_name, text):
            return True
        check = self._checks.get(type_name)
        if check is None:
            check = self._checks[type_name] = self._make_check(type_name)
        return check(text)

    def _make_check(self, type_name: str) -> Callable[[str], bool]:
        check = _blocked_check(self._rules.rule_of(type_name))
        clear = HASHED_TYPES.get(type_name)
        if clear is None:
            return check
        digests = _blocked_digests(clear, self._rules)
        return lambda text: text in digests or check(text)

    def _is_blocked_by_hand(self, type_name: str, text: str) -> bool:
        blocks = self._rules.blocks
        if Identifier(type_name, text) in blocks:
            return True
        hashed = hashed_type_of(type_name)
        return (
            hashed is not None
            and any(kind == hashed for kind, _ in blocks)
            and Identifier(hashed, digest(text)) in blocks
        )


_last: tuple[Rules, _Reader] | None = None


def _reader_of(rules: Rules) -> _Reader:
    global _last
    last = _last
    if last is not None and last[0] is rules:
        return last[1]
    reader = _Reader(rules)
    _last = (rules, reader)
    return reader


def _blocked_check(rule: TypeRule) -> Callable[[str], bool]:
    values = frozenset(value.lower() for value in rule.blocked)
    patterns = [_compile(pattern) for pattern in rule.blocked_patterns]

    def is_blocked(text: str) -> bool:
        bare = text.strip(QUOTES).strip()
        return not bare or bare.lower() in values or any(matches(bare) for matches in patterns)

    return is_blocked


def _compile(pattern: str) -> Callable[[str], bool]:
    try:
        return compile_pattern(pattern)
    except ValueError:
        # Stored by a version that took Python's own; those were read from the start of the value.
        matches = re.compile(pattern).match
        return lambda text: matches(text.lower()) is not None


def _blocked_digests(clear: str, rules: Rules) -> frozenset[str]:
    """Return the digests of what is blocked of the clear type."""
    blocked = [value.lower() for value in rules.rule_of(clear).blocked]
    blocked += [value for kind, value in rules.blocks if kind == clear]
    return frozenset(digest(value) for value in ("", *blocked))
