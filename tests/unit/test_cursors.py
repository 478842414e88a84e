"""Cursors come back as they were given, and from nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cdp.errors import Unprocessable
from cdp.runtime.cursors import cut_page, decode_cursor, encode_cursor


def test_a_cursor_holds_what_was_put_in() -> None:
    place = (datetime(2026, 3, 1, 8, tzinfo=UTC), 7, "上海 +/=")
    assert decode_cursor(encode_cursor(place), tuple[datetime, int, str]) == place


@pytest.mark.parametrize("text", ["", "bogus", "é", encode_cursor(("x",)), encode_cursor((1, 2))])
def test_what_is_no_cursor_is_refused_where_it_was_given(text: str) -> None:
    with pytest.raises(Unprocessable) as refusal:
        decode_cursor(text, tuple[str, int], "since")
    assert (refusal.value.code, refusal.value.details["path"]) == ("bad_cursor", "/since")


@pytest.mark.parametrize("found", [[], [1, 2]])
def test_a_list_ends_where_nothing_more_was_found(found: list[int]) -> None:
    assert cut_page(found, 2, lambda one: (one,)) == (found, None)


def test_a_page_goes_on_behind_its_last_row() -> None:
    page, following = cut_page([1, 2, 3], 2, lambda one: (one,))
    assert page == [1, 2]
    assert following is not None
    assert decode_cursor(following, tuple[int]) == (2,)
