"""What messages say of an account. Pure.

Everything is a last-writer register by (event time, message id, source): each field (``type``,
``parent``), each trait, each member's belonging and each member's role by itself. So the order of
arrival and repetition do not matter, and a message changes only what it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

TYPE, PARENT = "type", "parent"
"""An account's own fields."""
LONGEST_ACCOUNT_ID = 512
LONGEST_NAME = 200
"""Characters of a trait's name, of a type, of a role."""

FactKind = Literal["field", "trait"]
MemberFact = Literal["member", "role"]

Key = TypeVar("Key")


class Stamp(NamedTuple):
    """What decides between two values of one register: the greater one counts."""

    at: datetime
    message_id: str
    source_number: int


class MemberSaid(NamedTuple):
    """What a message says of one member."""

    is_member: bool
    role: str | None = None
    states_role: bool = False
    """False leaves the role that is known; a removal states that there is none."""

    def facts(self) -> dict[MemberFact, bool | str | None]:
        """Return the values of the registers that this sets."""
        facts: dict[MemberFact, bool | str | None] = {"member": self.is_member}
        if self.states_role or not self.is_member:
            facts["role"] = self.role if self.is_member else None
        return facts


class AccountSaid(NamedTuple):
    """What a message says of one account."""

    account_id: str
    at: datetime
    message_id: str
    fields: Mapping[str, str | None] = {}
    """``type`` and ``parent``; ``None`` removes."""
    traits: Mapping[str, Any] = {}
    """``None`` removes one."""


def read_account_id(value: object) -> str | None:
    """Return an account's id as text; ``None`` for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return text if 0 < len(text) <= LONGEST_ACCOUNT_ID else None


def keep_newest(
    said: Iterable[tuple[Key, Any, Stamp]],
) -> dict[Key, tuple[Any, Stamp]]:
    """Return per register the value with the greatest stamp; of equal ones the one said last."""
    newest: dict[Key, tuple[Any, Stamp]] = {}
    for key, value, stamp in said:
        known = newest.get(key)
        if known is None or stamp >= known[1]:
            newest[key] = (value, stamp)
    return newest


def read_group_call(
    group_id: str | None, traits: Mapping[str, Any], *, at: datetime, message_id: str
) -> AccountSaid | None:
    """Return what a ``group`` call says of its account; ``None`` when it names none."""
    account_id = read_account_id(group_id)
    if account_id is None:
        return None
    kept = {name: value for name, value in traits.items() if len(name) <= LONGEST_NAME}
    return AccountSaid(account_id, at, message_id, {}, kept)
