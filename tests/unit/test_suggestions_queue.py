"""What becomes of the queue, as a decision: proposals, what is kept, what people said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.identity.suggestions.model import DIFFERENT, FIELDS, Learned, assume_probability, take_in
from cdp.identity.suggestions.plan_queue import (
    Kept,
    Proposal,
    Status,
    list_proofs,
    plan_queue,
    settle,
    speaks_anew,
)

KEY = b"key"
NOBODY: frozenset[tuple[int, int]] = frozenset()


def propose(a: int, b: int, *proofs: str, score: float = 0.9) -> Proposal:
    return Proposal((a, b), score, frozenset(proofs or ("name=6",)))


def keep(
    number: int,
    people: tuple[int, int] | None,
    status: Status = "open",
    *proofs: str,
    score: float = 0.9,
) -> Kept:
    return Kept(number, people, status, score, frozenset(proofs or ("name=6",)))


def test_new_pairs_are_added_known_ones_renewed_and_vanished_ones_retired() -> None:
    plan = plan_queue([propose(1, 2), propose(3, 4)], [keep(10, (1, 2)), keep(11, (5, 6))], NOBODY)
    assert [one.people for one in plan.add] == [(3, 4)]
    assert list(plan.renew) == [10]
    assert plan.retire == [11]


def test_a_rejected_pair_stays_away_until_something_new_speaks_for_it() -> None:
    kept = [keep(10, (1, 2), "rejected", "name=5", "birthday=2")]
    for weaker in (("name=5",), ("name=4", "birthday=2"), ("birthday=1",)):
        plan = plan_queue([propose(1, 2, *weaker)], kept, NOBODY)
        assert (plan.add, plan.renew) == ([], {})
    for stronger in (("name=6",), ("name=5", "street=1"), ("name=5", "abc")):
        assert list(plan_queue([propose(1, 2, *stronger)], kept, NOBODY).renew) == [10]


def test_of_two_rejections_of_the_same_people_each_binds() -> None:
    kept = [keep(10, (1, 2), "rejected", "name=1"), keep(11, (1, 2), "rejected", "name=6")]
    plan = plan_queue([propose(1, 2, "name=6")], kept, NOBODY)
    assert (plan.add, plan.renew) == ([], {})


def test_who_was_parted_by_hand_is_no_proposal() -> None:
    plan = plan_queue([propose(1, 2)], [keep(10, (1, 2))], frozenset({(1, 2)}))
    assert (plan.add, plan.renew, plan.retire) == ([], {}, [10])


def test_a_stale_suggestion_comes_back_under_its_number() -> None:
    assert list(plan_queue([propose(1, 2)], [keep(10, (1, 2), "stale")], NOBODY).renew) == [10]


def test_of_several_open_ones_about_the_same_two_one_is_renewed() -> None:
    plan = plan_queue([propose(1, 2)], [keep(10, (1, 2)), keep(11, (1, 2))], NOBODY)
    assert (list(plan.renew), plan.retire) == ([10], [11])


def test_a_decision_makes_idle_what_it_answers() -> None:
    kept = [
        keep(10, None),
        keep(11, (1, 2), score=0.7),
        keep(12, (1, 2), score=0.8),
        keep(13, (3, 4)),
        keep(14, (3, 4), "rejected"),
        keep(15, (5, 6), "open", "name=6"),
        keep(16, (5, 6), "rejected", "name=2"),
    ]
    assert sorted(settle(kept)) == [10, 11, 13]


def test_shared_contacts_are_proofs_that_nobody_can_read() -> None:
    proofs = list_proofs({"email": 2, "name": 0}, ["ann@x.org"], KEY)
    assert "email=2" in proofs
    assert not any("ann" in proof or proof.startswith("name") for proof in proofs)
    assert proofs == list_proofs({"email": 2}, ["ann@x.org"], KEY)
    assert proofs != list_proofs({"email": 2}, ["ann@x.org"], b"another")


ranks = st.dictionaries(st.sampled_from([field.name for field in FIELDS]), st.integers(0, 6))
contacts = st.sets(st.sampled_from("abc"))


@given(ranks, contacts, ranks, contacts)
def test_nothing_new_is_in_what_was_known(
    some: dict[str, int], shared: set[str], more: dict[str, int], others: set[str]
) -> None:
    known = list_proofs(some, shared, KEY)
    assert not speaks_anew(known, known)
    assert not speaks_anew(list_proofs({}, (), KEY), known)
    both = {f: max(some.get(f, 0), more.get(f, 0)) for f in {*some, *more}}
    together = list_proofs(both, shared | others, KEY)
    assert not speaks_anew(known, together)
    grew = not others <= shared or any(rank > some.get(f, 0) for f, rank in more.items())
    assert speaks_anew(together, known) == grew


def test_each_field_weighs_likeness_for_and_difference_against() -> None:
    for field in FIELDS:
        weights = [level.m / level.u for level in field.levels]
        assert weights[0] > 100
        assert field.m_different < field.u_different
        total = sum(level.m for level in field.levels) + field.m_different
        assert abs(total - 1) < 0.01
        assert field.name_level(0) == DIFFERENT
        assert field.name_level(len(field.levels)) == field.levels[0].name


def test_what_was_learned_is_taken_in_only_where_it_makes_sense() -> None:
    field = FIELDS[0]
    sensible = take_in(field, {"same": Learned(0.8, 0.001), DIFFERENT: Learned(0.1, None)})
    assert (sensible.levels[0].m, sensible.levels[0].u) == (0.8, 0.001)
    assert sensible.m_different == 0.1
    assert sensible.levels[1] == field.levels[1]
    assert take_in(field, {"same": Learned(0.01, 0.5)}) == field
    assert take_in(field, {DIFFERENT: Learned(0.9999, 0.2)}) == field


def test_a_match_is_assumed_to_be_rare_among_few_and_rarer_among_many() -> None:
    assert assume_probability(2) == assume_probability(1000) == 0.0001
    assert assume_probability(1_000_000) == pytest.approx(1e-7)
