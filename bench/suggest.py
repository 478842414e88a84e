"""Suggestions of people who may be one: how well on FEBRL4, and how long among many.

Quality is no ratio of speeds: the figure is F1 itself, over all pairs that would be suggested, on
FEBRL4 without social numbers (10,000 records, 5,000 true pairs, each record like any other: the
search is not told that originals and copies are two lists). The many are made up, Chinese and
Latin, one in twenty a second time with mistakes.
"""

from __future__ import annotations

import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.ratios import compare
from cdp.identity.suggestions.candidate import Candidate, build_candidate
from cdp.identity.suggestions.match_engine import Matcher, Pair
from cdp.identity.suggestions.said import sort_out
from cdp.model import Identifier
from tests.support.febrl import judge, load_people

QUICK_PEOPLE, FULL_PEOPLE = 20_000, 1_000_000
MEMORY = "1GB"
_TWICE = 0.05

_FAMILIES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董"
_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀英华文玉兰建国志刚海燕雪梅小宁晨宇浩然子轩欣怡"
_CITIES = ("上海", "北京", "广州", "深圳", "成都", "杭州", "武汉", "西安", "南京", "重庆")
_ROADS = ("世纪大道", "人民路", "中山路", "解放路", "建设路", "长江路", "和平街", "新华路")


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    rows = [_measure_febrl()]
    rows += _measure_many(QUICK_PEOPLE if quick else FULL_PEOPLE)
    return rows


def _measure_febrl() -> dict[str, Any]:
    people, truth = load_people()
    pairs, seconds, _ = _search(iter(people))
    quality = judge(((pair.a, pair.b) for pair in pairs), truth)
    return compare(
        "suggest",
        "F1 on FEBRL4 without social numbers",
        [quality.f1],
        at_least=0.99,
        precision=quality.precision,
        recall=quality.recall,
        seconds=seconds,
    )


def _measure_many(people: int) -> list[dict[str, Any]]:
    truth: set[tuple[int, int]] = set()
    pairs, seconds, model = _search(_make_up(people, truth))
    quality = judge(((pair.a, pair.b) for pair in pairs), truth)
    extra = {
        "seconds": seconds,
        "people_per_second": people / seconds,
        "most_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "precision": quality.precision,
        "recall": quality.recall,
        "model": model,
    }
    name = f"F1 among {people:,} made-up people, {seconds:.0f} s"
    return [compare("suggest", name, [quality.f1], at_least=0.90, **extra)]


def _search(people: Iterator[Candidate]) -> tuple[list[Pair], float, str]:
    with tempfile.TemporaryDirectory() as folder:
        matcher = Matcher(Path(folder) / "search", memory=MEMORY, threads=2)
        started = time.perf_counter()
        matcher.add(people)
        pairs = list(matcher.find())
        seconds = time.perf_counter() - started
        matcher.close()
    return pairs, seconds, matcher.model


def _make_up(people: int, truth: set[tuple[int, int]]) -> Iterator[Candidate]:
    """Give ``people`` candidates; put the pairs that are one person into ``truth``."""
    dice = random.Random(7)
    number = 0
    while number < people:
        number += 1
        person = _draw(dice)
        yield _build(number, person)
        if dice.random() < _TWICE and number < people:
            number += 1
            truth.add((number - 1, number))
            yield _build(number, _damage(dice, person))


def _draw(dice: random.Random) -> dict[str, Any]:
    name = dice.choice(_FAMILIES) + "".join(dice.choices(_GIVEN, k=dice.choice((1, 2, 2))))
    year, month, day = dice.randint(1950, 2006), dice.randint(1, 12), dice.randint(1, 28)
    person: dict[str, Any] = {
        "name": name,
        "birthday": f"{year}-{month:02}-{day:02}" if dice.random() < 0.6 else None,
        "city": dice.choice(_CITIES),
        "street": f"{dice.choice(_ROADS)}{dice.randint(1, 999)}号{dice.randint(1, 60)}室",
        "phone": f"+861{dice.randint(3_000_000_000, 9_999_999_999)}",
        "email": f"{dice.getrandbits(40):x}@{dice.choice(('qq.com', '163.com', 'gmail.com'))}",
    }
    for field, known in (("street", 0.5), ("phone", 0.6), ("email", 0.5)):
        if dice.random() > known:
            person[field] = None
    return person


def _damage(dice: random.Random, person: dict[str, Any]) -> dict[str, Any]:
    """The same person as another system knows them: some fields missing, others other."""
    copy = dict(person)
    for field in ("birthday", "street", "phone", "email"):
        if dice.random() < 0.3:
            copy[field] = None
    if dice.random() < 0.2:
        copy["city"] = dice.choice(_CITIES)
    if copy["email"] and dice.random() < 0.3:
        copy["email"] = copy["email"].replace("@", "@mail.")
    return copy


def _build(number: int, person: dict[str, Any]) -> Candidate:
    contacts = [Identifier(kind, person[kind]) for kind in ("phone", "email") if person[kind]]
    traits = [(name, person[name]) for name in ("name", "birthday", "city", "street")]
    return build_candidate(number, sort_out(traits, contacts, lambda *_: None))
