"""The rules of identity as one document: which types there are, and how far each may reach.

``unique`` types never have two values in one profile. ``priority`` orders types by strength, the
smallest first. A type's *class* says what a clash does to it: a ``strong`` identifier names a
person, a ``contact`` stays with its older holder until that link is long idle, an ``ephemeral``
one is a device that several people may share.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from cdp.identity.default_types import DEFAULT_TYPE as DEFAULT_TYPE
from cdp.identity.default_types import KNOWN_TYPES, list_default_types
from cdp.identity.durations import Minutes
from cdp.model import Identifier

Strength = Literal["strong", "contact", "ephemeral"]
Normalisation = Literal["email", "phone", "sha256", "lower", "upper", "trim", "none"]
Scope = Literal["app", "system"]

_UNITS = {"d": 1, "w": 7, "mo": 30, "y": 365}
_DURATION = re.compile(r"^(\d{1,5})(d|w|mo|y)$")
_LONGEST_DAYS = 36_500


def _read_days(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a number and a unit: 180d, 26w, 6mo, 1y")
    days = int(match[1]) * _UNITS[match[2]]
    if days > _LONGEST_DAYS:
        raise ValueError("write at most 100y")
    return timedelta(days=days)


Days = Annotated[
    timedelta,
    BeforeValidator(_read_days),
    PlainSerializer(lambda span: f"{span.days}d", return_type=str),
]


class TypeRule(BaseModel):
    """What is known of one type of identifier."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    unique: StrictBool = False
    priority: StrictInt = Field(60, ge=0, le=10_000)
    strength: Strength = Field("strong", alias="class")
    limit: StrictInt | None = Field(None, ge=1)
    window: Days | None = None
    normalise: Normalisation = "trim"
    scope: Scope | None = None
    hot_limit: StrictInt | None = Field(None, ge=2)
    """In place of that of the whole document."""
    blocked: tuple[StrictStr, ...] = ()
    blocked_patterns: tuple[StrictStr, ...] = ()


_UNKNOWN = TypeRule.model_validate({})


class Rules(BaseModel):
    """The whole document. Immutable, so a change is a new version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: StrictInt = Field(1, ge=1)
    country: StrictStr = Field("CN", min_length=2, max_length=2)
    types: dict[str, TypeRule]
    hot_limit: StrictInt = Field(5, ge=2)
    shared_device: Literal["anonymous", "last_authenticated"] = "anonymous"
    session_timeout: Minutes = timedelta(minutes=30)
    """How long the person last authenticated on a shared device goes on having it to himself."""
    rebind_after: Days = timedelta(days=180)

    # Not of the document: blocking one identifier must not collide with whoever edits the rules,
    # nor be lost when somebody goes back to an older document.
    _blocks: frozenset[Identifier] = PrivateAttr(default=frozenset())

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, document: Any) -> Any:
        """Let a known type that does not say what it is be what it is by default.

        A document without ``class`` would else make a strong name of every device.
        """
        types = document.get("types") if isinstance(document, dict) else None
        if not isinstance(types, dict):
            return document
        completed = {
            name: {**KNOWN_TYPES.get(name, {}), **rule} if isinstance(rule, dict) else rule
            for name, rule in types.items()
        }
        return {**document, "types": completed}

    @property
    def blocks(self) -> frozenset[Identifier]:
        """The identifiers that were blocked by hand."""
        return self._blocks

    def with_blocks(self, blocks: frozenset[Identifier]) -> Rules:
        """Return the same rules with these identifiers blocked by hand, and no others."""
        copy = self.model_copy()
        copy._blocks = blocks
        return copy

    def rule_of(self, type_name: str) -> TypeRule:
        """Return the rule of a type; types without one share the entry ``*``."""
        rule = self.types.get(type_name)
        return self._other if rule is None else rule

    @cached_property
    def _other(self) -> TypeRule:
        return self.types.get(DEFAULT_TYPE, _UNKNOWN)

    def hot_limit_of(self, type_name: str) -> int:
        """Return with how many people an identifier of a type may be seen and still be one's."""
        own = self.rule_of(type_name).hot_limit
        return self.hot_limit if own is None else own

    @property
    def least_hot_limit(self) -> int:
        """The strictest limit of any type."""
        own = [rule.hot_limit for rule in self.types.values() if rule.hot_limit is not None]
        return min([self.hot_limit, *own])

    def order_of(self, identifier: Identifier) -> tuple[int, str, str]:
        """Return the sort key that puts the strongest identifier first."""
        return self.rule_of(identifier.type).priority, identifier.type, identifier.value

    def document(self) -> dict[str, Any]:
        """Return the JSON object that users see and send."""
        return self.model_dump(mode="json", by_alias=True)


def parse_rules(document: Any) -> Rules:
    """Read a document; raises ``pydantic.ValidationError`` that names the wrong member."""
    return Rules.model_validate(document)


def default_rules(country: str = "CN") -> Rules:
    """Return the rules of a new workspace; ``country`` reads phone numbers without a code."""
    return parse_rules({"version": 1, "country": country, "types": list_default_types()})
