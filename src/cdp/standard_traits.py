"""Traits under their usual names, in both families of SDKs, of CRMs and in Chinese. Pure.

Traits are kept under the name that they were sent by; this only tells which of them are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

ALIASES: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "fullname", "realname", "displayname", "姓名", "真实姓名"),
    "first_name": ("firstname", "givenname", "fname", "名", "名字"),
    "last_name": ("lastname", "familyname", "surname", "lname", "姓", "姓氏"),
    "email": ("email", "emailaddress", "mail", "邮箱", "电子邮箱", "电子邮件"),
    "phone": (
        "phone", "phonenumber", "mobile", "mobilephone", "mobilenumber", "telephone",
        "手机", "手机号", "手机号码", "电话",
    ),
    "birthday": ("birthday", "birthdate", "dateofbirth", "dob", "生日", "出生日期"),
    "gender": ("gender", "sex", "性别"),
    "address": ("address", "streetaddress", "地址", "联系地址"),
    "city": ("city", "城市"),
    "country": ("country", "countrycode", "国家"),
    "company": ("company", "companyname", "organization", "organisation", "公司", "单位"),
    "title": ("title", "jobtitle", "position", "职位", "职务"),
}  # fmt: skip
"""By standard name the spellings, lower case and without separators, the most usual first."""

_BY_SPELLING = {spelling: name for name, all_of in ALIASES.items() for spelling in all_of}
_NAMES = ("name", "first_name", "last_name")
_HAN = re.compile(r"[\u3400-\u9fff]")
_DATE = re.compile(r"\s*(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})(?!\d)")

IMPOSSIBLE_DATE = "impossible_date"
"""The flag of a birthday on a day that there was not, or that had not come when it was said."""


def find_standard(name: str) -> str | None:
    """Return the standard trait that ``name`` is a spelling of: ``firstName`` → ``first_name``."""
    return _BY_SPELLING.get(re.sub(r"[\W_]+", "", name).lower())


def find_display_name(traits: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what to call a person, and by which trait: as sent, or put together from its parts.

    Parts are put together in the order of their script: ``Ann Lee``, ``李安``. ``None``: unknown.
    """
    found: dict[str, tuple[int, str, str]] = {}
    for name, value in traits.items():
        standard = find_standard(name)
        if standard not in _NAMES or not isinstance(value, str) or not value.strip():
            continue
        place = ALIASES[standard].index(re.sub(r"[\W_]+", "", name).lower())
        known = found.get(standard)
        here = (place, name, value.strip())
        found[standard] = here if known is None else min(known, here)
    if "name" in found:
        return found["name"][2], found["name"][1]
    parts = [found[part] for part in ("first_name", "last_name") if part in found]
    if not parts:
        return None
    texts = [text for _, _, text in parts]
    is_han = all(_HAN.search(text) for text in texts)
    return ("".join(reversed(texts)) if is_han else " ".join(texts)), parts[0][1]


def find_flag(name: str, value: Any, said_at: datetime) -> str | None:
    """Return what is odd about a trait's value, which is kept as it was sent; ``None``: nothing."""
    if find_standard(name) != "birthday" or not isinstance(value, str):
        return None
    read = _DATE.match(value)
    if read is None:
        return None
    try:
        day = date(*map(int, read.groups()))
    except ValueError:
        return IMPOSSIBLE_DATE
    return IMPOSSIBLE_DATE if day > said_at.date() else None
