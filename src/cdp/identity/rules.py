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
    field_validator,
)

from cdp.model import Identifier

Strength = Literal["strong", "contact", "ephemeral"]
Normalisation = Literal["email", "phone", "lower", "upper", "trim", "none"]

DEFAULT_TYPE = "*"
"""The entry that stands for every type without one of its own."""

_UNITS = {"d": 1, "w": 7, "mo": 30, "y": 365}
_DURATION = re.compile(r"^(\d{1,5})(d|w|mo|y)$")


def _read_days(value: Any) -> Any:
    if isinstance(value, str):
        match = _DURATION.match(value)
        if match is None:
            raise ValueError("write a number and a unit: 180d, 26w, 6mo, 1y")
        return timedelta(days=int(match[1]) * _UNITS[match[2]])
    return value


Days = Annotated[
    timedelta,
    BeforeValidator(_read_days),
    PlainSerializer(lambda span: f"{span.days}d", return_type=str),
]


class TypeRule(BaseModel):
    """What is known of one type of identifier."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    unique: bool = False
    priority: int = Field(ge=0, le=10_000)
    strength: Strength = Field("strong", alias="class")
    limit: int | None = Field(None, ge=1)
    window: Days | None = None
    normalise: Normalisation = "trim"
    scope: str | None = None
    blocked: tuple[str, ...] = ()
    blocked_patterns: tuple[str, ...] = ()

    @field_validator("blocked_patterns")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns


_UNKNOWN = TypeRule.model_validate({"priority": 60})


class Rules(BaseModel):
    """The whole document. Immutable, so a change is a new version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(1, ge=1)
    country: str = Field("CN", min_length=2, max_length=2)
    types: dict[str, TypeRule]
    hot_limit: int = Field(5, ge=2)
    shared_device: Literal["anonymous", "last_authenticated"] = "anonymous"
    rebind_after: Days = timedelta(days=180)

    # Not of the document: blocking one identifier must not collide with whoever edits the rules,
    # nor be lost when somebody goes back to an older document.
    _blocks: frozenset[Identifier] = PrivateAttr(default=frozenset())

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

    def order_of(self, identifier: Identifier) -> tuple[int, str, str]:
        """Return the sort key that puts the strongest identifier first."""
        return self.rule_of(identifier.type).priority, identifier.type, identifier.value

    def document(self) -> dict[str, Any]:
        """Return the JSON object that users see and send."""
        return self.model_dump(mode="json", by_alias=True)


def parse_rules(document: Any) -> Rules:
    """Read a document; raises ``pydantic.ValidationError`` that names the wrong member."""
    return Rules.model_validate(document)


# Placeholders that programs write when they have no value; compared without case and quotes.
# The list joins those that Segment and PostHog refuse.
PLACEHOLDERS = (
    "anonymous", "guest", "distinctid", "distinct_id", "id", "not_authenticated", "email",
    "undefined", "true", "false", "[object object]", "nan", "none", "null", "nil", "0", "-1",
    "n/a", "unknown", "user_id", "anonymous_id", "(null)", "<null>",
)  # fmt: skip
ZEROS = r"^[0\-]*$"
_TEST_EMAILS = ("test@test.com", "none@none.com", "null@null.com")


def default_rules(country: str = "CN") -> Rules:
    """Return the rules of a new workspace; ``country`` reads phone numbers without a code."""
    strong = {"blocked": PLACEHOLDERS, "blocked_patterns": (ZEROS,)}
    device = {**strong, "class": "ephemeral", "limit": 1000}
    documents: dict[str, dict[str, Any]] = {
        "user_id": {"unique": True, "priority": 10, **strong},
        "crm_id": {"unique": True, "priority": 12, **strong},
        "member_card": {"unique": True, "priority": 14, **strong},
        "wechat_unionid": {"priority": 20, **strong},
        "wechat_openid": {"priority": 22, "scope": "app", **strong},
        "email": {
            "priority": 30, "class": "contact", "limit": 20, "normalise": "email",
            "blocked": PLACEHOLDERS + _TEST_EMAILS,
        },
        "phone": {
            "priority": 32, "class": "contact", "limit": 20, "normalise": "phone",
            "blocked_patterns": (r"^\+?(\d)\1+$",),
        },
        DEFAULT_TYPE: {"priority": 60, "scope": "system", **strong},
        "anonymous_id": {"priority": 80, **device},
        "device_id": {"priority": 84, **device},
        "device_token": {"priority": 86, **device},
        "ga_client_id": {"priority": 88, **device},
        "firebase_app_instance_id": {"priority": 88, **device},
        "fbp": {"priority": 88, **device},
        "idfv": {"priority": 90, "normalise": "lower", **device},
        "idfa": {"priority": 92, "normalise": "lower", **device},
        "gaid": {"priority": 92, "normalise": "lower", **device},
        "oaid": {"priority": 92, "normalise": "lower", **device},
        "android_id": {"priority": 92, "normalise": "lower", **device},
        "imei": {"priority": 92, **device},
    }  # fmt: skip
    return parse_rules({"version": 1, "country": country, "types": documents})
