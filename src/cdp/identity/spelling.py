"""The one spelling of an identifier's value, by what its type's rule says of it. Pure.

Only contacts are converted: people and keyboards write one e-mail or number in many ways. All
other values are names that a program made, where ``USER-1`` and ``user-1`` may be two people.
What merely looks alike (a Cyrillic letter in a Latin address) stays another value.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import phonenumbers

from cdp.identity.rules import Normalisation

# A Chinese keyboard writes these in place of their ASCII twins.
_FULL_WIDTH = {0xFF01 + n: 0x21 + n for n in range(94)} | {0x3000: 0x20}
_IDEOGRAPHIC_STOPS = str.maketrans("\u3002\uff61", "..")
_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+$")
_CHINESE_MOBILE = re.compile(r"^1[3-9][0-9]{9}$")
_CHINESE_MOBILE_E164 = re.compile(r"^\+861[3-9][0-9]{9}$")
_EXTENSION = re.compile(r"\s*(?:\u8f6c|\u8f49|\u5206\u673a|\u5206\u6a5f)\s*")
"""How Chinese callers say that an extension follows."""
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


def read_text(value: object) -> str | None:
    """Return the text of a value as it was sent, made fit for a database.

    A whole number is its digits; what is neither that nor text is no identifier.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else None
    if not isinstance(value, str):
        return None
    if not value.isascii():
        # A lone surrogate cannot be written as UTF-8.
        value = value.encode("utf-8", "replace").decode("utf-8")
    return value.replace("\0", "\ufffd")


def spell(text: str, normalisation: Normalisation, country: str) -> str | None:
    """Return the one spelling of ``text``; ``None`` when it is nothing of the kind.

    ``country`` is that of phone numbers without a code: two letters of ISO 3166.
    """
    if normalisation == "none":
        return text if text.strip() else None
    text = text.strip()
    match normalisation:
        case "email":
            return _spell_email(text)
        case "phone":
            return spell_phone(text, country)
        case "sha256":
            text = text.lower()
            return text if _SHA256.match(text) else None
        case "lower":
            return text.lower() or None
        case "upper":
            return text.upper() or None
        case _:
            return text or None


def _spell_email(text: str) -> str | None:
    if not text.isascii():
        text = _drop_marks(unicodedata.normalize("NFC", text.translate(_FULL_WIDTH))).strip()
        local, at, domain = text.rpartition("@")
        text = f"{local}{at}{domain.translate(_IDEOGRAPHIC_STOPS)}"
    text = text.lower().removeprefix("mailto:")
    return text if _EMAIL.match(text) else None


def spell_phone(text: str, country: str) -> str | None:
    """Return E.164 by the numbering plans of ``phonenumbers``, with ``;ext=`` for an extension.

    Behind one number of a company several people have extensions.
    """
    if _CHINESE_MOBILE_E164.match(text):
        return text
    if country == "CN" and _CHINESE_MOBILE.match(text):
        return f"+86{text}"
    return _parse_phone(text, country)


@lru_cache(maxsize=100_000)
def _parse_phone(text: str, country: str) -> str | None:
    text = _EXTENSION.sub(" ext. ", _drop_marks(text)).strip()
    try:
        number = phonenumbers.parse(text.removeprefix("tel:"), country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    spelt = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return f"{spelt};ext={number.extension}" if number.extension else spelt


def _drop_marks(text: str) -> str:
    """Leave out what cannot be seen: address books put marks of direction around numbers."""
    if text.isascii():
        return text
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
