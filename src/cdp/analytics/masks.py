"""SQL that hides personal values, for tokens without ``pii:read``. Pure.

The same values as in ``cdp.access.masking``: by the key they stand under, and e-mail addresses
wherever they stand. Where a nested value cannot be told apart surely, more is hidden, never less.
``chosen`` is what somebody chose of single names, otherwise than the names say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from cdp.access.masking import MASK, PERSONAL_IDENTIFIERS
from cdp.analytics.quote import quote_text

# Keys are compared without case and separators; ``cdp.access.masking.is_personal`` is the measure.
_NAMES = (
    "name", "firstname", "lastname", "middlename", "fullname", "givenname", "familyname",
    "nickname", "realname", "surname", "username", "displayname",
)  # fmt: skip
_OTHERS = ("birthday", "birthdate", "birth", "dateofbirth", "dob")
_HAN_NAMES = (
    "姓名", "真实姓名", "名字", "姓", "名", "姓氏", "昵称", "生日", "出生日期", "手机号",
    "手机号码",
)  # fmt: skip
_HAN_ENDINGS = ("邮箱", "电子邮件", "手机", "电话", "地址")
_ENDINGS = ("email", "emailaddress", "phone", "phonenumber", "mobile", "mobilenumber", "address")

_GAP = r"[^0-9A-Za-z.\"\\]*"
_HAN_GAP = r"[^\p{L}\p{N}.\"\\]*"
_EDGE = r"[^\s@/?&=<>\"',;:\\]"
# A backslash and what follows belong together, or what is left would not be JSON any more.
_EMAIL = rf"(?:\\.|{_EDGE})+(?:@|%40){_EDGE}+\.{_EDGE}+"
_EMAIL_ALONE = r"[^\s@]+@[^\s@]+\.[^\s@]+"
_PHONE_ALONE = r"(?:\S*::)?\+\d{8,15}"

_TEXT = r'"(?:[^"\\]|\\.)*"'
_DEPTH = 5


def _spell(words: tuple[str, ...], gap: str = _GAP) -> str:
    return "|".join(gap.join(word) for word in words)


def _key(exact: tuple[str, ...]) -> str:
    return (
        rf"(?:{_GAP}(?:{_spell(exact)}){_GAP}|[^\"\\]*(?:{_spell(_ENDINGS)}){_GAP}"
        rf"|{_HAN_GAP}(?:{_spell(_HAN_NAMES, _HAN_GAP)}){_HAN_GAP}"
        rf"|[^\"\\]*(?:{_spell(_HAN_ENDINGS, _HAN_GAP)}){_HAN_GAP})"
    )


def _nested_value() -> str:
    """A JSON object or list without spaces, nested up to ``_DEPTH`` deep."""
    inner = f'(?:[^{{}}\\[\\]"]|{_TEXT})*'
    for _ in range(_DEPTH):
        inner = rf'(?:[^{{}}\[\]"]|{_TEXT}|\{{{inner}\}}|\[{inner}\])*'
    return rf"\{{{inner}\}}|\[{inner}\]"


_ALL_KEYS = _key(_NAMES + _OTHERS)
# The name of a page or a screen is not a person's.
_PLACE_KEYS = _key(_NAMES[1:] + _OTHERS)


Choices = Mapping[str, bool]
_NOTHING: Choices = {}


def is_personal(name: str, chosen: Choices = _NOTHING) -> str:
    """SQL that tells whether the trait or property in ``name`` (SQL) is personal."""
    if not chosen:
        step = rf"(?:^|.*\.)(?:{_ALL_KEYS})(?:\..*)?"
        return f"regexp_full_match({name}, {quote_text(step)}, 'is')"
    by_name = f"regexp_full_match(step, {quote_text(_ALL_KEYS)}, 'is')"
    by_step = (
        f"len(list_filter(string_split({name}, '.'),"
        f" lambda step: {_decide('step', chosen, by_name)})) > 0"
    )
    return _decide(name, chosen, by_step)


def _decide(name: str, chosen: Choices, otherwise: str) -> str:
    cases = [
        f"WHEN {name} IN ({', '.join(map(quote_text, names))}) THEN {verdict}"
        for verdict, names in (("true", _pick(chosen, True)), ("false", _pick(chosen, False)))
        if names
    ]
    return f"(CASE {' '.join(cases)} ELSE {otherwise} END)"


def _pick(chosen: Choices, personal: bool) -> list[str]:
    return sorted(name for name, verdict in chosen.items() if verdict is personal)


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


_SHIELD = "~shown"
"""Ends a key that is not to be hidden while others are."""


def mask_document(document: str, is_place: str = "false", chosen: Choices = _NOTHING) -> str:
    """SQL for a JSON ``document`` (SQL) without personal values; ``is_place`` (SQL) tells pages.

    What is nested too deep to be matched makes the whole document vanish.
    """
    hidden_names = _pick(chosen, True)
    shown_names = _spell_exactly(_pick(chosen, False))
    all_keys = _add_keys(_ALL_KEYS, hidden_names)
    place_keys = _add_keys(_PLACE_KEYS, [name for name in hidden_names if name != "name"])
    # Minified and with plain keys, so that a key written with escapes is found too.
    plain = f"CAST(json({document}) AS VARCHAR)"
    if shown_names:
        plain = _rename(plain, rf'"({shown_names})":', rf'"\1{_SHIELD}":')
    hidden = (
        f"CASE WHEN {is_place} THEN {_replace(plain, place_keys)}"
        f" ELSE {_replace(plain, all_keys)} END"
    )
    masked = mask_emails(hidden)
    left_over = quote_text(rf'"(?:{place_keys})":[\[{{]')
    shown = masked
    if shown_names:
        shown = _rename(masked, rf'"({shown_names}){_SHIELD}":', r'"\1":')
    return (
        f"CASE WHEN regexp_matches({masked}, {left_over}, 'is') THEN '{{}}'::JSON"
        f" ELSE TRY_CAST({shown} AS JSON) END"
    )


def _add_keys(keys: str, names: list[str]) -> str:
    return rf"{keys}|(?-i:{_spell_exactly(names)})" if names else keys


def _spell_exactly(names: Iterable[str]) -> str:
    """Return a pattern for just these keys, as JSON writes them."""
    return "|".join(re.escape(json.dumps(name, ensure_ascii=False)[1:-1]) for name in names)


def _rename(text: str, pattern: str, replacement: str) -> str:
    return f"regexp_replace({text}, {quote_text(pattern)}, {quote_text(replacement)}, 'g')"


def _replace(text: str, keys: str) -> str:
    value = rf"{_TEXT}|-?[0-9][0-9.eE+-]*|{_nested_value()}"
    pattern = quote_text(rf'("(?:{keys})":)(?:{value})')
    return f"regexp_replace({text}, {pattern}, '\\1\"{MASK}\"', 'gis')"


def mask_value(name: str, value: str, chosen: Choices = _NOTHING) -> str:
    """SQL for the JSON ``value`` (SQL) of the trait or property in ``name`` (SQL)."""
    plain = f"({value} ->> '$')"
    return f"""CASE WHEN {is_personal(name, chosen)} THEN
        CASE json_type({value}) WHEN 'BOOLEAN' THEN {value} WHEN 'NULL' THEN {value}
             WHEN 'VARCHAR' THEN to_json({mask_text(plain)}) ELSE '"{MASK}"'::JSON END
        ELSE {mask_document(value, chosen=chosen)} END"""
