"""One spelling for names and addresses, whatever script, order and width they were written in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.suggestions.candidate import build_candidate
from cdp.identity.suggestions.said import plain_name, sort_out
from cdp.identity.suggestions.spelling import cut_grams, fold, read_name, read_street
from cdp.model import Identifier


def whole(*parts: str) -> str:
    name = read_name(*parts)
    assert name is not None
    return name.whole


def sound(*parts: str) -> str:
    name = read_name(*parts)
    assert name is not None
    return name.sound


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann Lee", "LEE, Ann"),
        ("Ann Lee", "  lee   ann "),
        ("José Núñez", "Jose Nunez"),
        ("Mr. Ann Lee", "Ann Lee"),
        ("Ａｎｎ　Ｌｅｅ", "Ann Lee"),
        ("O'Brien Mary", "Mary O’Brien"),
        ("張偉", "张伟"),
        ("王 小明", "王小明"),
        ("王小明先生", "王小明"),
    ],
)
def test_names_written_differently_are_one(one: str, other: str) -> None:
    assert whole(one) == whole(other)


@pytest.mark.parametrize(
    ("han", "latin"),
    [
        ("王小明", "Wang Xiaoming"),
        ("王小明", "Xiaoming Wang"),
        ("王小明", "Wang Xiao-Ming"),
        ("王小明", "WANG Xiao Ming"),
        ("欧阳修", "Ouyang Xiu"),
        ("曾国藩", "Zeng Guofan"),
        ("吕布", "Lu Bu"),
        ("吕布", "Lü Bu"),
    ],
)
def test_a_chinese_name_sounds_like_its_latin_letters(han: str, latin: str) -> None:
    assert sound(han) == sound(latin)


def test_a_chinese_name_comes_apart_into_what_it_sounds_like() -> None:
    name = read_name("欧阳小明")
    assert name is not None
    assert (name.whole, name.family, name.given) == ("欧阳小明", "ouyang", "xiaoming")


def test_names_from_parts_are_those_from_the_whole() -> None:
    assert whole("", "Ann", "Lee") == whole("Ann Lee")
    assert read_name("", "小明", "王") == read_name("王小明")


@pytest.mark.parametrize("text", ["", "  ", "...", "—"])
def test_nothing_is_no_name(text: str) -> None:
    assert read_name(text) is None


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_read_or_is_no_name(full: str, given_name: str, family: str) -> None:
    name = read_name(full, given_name, family)
    assert name is None or (name.whole and name.sound)


@given(st.text(max_size=60))
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_a_line_is_cut_into_neighbours_and_whole_numbers() -> None:
    line = read_street("上海世纪大道１００号")
    assert line is not None
    assert set(cut_grams(line)) == {"上海", "海世", "世纪", "纪大", "大道", "100", "号"}


def test_traits_are_known_by_what_they_mean_whatever_they_are_called() -> None:
    assert plain_name("First_Name") == plain_name("first-name") == "firstname"
    said = sort_out(
        [
            ("firstName", "Ann"), ("last_name", "Lee"), ("date_of_birth", "1990/4/2"),
            ("手机", "13800138000"), ("shipping_address", {"address1": "9 Elm", "zip": "LS1 4AB"}),
            ("plan", "pro"), ("email", None), ("city", ["Leeds"]),
        ],
        [Identifier("email", "a.lee+shop@x.org"), Identifier("user_id", "7")],
        lambda kind, value: f"+86{value}" if kind == "phone" else None,
    )  # fmt: skip
    candidate = build_candidate(1, said)
    assert candidate.name == "ann lee"
    assert candidate.birthday == "19900402"
    assert candidate.phones == ("+8613800138000",)
    assert candidate.phone_tails == ("00138000",)
    assert (candidate.street, candidate.postcode, candidate.city) == ("9 elm", "ls14ab", "leeds")
    assert candidate.emails == ("a.lee+shop@x.org",)
    assert said.show("name") == ["Ann Lee"]


def test_what_an_office_reads_is_nobodys_own_local_part() -> None:
    emails = [Identifier("email", value) for value in ("info@x.org", "ann.lee@x.org")]
    candidate = build_candidate(1, sort_out([], emails, lambda *_: None))
    assert candidate.locals == ("annlee",)
    assert candidate.is_comparable


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["name", "email", "birthday", "address", "city", "phone"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
                ),
                max_leaves=6,
            ),
        ),
        max_size=6,
    )
)
def test_no_trait_is_too_odd_to_be_read(traits: list[tuple[str, object]]) -> None:
    said = sort_out(traits, [], lambda _, value: str(value))
    build_candidate(1, said)
    for field in ("email", "phone", "name", "birthday", "street", "place"):
        assert all(isinstance(text, str) for text in said.show(field))
