"""Names and addresses in one spelling, whatever script and order they were written in. Pure."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

import opencc
from pypinyin.constants import PINYIN_DICT, Style
from pypinyin.style import convert as _convert_style

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")
_MARKS = re.compile(r"['’`´.·•]")
_NOT_WORD = re.compile(r"[\W_]+")
_TITLES = frozenset({"mr", "mrs", "ms", "miss", "dr", "prof", "sir", "herr", "frau"})
_CHINESE_TITLES = re.compile(r"(先生|女士|小姐|老师|同学)$")

# The surnames of two characters that are borne today.
_COMPOUND_SURNAMES = (
    " 欧阳 司马 上官 诸葛 东方 皇甫 尉迟 公孙 令狐 慕容 宇文 长孙 司徒 夏侯 轩辕 端木 独孤 南宫 "
    " 西门 闻人 赫连 呼延 申屠 太史 淳于 单于 澹台 公冶 宗政 濮阳 钟离 鲜于 闾丘 司空 亓官 仲孙 "
    " 百里 东郭 微生 梁丘 左丘 第五 "
)
# Surnames that are read otherwise than the character is elsewhere.
_SURNAME_READINGS = {
    "单": "shan", "曾": "zeng", "仇": "qiu", "解": "xie", "查": "zha", "盖": "ge", "朴": "piao",
    "区": "ou", "缪": "miao", "任": "ren", "华": "hua", "尉迟": "yuchi", "翟": "zhai", "覃": "qin",
    "乐": "yue", "员": "yun", "种": "chong", "折": "she", "黑": "he", "秘": "bi", "召": "shao",
    "澹台": "tantai", "长孙": "zhangsun", "冼": "xian", "哈": "ha", "那": "na", "隗": "wei",
    "石": "shi", "重": "chong", "沈": "shen", "教": "jiao", "能": "nai", "万": "wan", "俞": "yu",
}  # fmt: skip

# Letters whose accent Unicode does not take off.
_BARRED = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "æ": "ae", "œ": "oe"})
_LONGEST_SOUND = 100
_to_simplified = opencc.OpenCC("t2s")


class Name(NamedTuple):
    """A person's name, spelt for comparison. Empty parts are unknown."""

    whole: str
    """The same whatever the order of its words."""
    family: str
    given: str
    """Both in Latin letters as far as the script can be read: characters are pinyin."""
    letters: str
    """Family name, then given."""
    sound: str
    """The letters as every order of the words has them."""


def fold(text: str) -> str:
    """Return ``text`` in lower case, without accents, in simplified and narrow characters."""
    text = unicodedata.normalize("NFKC", text).casefold()
    if not text.isascii():
        if _HAN.search(text):
            text = str(_to_simplified.convert(text))
        parts = unicodedata.normalize("NFKD", text.translate(_BARRED))
        text = "".join(part for part in parts if not unicodedata.combining(part))
        # Hangul and others come apart when accents are taken off.
        text = unicodedata.normalize("NFC", text).casefold()
    return text.strip()


def read_name(full: str = "", given: str = "", family: str = "") -> Name | None:
    """Read a name from its parts, or from the whole; ``None`` when there is none in it.

    ``Lee, Ann``, ``Ann Lee`` and ``ANN  LEE`` are one; so are ``王小明``, ``王 小明`` and ``Wang
    Xiaoming`` by their sound.
    """
    if given and family:
        is_han = bool(_HAN.search(given) and _HAN.search(family))
        return (
            _read_han(fold(family), fold(given)) if is_han else _join(_words(family), _words(given))
        )
    text = full or given or family
    folded = fold(text)
    han = "".join(_HAN.findall(folded))
    if len(han) > 1 or (han and han == folded):
        han = _CHINESE_TITLES.sub("", han) or han
        return _read_han(*_split_han(han))
    if "," in folded:
        last, _, first = folded.partition(",")
        return _join(_words(last), _words(first))
    words = _words(folded)
    if not words:
        return None
    return _join(words[-1:], words[:-1]) if len(words) > 1 else _join([], words)


def _words(text: str) -> list[str]:
    text = _MARKS.sub("", fold(text)).replace("-", "")
    words = [word for word in _NOT_WORD.split(text) if word]
    return [word for word in words if word not in _TITLES] or words


def _join(family: list[str], given: list[str]) -> Name | None:
    words = [*family, *given]
    if not words:
        return None
    letters = "".join(words)
    return Name(
        " ".join(sorted(words)), " ".join(family), " ".join(given), letters, _sound(letters)
    )


def _sound(letters: str) -> str:
    """Return the smallest of all turns of ``letters``.

    Which word is the family's is a guess, and so is where words end: Wang Xiaoming, Xiaoming Wang
    and Wang Xiao Ming are turns of each other. ü is v in pinyin that is typed, u in a passport.
    """
    letters = letters.replace("v", "u")[:_LONGEST_SOUND]
    return min(letters[turn:] + letters[:turn] for turn in range(len(letters)))


def _split_han(han: str) -> tuple[str, str]:
    if len(han) > 2 and f" {han[:2]} " in _COMPOUND_SURNAMES:
        return han[:2], han[2:]
    if len(han) > 4:
        # Not the form of a Chinese name: nobody can say where the family name ends.
        return "", han
    return (han[:1], han[1:]) if len(han) > 1 else ("", han)


def _read_han(family: str, given: str) -> Name | None:
    family, given = ("".join(_HAN.findall(part)) for part in (family, given))
    if not family and not given:
        return None
    family_letters = _SURNAME_READINGS.get(family) or sound_out(family)
    given_letters = sound_out(given)
    letters = family_letters + given_letters
    return Name(family + given, family_letters, given_letters, letters, _sound(letters))


def sound_out(han: str) -> str:
    """Return the pinyin of Chinese characters without tones, written together."""
    return "".join(map(_read_character, han))


@lru_cache(maxsize=30_000)
def _read_character(character: str) -> str:
    readings = PINYIN_DICT.get(ord(character))
    if not readings:
        return character
    return (
        fold(str(_convert_style(readings.split(",")[0], style=Style.NORMAL, strict=False)))
        or character
    )


def read_street(text: str) -> str | None:
    """Return an address line folded, its numbers and words in order, or ``None``."""
    words = [word for word in _NOT_WORD.split(_MARKS.sub("", fold(text))) if word]
    return " ".join(words) or None


def cut_grams(text: str) -> tuple[str, ...]:
    """Return the parts by which two lines are compared: pairs of neighbouring characters.

    Numbers stay whole: 12 and 21 are two houses.
    """
    grams: set[str] = set()
    for word in re.findall(r"\d+|[^\d\s]+", text):
        if word.isdigit() or len(word) == 1:
            grams.add(word)
        else:
            grams.update(word[i : i + 2] for i in range(len(word) - 1))
    return tuple(sorted(grams))
