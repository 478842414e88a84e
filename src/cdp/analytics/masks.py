"""SQL that hides personal values, for tokens without ``pii:read``. Pure.

The same values as in ``cdp.access.masking``: by the key they stand under, and e-mail addresses
wherever they stand. Where a nested value cannot be told apart surely, more is hidden, never less.
"""

from __future__ import annotations

from cdp.access.masking import MASK, PERSONAL_IDENTIFIERS
from cdp.analytics.quote import quote_text

# Keys are compared without case and separators; ``cdp.access.masking.is_personal`` is the measure.
_NAMES = (
    "name", "firstname", "lastname", "middlename", "fullname", "givenname", "familyname",
    "nickname", "realname", "surname", "username", "displayname",
)  # fmt: skip
_OTHERS = ("birthday", "birthdate", "birth", "dateofbirth", "dob")
_ENDINGS = ("email", "emailaddress", "phone", "phonenumber", "mobile", "mobilenumber", "address")

_GAP = r"[^0-9A-Za-z.\"\\]*"
_EDGE = r"[^\s@/?&=<>\"',;:\\]"
# A backslash and what follows belong together, or what is left would not be JSON any more.
_EMAIL = rf"(?:\\.|{_EDGE})+(?:@|%40){_EDGE}+\.{_EDGE}+"
_EMAIL_ALONE = r"[^\s@]+@[^\s@]+\.[^\s@]+"
_PHONE_ALONE = r"(?:\S*::)?\+\d{8,15}"

_TEXT = r'"(?:[^"\\]|\\.)*"'
_DEPTH = 5


def _spell(words: tuple[str, ...]) -> str:
    return "|".join(_GAP.join(word) for word in words)


def _key(exact: tuple[str, ...]) -> str:
    return rf"(?:{_GAP}(?:{_spell(exact)}){_GAP}|[^\"\\]*(?:{_spell(_ENDINGS)}){_GAP})"


def _nested_value() -> str:
    """A JSON object or list without spaces, nested up to ``_DEPTH`` deep."""
    inner = f'(?:[^{{}}\\[\\]"]|{_TEXT})*'
    for _ in range(_DEPTH):
        inner = rf'(?:[^{{}}\[\]"]|{_TEXT}|\{{{inner}\}}|\[{inner}\])*'
    return rf"\{{{inner}\}}|\[{inner}\]"


_ALL_KEYS = _key(_NAMES + _OTHERS)
# The name of a page or a screen is not a person's.
_PLACE_KEYS = _key(_NAMES[1:] + _OTHERS)


def is_personal(name: str) -> str:
    """SQL that tells whether the trait or property in ``name`` (SQL) is personal."""
    step = rf"(?:^|.*\.)(?:{_ALL_KEYS})(?:\..*)?"
    return f"regexp_full_match({name}, {quote_text(step)}, 'is')"


def mask_text(text: str) -> str:
    """SQL for the first character of ``text`` (SQL) and stars; of one character the stars."""
    return f"CASE WHEN length({text}) > 1 THEN left({text}, 1) ELSE '' END || '{MASK}'"


def mask_emails(text: str) -> str:
    """SQL for ``text`` (SQL) with every e-mail address in it hidden."""
    return f"regexp_replace({text}, {quote_text(_EMAIL)}, '{MASK}', 'g')"


def mask_identifier(kind: str, value: str) -> str:
    """SQL for an identifier's value: hidden when it is, or looks like, an e-mail or a phone."""
    alone = quote_text(f"{_EMAIL_ALONE}|{_PHONE_ALONE}")
    personal = ", ".join(quote_text(one) for one in sorted(PERSONAL_IDENTIFIERS))
    return (
        f"CASE WHEN {kind} IN ({personal}) OR regexp_full_match({value}, {alone})"
        f" THEN {mask_text(value)} ELSE {value} END"
    )


def mask_document(document: str, is_place: str = "false") -> str:
    """SQL for a JSON ``document`` (SQL) without personal values; ``is_place`` (SQL) tells pages.

    What is nested too deep to be matched makes the whole document vanish.
    """
    # Minified and with plain keys, so that a key written with escapes is found too.
    plain = f"CAST(json({document}) AS VARCHAR)"
    hidden = (
        f"CASE WHEN {is_place} THEN {_replace(plain, _PLACE_KEYS)}"
        f" ELSE {_replace(plain, _ALL_KEYS)} END"
    )
    masked = mask_emails(hidden)
    left_over = quote_text(rf'"(?:{_PLACE_KEYS})":[\[{{]')
    return (
        f"CASE WHEN regexp_matches({masked}, {left_over}, 'is') THEN '{{}}'::JSON"
        f" ELSE TRY_CAST({masked} AS JSON) END"
    )


def _replace(text: str, keys: str) -> str:
    value = rf"{_TEXT}|-?[0-9][0-9.eE+-]*|{_nested_value()}"
    pattern = quote_text(rf'("(?:{keys})":)(?:{value})')
    return f"regexp_replace({text}, {pattern}, '\\1\"{MASK}\"', 'gis')"


def mask_value(name: str, value: str) -> str:
    """SQL for the JSON ``value`` (SQL) of the trait or property in ``name`` (SQL)."""
    plain = f"({value} ->> '$')"
    return f"""CASE WHEN {is_personal(name)} THEN
        CASE json_type({value}) WHEN 'BOOLEAN' THEN {value} WHEN 'NULL' THEN {value}
             WHEN 'VARCHAR' THEN to_json({mask_text(plain)}) ELSE '"{MASK}"'::JSON END
        ELSE {mask_document(value)} END"""
