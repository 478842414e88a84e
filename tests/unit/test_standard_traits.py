"""Traits under their usual names, and who said which part of one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cdp.profiles.trait_sources import list_sources
from cdp.profiles.traits import Register, fold_traits, take_apart
from cdp.standard_traits import find_display_name, find_flag, find_standard


def _at(hour: int) -> datetime:
    return datetime(2026, 3, 1, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sent", "standard"),
    [("firstName", "first_name"), ("first_name", "first_name"), ("firstname", "first_name"),
     ("Last Name", "last_name"), ("jobTitle", "title"), ("生日", "birthday"), ("plan", None),
     ("company_name", "company"), ("🐼", None)],
)  # fmt: skip
def test_a_trait_is_known_by_its_usual_names(sent: str, standard: str | None) -> None:
    assert find_standard(sent) == standard


@pytest.mark.parametrize(
    ("traits", "shown"),
    [
        ({"name": "安妮", "firstName": "Ann"}, ("安妮", "name")),
        ({"lastName": "Lee", "firstName": "Ann"}, ("Ann Lee", "firstName")),
        ({"姓": "李", "名": "安"}, ("李安", "名")),
        ({"last_name": "Lee", "first_name": "  "}, ("Lee", "last_name")),
        ({"fullName": "A", "name": "B"}, ("B", "name")),
        ({"name": 7, "plan": "pro"}, None),
    ],
)
def test_a_name_is_put_together_where_only_parts_were_said(
    traits: dict[str, Any], shown: tuple[str, str] | None
) -> None:
    assert find_display_name(traits) == shown


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("birthday", "1900-02-29", "impossible_date"),
        ("dateOfBirth", "2027-01-01", "impossible_date"),
        ("birthday", "2000-02-29", None),
        ("birthday", "spring", None),
        ("birthday", 19000229, None),
        ("plan", "1900-02-29", None),
    ],
)
def test_an_impossible_birthday_is_flagged(name: str, value: Any, flag: str | None) -> None:
    assert find_flag(name, value, _at(8)) == flag


def _fold(*said: tuple[Any, int, int]) -> list[tuple[str, Any, int]]:
    registers = [
        part
        for value, hour, source in said
        for part in take_apart(Register("t", value, _at(hour), f"m{hour}", source))
    ]
    sources = list_sources(fold_traits(registers)["t"])
    return [(path, value, register.source_number) for path, value, register in sources]


def test_each_path_has_its_own_source() -> None:
    found = _fold(
        ({"city": "上海", "geo": {"lat": 1}}, 1, 1), ({"zip": "2"}, 2, 2), ({"city": "杭州"}, 3, 3)
    )
    assert sorted(found) == [("t.city", "杭州", 3), ("t.geo.lat", 1, 1), ("t.zip", "2", 2)]


def test_each_added_element_has_its_own_source() -> None:
    assert _fold(({"$add": ["a"]}, 1, 1), ({"$add": ["b"]}, 2, 2)) == [("t", "a", 1), ("t", "b", 2)]


def test_a_trait_said_as_a_whole_has_no_parts() -> None:
    assert _fold(({"city": "上海"}, 1, 1), ("pro", 2, 2)) == []
