"""How well duplicates are found: FEBRL4 without social numbers, the whole of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdp.identity.suggestions.match_engine import Interrupted, Matcher
from tests.support.febrl import judge, load_people


def test_of_febrl4_ninety_nine_percent_are_found_and_hardly_anybody_else(tmp_path: Path) -> None:
    people, truth = load_people()
    matcher = Matcher(tmp_path / "search", memory="512MB", threads=2)
    matcher.add(people)
    quality = judge(((pair.a, pair.b) for pair in matcher.find()), truth)
    matcher.close()
    assert (matcher.people, len(truth), matcher.model) == (10_000, 5_000, "trained")
    assert quality.f1 >= 0.99
    assert quality.precision >= 0.995
    assert not (tmp_path / "search").exists()


def test_a_few_people_are_told_apart_without_learning(tmp_path: Path) -> None:
    people, truth = load_people(400)
    matcher = Matcher(tmp_path / "search", memory="256MB", threads=2)
    matcher.add(people)
    quality = judge(((pair.a, pair.b) for pair in matcher.find()), truth)
    matcher.close()
    assert matcher.model == "priors"
    assert quality.f1 >= 0.99


def test_a_comparison_that_is_ended_gives_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    people, _ = load_people(1200)
    matcher = Matcher(tmp_path / "search", memory="256MB", threads=2)
    matcher.add(people)
    with pytest.raises(Interrupted):
        list(matcher.find(lambda _: matcher.interrupt()))
    matcher.close()
    assert not (tmp_path / "search").exists()
