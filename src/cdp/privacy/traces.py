"""How a person is recognised in bytes that know no people: refused lines, log records, files. Pure.

By the values of their identifiers, however they are spelled there (case, JSON escapes, separators
in phone numbers), and by the ids of their messages. Short values, such as the number 42, say
something only where an identifier stands.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from cdp.model import Identifier

_DISTINCT_LENGTH = 8
_PHONE_DIGITS = 9
"""The last digits of a number: with or without the code of the country."""
_SEPARATED = re.compile(r"\+?\d[\d\s().\-/]{6,}\d")
_RUN = re.compile(r"[^\W_]+")
_NOT_DIGITS = re.compile(r"\D")
_IDENTIFIER_KEYS = ("id", "value", "email", "phone", "code", "card", "number")


class Traces:
    """What to look for; ``are_in`` says whether some bytes hold any of it."""

    def __init__(self, names: Iterable[Identifier], messages: Iterable[str] = ()) -> None:
        """``names`` are normalised identifiers; ``messages`` are ids of messages."""
        values = {name.value.lower() for name in names}
        self._phones = {
            digits[-_PHONE_DIGITS:]
            for name in names
            if name.type == "phone"
            for digits in [_NOT_DIGITS.sub("", name.value)]
            if len(digits) >= _PHONE_DIGITS
        }
        distinct = {value for value in values if _is_distinct(value)}
        distinct |= {one.lower() for one in messages if _is_distinct(one)}
        self._short = values - distinct
        self._texts = values | distinct
        self._distinct = _Words(distinct)

    @property
    def are_any(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._distinct or self._short or self._phones)

    def list_texts(self) -> list[str]:
        """Return texts of which one stands wherever a trace is, spelled as it usually is."""
        return sorted({*self._texts, *self._phones})

    @property
    def are_short(self) -> bool:
        """Whether some are so short that only a document's structure tells what they are."""
        return bool(self._short)

    def are_in(self, raw: bytes) -> bool:
        """Whether ``raw`` (JSON, a row of a file, anything) holds a trace."""
        text = raw.decode("utf-8", "replace")
        document: Any = None
        if "\\" in text or self._short:
            document = _read_json(text)
        if document is not None and "\\" in text:
            text = json.dumps(document, ensure_ascii=False)
        text = text.lower()
        if self._distinct.are_in(text):
            return True
        if self._phones and self._has_phone(text):
            return True
        return bool(self._short) and self._has_short(text, document)

    def _has_phone(self, text: str) -> bool:
        return any(
            _NOT_DIGITS.sub("", found)[-_PHONE_DIGITS:] in self._phones
            for found in _SEPARATED.findall(text)
        )

    def _has_short(self, text: str, document: Any) -> bool:
        if not any(value in text for value in self._short):
            return False
        if document is None:
            # A row of a file: one of its cells.
            return any(cell.strip(" \"'") in self._short for cell in re.split(r"[,;\t|\r\n]", text))
        return any(
            str(leaf).strip().lower() in self._short
            for key, leaf in _walk("", document)
            if key.lower().endswith(_IDENTIFIER_KEYS)
        )


def _is_distinct(value: str) -> bool:
    return len(value) >= _DISTINCT_LENGTH or "@" in value


class _Words:
    """Texts that are found as words of their own, in the time that one of them would take.

    Each is looked up by its rarest run of letters and digits, of which a line has few: thousands of
    people are looked for at once.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._by_run: dict[str, list[tuple[int, str]]] = {}
        self._others: list[str] = []
        runs_of = {text: list(_RUN.finditer(text)) for text in texts}
        common = Counter(run[0] for runs in runs_of.values() for run in runs)
        for text, runs in runs_of.items():
            if runs:
                run = min(runs, key=lambda one: common[one[0]])
                self._by_run.setdefault(run[0], []).append((run.start(), text))
            else:
                self._others.append(text)

    def __bool__(self) -> bool:
        return bool(self._by_run or self._others)

    def are_in(self, text: str) -> bool:
        """Whether any stands in ``text`` with nothing but separators around it."""
        if self._by_run:
            for run in _RUN.finditer(text):
                for offset, word in self._by_run.get(run[0], ()):
                    start = run.start() - offset
                    if start >= 0 and text.startswith(word, start) and _is_apart(text, start, word):
                        return True
        return any(word in text for word in self._others)


def _is_apart(text: str, start: int, word: str) -> bool:
    """Whether neither a letter nor a digit stands right before or after a word."""
    end = start + len(word)
    return not _RUN.match(text[start - 1 : start]) and not _RUN.match(text[end : end + 1])


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _walk(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Give every leaf with the key that it stands under; a list's elements stand under its key."""
    stack = [(key, value)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack.extend(value.items())
        elif isinstance(value, list):
            stack.extend((key, one) for one in value)
        elif isinstance(value, str | int) and not isinstance(value, bool):
            yield key, value
