"""What a document of rules may say beyond its shape, checked for whoever writes it. Pure.

Stored documents are not judged again: what an older version let in must stay readable.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import phonenumbers

from cdp.identity.default_types import DEFAULT_TYPE, HASHED_TYPES
from cdp.identity.patterns import blocks_everything
from cdp.identity.rules import Rules, TypeRule

MOST_TYPES = 500
MOST_BLOCKED = 10_000
MOST_PATTERNS = 50
_LONGEST_BLOCKED = 512
_TYPE = re.compile(r"^[^\s:\0]{1,100}$")
_RESERVED = ("id",)
_CONTACTS = ("email", "phone", "sha256")


class Mistake(NamedTuple):
    """``path`` leads to the wrong member, through names and positions."""

    path: tuple[str | int, ...]
    message: str


def find_mistake(rules: Rules) -> Mistake | None:
    """Return the first mistake in rules whose shape is right."""
    return next(_list_mistakes(rules), None)


def put_into_words(error: Mapping[str, Any]) -> Mistake:
    """Say what to write in place of what pydantic refuses (one of its ``errors()``)."""
    path: tuple[str | int, ...] = tuple(error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        members = TypeRule if len(path) > 1 else Rules
        names = [field.alias or name for name, field in members.model_fields.items()]
        near = difflib.get_close_matches(str(path[-1]), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        message = f"there is no member {path[-1]!r}; {hint}"
    elif error["type"] == "missing":
        message = f"{path[-1]!r} is missing"
    return Mistake(path, message)


def _list_mistakes(rules: Rules) -> Iterator[Mistake]:
    if rules.country not in phonenumbers.SUPPORTED_REGIONS:
        yield Mistake(("country",), "write two capital letters: CN, GB")
    if len(rules.types) > MOST_TYPES:
        yield Mistake(("types",), f"there may be {MOST_TYPES} types")
    for name, rule in rules.types.items():
        for path, message in _list_mistakes_of_type(name, rule):
            yield Mistake(("types", name, *path), message)


def _list_mistakes_of_type(name: str, rule: TypeRule) -> Iterator[Mistake]:
    if name in _RESERVED:
        yield Mistake((), "`id` stands for profile ids; call the type something else")
    if name != DEFAULT_TYPE and not _TYPE.match(name):
        yield Mistake((), "a type is a name of at most 100 characters, without spaces and colons")
    if rule.window is not None and rule.limit is None:
        yield Mistake(("window",), "a window is of a limit; write the limit too")
    if rule.unique and rule.limit is not None and rule.limit > 1:
        yield Mistake(("limit",), "unique says that there is one; leave the limit out")
    if rule.scope is not None and (rule.normalise in _CONTACTS or rule.strength == "contact"):
        yield Mistake(("scope",), "an e-mail or phone is the same in every system; write null")
    if rule.normalise == "sha256" and name not in HASHED_TYPES:
        yield Mistake(("normalise",), f"sha256 is for {' and '.join(HASHED_TYPES)}")
    yield from _list_wrong_texts("blocked", rule.blocked, MOST_BLOCKED, _LONGEST_BLOCKED)
    yield from _list_wrong_texts("blocked_patterns", rule.blocked_patterns, MOST_PATTERNS, None)
    for number, pattern in enumerate(rule.blocked_patterns):
        try:
            if blocks_everything(pattern):
                yield Mistake(("blocked_patterns", number), f"{pattern!r} blocks every value")
        except ValueError as error:
            yield Mistake(("blocked_patterns", number), str(error))


def _list_wrong_texts(
    member: str, texts: Sequence[str], most: int, longest: int | None
) -> Iterator[Mistake]:
    if len(texts) > most:
        yield Mistake((member,), f"there may be {most} of them")
    for number, text in enumerate(texts):
        if not text.strip():
            yield Mistake((member, number), "an empty text blocks nothing; leave it out")
        elif longest is not None and len(text) > longest:
            yield Mistake((member, number), f"no identifier has more than {longest} characters")
