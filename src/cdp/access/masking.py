"""Masks over personal values, for callers without ``pii:read``. Pure.

Personal are e-mail, phone, name, address and birthday: by the key they stand under, and e-mail
addresses wherever they stand. Of single names somebody may have chosen otherwise
(``cdp.access.personal_names``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cdp.access.personal_names import list_choices

MASK = "***"
# The hash of a number is no secret: there are not too many numbers to try them all.
PERSONAL_IDENTIFIERS = frozenset({"email", "phone", "email_sha256", "phone_sha256"})

_NAMES = frozenset(
    {
        "name", "firstname", "lastname", "middlename", "fullname", "givenname", "familyname",
        "nickname", "realname", "surname", "username", "displayname",
        "birthday", "birthdate", "birth", "dateofbirth", "dob",
        "姓名", "真实姓名", "名字", "姓", "名", "姓氏", "昵称", "生日", "出生日期", "手机号",
        "手机号码",
    }
)  # fmt: skip
_ENDINGS = ("email", "emailaddress", "phone", "phonenumber", "mobile", "mobilenumber", "address",
            "邮箱", "电子邮件", "手机", "电话", "地址")  # fmt: skip
_EMAIL = re.compile(r"[^\s@/?&=<>\"',;:]+(?:@|%40)[^\s@/?&=<>\"',;:]+\.[^\s@/?&=<>\"',;:]+")
_PHONE = re.compile(r"\+\d{8,15}")


def is_personal(key: str, chosen: Mapping[str, bool] | None = None) -> bool:
    """Whether values under ``key`` (a trait, a property) are personal: ``first_name``, ``Email``,

    ``shipping_address``. A dotted path is personal when any of its steps is. What was chosen for
    just this name, or this step, counts before; ``chosen`` is that (``None``: what is known here).
    """
    chosen = list_choices() if chosen is None else chosen
    if not chosen:
        return is_personal_by_name(key)
    known = chosen.get(key)
    if known is not None:
        return known
    return any(
        _is_personal_step(step) if (known := chosen.get(step)) is None else known
        for step in key.split(".")
    )


def is_personal_by_name(key: str) -> bool:
    """Whether values under ``key`` are personal when nobody chose otherwise."""
    return any(_is_personal_step(step) for step in key.split("."))


def _is_personal_step(step: str) -> bool:
    plain = re.sub(r"[\W_]+", "", step).lower()
    return plain in _NAMES or plain.endswith(_ENDINGS)


def mask_text(text: str) -> str:
    """Return the first character of ``text`` and three stars; of one character only the stars."""
    return text[0] + MASK if len(text) > 1 else MASK


def mask_personal(value: Any) -> Any:
    """Mask every leaf of a value that is personal as a whole, such as an address object."""
    if isinstance(value, dict):
        return {key: mask_personal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_personal(inner) for inner in value]
    if isinstance(value, str):
        return mask_text(value)
    return value if value is None or isinstance(value, bool) else MASK


def mask_identifier(kind: str, value: str) -> str:
    """Mask the value of an identifier when its type is personal or it looks like a contact,

    with or without a scope before it.
    """
    bare = value.rpartition("::")[2]
    if kind in PERSONAL_IDENTIFIERS or _EMAIL.fullmatch(bare) or _PHONE.fullmatch(bare):
        return mask_text(value)
    return value


def mask_traits(traits: dict[str, Any]) -> dict[str, Any]:
    """Mask the personal ones among traits, and what is personal within the others."""
    return _mask_object(traits, is_personal)


def mask_properties(properties: dict[str, Any], *, call: str = "track") -> dict[str, Any]:
    """Mask what is personal in an event's properties.

    The ``name`` of a page or screen is not a person's, nor is the ``name`` in a list of objects
    (products, lines).
    """
    masked = _mask_object(properties, is_personal)
    if call in ("page", "screen") and "name" in properties:
        masked["name"] = properties["name"]
    return masked


def mask_value(value: Any) -> Any:
    """Mask what is personal in a value that stands alone, such as a tag's: contacts in any text,

    and what stands under a personal key of an object.
    """
    if isinstance(value, str):
        masked = mask_identifier("", value)
        return _mask_within(value, is_personal) if masked == value else masked
    if isinstance(value, list):
        return [mask_value(inner) for inner in value]
    return mask_traits(value) if isinstance(value, dict) else value


def mask_context(context: dict[str, Any]) -> dict[str, Any]:
    """Mask what is personal in an event's context: its traits, and e-mail addresses anywhere.

    Other ``name`` keys there belong to apps, libraries, campaigns and systems.
    """
    masked = _mask_object(context, _is_never_personal)
    traits = context.get("traits")
    if isinstance(traits, dict):
        masked["traits"] = mask_traits(traits)
    if isinstance(context.get("externalIds"), list):
        masked["externalIds"] = [_mask_external_id(entry) for entry in context["externalIds"]]
    return masked


def _is_never_personal(_: str) -> bool:
    return False


def _mask_external_id(entry: Any) -> Any:
    if isinstance(entry, dict) and isinstance(entry.get("id"), str):
        return {**entry, "id": mask_identifier(str(entry.get("type")), entry["id"])}
    return entry


def _mask_object(document: dict[str, Any], personal: Callable[[str], bool]) -> dict[str, Any]:
    return {
        key: mask_personal(value) if personal(key) else _mask_within(value, personal)
        for key, value in document.items()
    }


def _mask_within(value: Any, personal: Callable[[str], bool]) -> Any:
    if isinstance(value, dict):
        return _mask_object(value, personal)
    if isinstance(value, list):
        return [_mask_item(inner, personal) for inner in value]
    if isinstance(value, str):
        return _EMAIL.sub(lambda match: mask_text(match[0]), value)
    return value


def _mask_item(value: Any, personal: Callable[[str], bool]) -> Any:
    """Within a list of objects a ``name`` is a product's or a line's."""
    masked = _mask_within(value, personal)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        masked["name"] = _mask_within(value["name"], personal)
    return masked
