"""What is said of a person, sorted by what it means, whatever the traits are called. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cdp.model import Identifier

Normalise = Callable[[str, object], str | None]
"""From an identifier's type and a raw value to its one spelling; ``None``: it names nobody."""

# Traits by what they say, under their name without case, spaces, ``_``, ``-`` and ``.``.
_MEANINGS = {
    "whole_name": ("name", "fullname", "realname", "displayname", "姓名", "名字"),
    "given_name": ("firstname", "givenname", "forename", "given", "名"),
    "family_name": ("lastname", "familyname", "surname", "family", "姓"),
    "email": ("email", "emailaddress", "mail", "邮箱", "电子邮箱", "电子邮件"),
    "phone": (
        "phone", "phonenumber", "mobile", "mobilenumber", "mobilephone", "tel", "telephone", "cell",
        "手机", "手机号", "手机号码", "电话", "电话号码",
    ),
    "birthday": ("birthday", "birthdate", "dateofbirth", "dob", "birth", "生日", "出生日期"),
    "address": (
        "address", "shippingaddress", "billingaddress", "homeaddress", "fulladdress",
        "地址", "收货地址", "家庭地址",
    ),
    "street": (
        "street", "streetaddress", "address1", "address2", "addressline1", "addressline2", "line1",
        "line2", "street1", "street2", "街道",
    ),
    "city": ("city", "town", "suburb", "locality", "城市"),
    "postcode": ("postcode", "postalcode", "zip", "zipcode", "邮编", "邮政编码"),
}  # fmt: skip
_MEANING_OF = {name: meaning for meaning, names in _MEANINGS.items() for name in names}
TRAIT_NAMES = tuple(sorted(_MEANING_OF))
"""The plain names of traits that are compared; see ``plain_name``."""
PLAIN = r"[\s_.\-]+"
"""What is left out of a trait's name to make it plain."""

_MOST_VALUES = 20


@dataclass(frozen=True, slots=True)
class Said:
    """Raw values by meaning, and contacts in their one spelling."""

    values: Mapping[str, list[Any]]
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()

    def texts(self, meaning: str) -> list[str]:
        """Return the values of a meaning that are text or whole numbers, as text."""
        return _list_texts(self.values, meaning)

    def first(self, meaning: str) -> str:
        """Return the first of them, or empty text."""
        texts = self.texts(meaning)
        return texts[0] if texts else ""

    def line(self, meaning: str) -> str:
        """Return all of them in one line."""
        return " ".join(self.texts(meaning))

    def show(self, field: str) -> list[str]:
        """Return what a person would be shown of a field that people are compared by."""
        if field == "email":
            return list(self.emails)
        if field == "phone":
            return list(self.phones)
        if field == "name":
            return [name for name in (self.first("whole_name") or self._join_name(),) if name]
        if field == "place":
            return [*self.texts("postcode"), *self.texts("city")]
        return [text for text in (self.line(field),) if text]

    def _join_name(self) -> str:
        given, family = self.first("given_name"), self.first("family_name")
        # East Asian names are written together, the family's first.
        is_eastern = bool(given and family) and min(given[0], family[0]) >= "\u2e80"
        return f"{family}{given}" if is_eastern else f"{given} {family}".strip()


def plain_name(name: str) -> str:
    """Return a trait's name without case and punctuation: ``First_Name`` is ``firstname``."""
    return re.sub(PLAIN, "", name).lower()


def sort_out(
    traits: Iterable[tuple[str, Any]], identifiers: Iterable[Identifier], normalise: Normalise
) -> Said:
    """Sort a person's traits (name, raw value) and identifiers (normalised) by what they mean."""
    values = _sort_traits(traits)
    owned = list(identifiers)
    return Said(
        values,
        _list_contacts("email", values, owned, normalise),
        _list_contacts("phone", values, owned, normalise),
    )


def _sort_traits(traits: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """Put values under what they mean; an address may be an object or a line."""
    said: dict[str, list[Any]] = {}
    for name, value in traits:
        meaning = _MEANING_OF.get(plain_name(name))
        if meaning == "address":
            _read_address(value, said)
        elif meaning is not None:
            said.setdefault(meaning, []).extend(value if isinstance(value, list) else [value])
    return said


def _read_address(value: Any, said: dict[str, list[Any]]) -> None:
    if isinstance(value, str):
        said.setdefault("street", []).append(value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            meaning = _MEANING_OF.get(plain_name(str(name)))
            if meaning in ("address", "street", "city", "postcode"):
                said.setdefault("street" if meaning == "address" else meaning, []).append(inner)
    elif isinstance(value, list) and value:
        _read_address(value[0], said)


def _list_texts(said: Mapping[str, list[Any]], meaning: str) -> list[str]:
    values = said.get(meaning, ())
    return [
        str(value)
        for value in values
        if isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    ]


def _list_contacts(
    kind: str,
    said: Mapping[str, list[Any]],
    identifiers: Iterable[Identifier],
    normalise: Normalise,
) -> tuple[str, ...]:
    found = {one.value for one in identifiers if one.type == kind}
    for raw in _list_texts(said, kind):
        spelt = normalise(kind, raw)
        if spelt is not None:
            found.add(spelt)
    return tuple(sorted(found)[:_MOST_VALUES])
