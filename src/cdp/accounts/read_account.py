"""Read a posted account: what it says of the account, and of whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cdp.accounts.account import (
    LONGEST_ACCOUNT_ID,
    LONGEST_NAME,
    PARENT,
    TYPE,
    AccountSaid,
    MemberSaid,
    read_account_id,
)
from cdp.posted_record import Claim, Refusal, make_message_id, read_claim, read_time

MOST_MEMBERS = 1_000
"""In one record; more come in further records, which add to them."""

MemberClaim = tuple[Claim, MemberSaid]


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """A posted account, read."""

    said: AccountSaid
    members: tuple[MemberClaim, ...]
    """Those whom the record names; others stay as they are."""


def read_account(document: object, *, place: str, received_at: datetime) -> AccountRecord | Refusal:
    """Read a posted account of the published shape, or say why it is not taken.

    ``updated_at`` missing, or far ahead of it, means ``received_at``. ``place`` tells this account
    from every other that was ever posted without ``updated_at``.
    """
    if not isinstance(document, Mapping):
        return Refusal("invalid_account", "an account is a JSON object")
    account_id = read_account_id(document.get("account_id"))
    if account_id is None:
        message = f"`account_id` is text of up to {LONGEST_ACCOUNT_ID} characters"
        return Refusal("missing_account_id", message, "account_id")
    at = read_time(document, "updated_at", received_at)
    if isinstance(at, Refusal):
        return at
    message_id = make_message_id("account", document, place)
    if isinstance(message_id, Refusal):
        return message_id
    fields = _read_fields(document, account_id)
    if isinstance(fields, Refusal):
        return fields
    traits = _read_traits(document.get("traits"))
    if isinstance(traits, Refusal):
        return traits
    members = _read_members(document.get("members"))
    if isinstance(members, Refusal):
        return members
    return AccountRecord(AccountSaid(account_id, at, message_id, fields, traits), members)


def _read_fields(document: Mapping[str, Any], account_id: str) -> dict[str, str | None] | Refusal:
    fields: dict[str, str | None] = {}
    if "type" in document:
        kind = _read_text(document["type"])
        if isinstance(kind, bool):
            message = f"`type` is text of up to {LONGEST_NAME} characters, such as company"
            return Refusal("invalid_type", message, "type")
        fields[TYPE] = kind
    if "parent_account_id" in document:
        value = document["parent_account_id"]
        parent = read_account_id(value)
        if parent is None and value not in (None, ""):
            message = "`parent_account_id` is the id of another account"
            return Refusal("invalid_parent", message, "parent_account_id")
        if parent == account_id:
            message = "an account is not its own parent"
            return Refusal("invalid_parent", message, "parent_account_id")
        fields[PARENT] = parent
    return fields


def _read_traits(value: object) -> Mapping[str, Any] | Refusal:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return Refusal("invalid_traits", "`traits` is an object", "traits")
    for name in value:
        if len(name) > LONGEST_NAME:
            message = f"the name of a trait has up to {LONGEST_NAME} characters"
            return Refusal("name_too_long", message, "traits")
    return value


def _read_members(value: object) -> tuple[MemberClaim, ...] | Refusal:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        return Refusal("invalid_members", "`members` is a list of objects", "members")
    if len(value) > MOST_MEMBERS:
        message = f"a record names up to {MOST_MEMBERS} members; name the others in another"
        return Refusal("too_many_members", message, "members")
    members: list[MemberClaim] = []
    for number, item in enumerate(value):
        member = _read_member(item, f"members.{number}")
        if isinstance(member, Refusal):
            return member
        if member is not None:
            members.append(member)
    return tuple(members)


def _read_member(value: object, field: str) -> MemberClaim | Refusal | None:
    if not isinstance(value, Mapping):
        return Refusal("invalid_members", "a member is an object with `identifier`", field)
    claim = read_claim(value.get("identifier"), f"{field}.identifier")
    if claim is None or isinstance(claim, Refusal):
        return claim
    removed = value.get("removed", False)
    if not isinstance(removed, bool):
        return Refusal("invalid_members", "`removed` is true or false", f"{field}.removed")
    role = _read_text(value.get("role"))
    if isinstance(role, bool):
        message = f"`role` is text of up to {LONGEST_NAME} characters"
        return Refusal("invalid_role", message, f"{field}.role")
    return claim, MemberSaid(not removed, role, states_role="role" in value)


def _read_text(value: object) -> str | bool | None:
    """Return text, ``None`` when it says nothing, ``False`` when it is none."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) and len(value) <= LONGEST_NAME else False
