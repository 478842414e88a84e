"""The lives of identifiers that go wrong elsewhere, each told once: for the replay and the wire.

A story says what is claimed, and on which day; who is one person in the end; and how many of the
events each person has. The numbers are those of the table in the module's tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cdp.identity.facts import LinkKind
from cdp.identity.identifiers import identify
from cdp.model import Identifier, Observation
from tests.support.identity_world import RULES, Decision, saw


@dataclass(frozen=True)
class Call:
    """One event. ``claims`` are raw: ``type:value``, a number where the value starts with ``#``."""

    claims: tuple[str, ...]
    day: float
    public: bool = False
    again: bool = False
    """Delivered twice, under one message id."""
    previous: str | None = None
    """What an alias says the person was known by."""


@dataclass(frozen=True)
class Scenario:
    """One story and its end."""

    number: int
    title: str
    calls: tuple[Call, ...]
    """In the order of their arrival."""
    people: Mapping[str, int]
    """The identifiers of each person in the end, and how many events are theirs."""
    refused: frozenset[str] = frozenset()
    """The reasons for which joins were withheld."""
    decided: tuple[tuple[LinkKind, str], ...] = ()
    """What a steward decides after all that."""
    undone: bool = False
    """Whether the steward takes it back."""
    part: str = ""
    """Tells stories of one number apart."""
    at_once: bool = False
    """Whether the calls arrive at the same moment, each by itself."""

    def __str__(self) -> str:
        return f"{self.number} {self.title}"

    def claims_of(self, call: Call) -> list[tuple[str, object]]:
        """The claims of a call, with values that no other story has."""
        return [self._claim(text) for text in call.claims]

    def _claim(self, text: str) -> tuple[str, object]:
        kind, _, value = text.partition(":")
        if value.startswith("#"):
            return kind, int(value[1:])
        if kind == "phone":
            return kind, value.replace("NN", f"{self.number:02}")
        if kind == "email":
            return kind, f"{value}{self.number}{self.part}.cn"
        return (
            kind,
            value if value in PLAIN or value.isdigit() else f"{value}-{self.number}{self.part}",
        )

    def name(self, text: str) -> Identifier:
        """The identifier that a claim comes to."""
        return identify([self._claim(text)], RULES)[0]

    def groups(self) -> dict[frozenset[Identifier], int]:
        """``people`` by identifiers."""
        return {
            frozenset(self.name(word) for word in text.split()): events
            for text, events in self.people.items()
        }

    def observe(self) -> Iterator[Observation]:
        """What the worker makes of the calls, each delivery by itself."""
        for number, call in enumerate(self.calls):
            names = identify(self.claims_of(call), RULES)
            one = saw("", call.day, message=f"s{self.number}-{number}", public=call.public)
            seen = Observation(names, one.at, one.message_id, 1, trusted=one.trusted)
            yield seen
            if call.again:
                yield seen

    def decisions(self) -> list[Decision]:
        """What stands of the steward's decisions in the end."""
        if self.undone:
            return []
        last = max(call.day for call in self.calls)
        return [
            (kind, " ".join(str(self.name(word)) for word in text.split()), last + 1 + number)
            for number, (kind, text) in enumerate(self.decided)
        ]


PLAIN = frozenset({"null", "undefined"})
"""Values that programs write for none."""


def call(text: str, day: float, **more: object) -> Call:
    """One event that claims ``"user_id:a anonymous_id:c"``."""
    return Call(tuple(text.split()), day, **more)  # type: ignore[arg-type]


A, B, C, C2, D = "user_id:a", "user_id:b", "anonymous_id:c", "anonymous_id:c2", "device_id:d"
K, E, P = "crm_id:k", "email:e@x", "phone:+86138000NN001"
_UNIQUE, _SHARED = frozenset({"unique_conflict"}), frozenset({"shared_device"})
_DEVICES = [f"anonymous_id:d{number:04}" for number in range(1001)]

SCENARIOS = (
    Scenario(
        1, "an anonymous history becomes the persons at login",
        (call(C, 0, public=True), call(C, 0.1, public=True), call(f"{A} {C}", 1, public=True)),
        {f"{A} {C}": 3},
    ),
    Scenario(
        2, "two users on one device stay two and the device is shared from then on",
        (call(f"{A} {C}", 0, public=True), call(f"{B} {C}", 5, public=True)),
        {A: 1, B: 1, C: 0}, _UNIQUE,
    ),
    Scenario(
        3, "what a shared device does alone is its own from the second login on",
        (call(f"{A} {C}", 0), call(C, 1), call(f"{B} {C}", 5), call(C, 6), call(C, 7)),
        {A: 2, B: 1, C: 2}, _UNIQUE,
    ),
    Scenario(
        4, "a reset separates two users though a second device id survives it",
        (call(f"{A} {C} {D}", 0), call(f"{C2} {D}", 1), call(f"{B} {C2} {D}", 2), call(C2, 3)),
        {f"{A} {C}": 2, f"{B} {C2}": 2, D: 0}, _UNIQUE,
    ),
    Scenario(
        5, "one e-mail on two users stays with the older holder",
        (call(f"{A} {E}", 0), call(f"{B} {E}", 5)),
        {f"{A} {E}": 1, B: 1}, _UNIQUE,
    ),
    Scenario(
        6, "a new e-mail of one user is added to the old one",
        (call(f"{A} email:old@x", 0), call(f"{A} email:new@x", 5)),
        {f"{A} email:old@x email:new@x": 2},
    ),
    Scenario(
        7, "a phone moves to its new owner after 180 silent days and old calls stay",
        (call(f"{A} {P}", 0), call(P, 1), call(f"{B} {P}", 182), call(P, 183)),
        {A: 2, f"{B} {P}": 2},
    ),
    Scenario(
        8, "values that stand for nothing name nobody and a card of six users is nobodys",
        (
            call("user_id:null anonymous_id:p1", 0), call("user_id:null anonymous_id:p2", 0),
            call("user_id:0000 crm_id:undefined anonymous_id:p2", 1),
            *(call(f"user_id:u{n} member_card:m", n) for n in range(6)),
        ),
        {"anonymous_id:p1": 1, "anonymous_id:p2": 2, "member_card:m": 0}
        | {f"user_id:u{n}": 1 for n in range(6)},
        frozenset({"hot_identifier"}),
    ),
    Scenario(
        9, "a late alias joins what lay apart for weeks",
        (call(f"{A} {C}", 0), call(f"{K} {D}", 20), call(f"{A} {K}", 40)),
        {f"{A} {K} {C} {D}": 3},
    ),
    Scenario(
        10, "an alias of two known users is refused",
        (call(f"{A} {C}", 0), call(f"{B} {C2}", 1), call(f"{A} {B}", 2)),
        {f"{A} {C}": 2, f"{B} {C2}": 1}, _UNIQUE,
    ),
    Scenario(
        10, "a merge of two known users by hand is kept as an exception",
        (call(f"{A} {C}", 0), call(f"{B} {C2}", 1)),
        {f"{A} {B} {C} {C2}": 2}, decided=(("exception", f"{A} {B}"),), part="b",
    ),
    Scenario(
        11, "joins of a and b and of b and c at one moment make one person",
        (call(f"{A} {K}", 0), call(f"{K} member_card:m", 0), call(f"member_card:m {C}", 0)),
        {f"{A} {K} member_card:m {C}": 3}, at_once=True,
    ),
    Scenario(
        12, "aliases of a to b and of b to a at one moment make one person",
        (call(f"{C} {C2}", 1, previous="c2"), call(f"{C2} {C}", 1, previous="c")),
        {f"{C} {C2}": 2}, at_once=True,
    ),
    Scenario(
        13, "an identify that arrives before the page view is like one in order",
        (call(f"{A} {C}", 1, public=True), call(C, 0, public=True)),
        {f"{A} {C}": 2},
    ),
    Scenario(
        14, "what is delivered twice counts once",
        (call(C, 0), call(A, 0), call(f"{A} {C}", 1, again=True), call(f"{B} {C}", 2, again=True)),
        {A: 3, B: 1, C: 0}, _UNIQUE,
    ),
    Scenario(
        15, "an alias of a user to itself changes nothing",
        (call(A, 0), call(A, 1, previous="a")),
        {A: 2},
    ),
    Scenario(
        16, "a person who was absorbed twice is found in one hop",
        (
            call("device_id:d3", 2), call("device_id:d2", 1), call("device_id:d1", 0),
            call("device_id:d3 device_id:d2", 3), call("device_id:d2 device_id:d1", 4),
        ),
        {"device_id:d1 device_id:d2 device_id:d3": 5},
    ),
    Scenario(
        17, "one event with the identifiers of three people makes them one",
        (
            call(f"{A} {C}", 0), call(f"{K} {D}", 1), call(E, 2), call(f"{A} {K} {E}", 3),
        ),
        {f"{A} {K} {E} {C} {D}": 4},
    ),
    Scenario(
        18, "of two joined devices the second follows its own user from the login on",
        (call(f"{C} {C2}", 0), call(C2, 1), call(f"{A} {C}", 2), call(f"{B} {C2}", 5), call(C2, 6)),
        {f"{A} {C}": 3, f"{B} {C2}": 2}, _UNIQUE,
    ),
    Scenario(
        19, "contacts are one in any spelling and user ids only in their own",
        (
            call(f"{A} email:Ann@X phone:138000NN001", 0), call(f"{C} email:ann@x", 1),
            call(f"{C2} {P}", 2), call("user_id:USER", 3), call("user_id:user", 4),
        ),
        {f"{A} email:ann@x {P} {C} {C2}": 3, "user_id:USER": 1, "user_id:user": 1},
    ),
    Scenario(
        20, "a user id is the same as a number and as text",
        (call(f"user_id:#2012345 {C}", 0), call(f"user_id:2012345 {C2}", 1)),
        {f"user_id:#2012345 {C} {C2}": 2},
    ),
    Scenario(
        23, "over the limit a device stays alone and its user whole",
        tuple(call(f"{A} {device}", n / 200) for n, device in enumerate(_DEVICES)),
        {" ".join([A, *_DEVICES[:1000]]): 1001, _DEVICES[1000]: 0}, frozenset({"limit"}),
    ),
    Scenario(
        24, "a household with one e-mail is two people",
        (call(f"{A} {E} {C}", 0), call(f"{B} {E} {C2}", 1)),
        {f"{A} {E} {C}": 1, f"{B} {C2}": 1}, _UNIQUE,
    ),
    Scenario(
        25, "a guest who registers is one person",
        (call(f"{E} {C}", 0, public=True), call(f"{A} {E} {C2}", 5, public=True)),
        {f"{A} {E} {C} {C2}": 2},
    ),
    Scenario(
        26, "a guests other e-mail on a known persons device stays apart",
        (call(f"{A} email:tom@x {C}", 0), call(f"email:summer@x {C}", 1), call(C, 2)),
        {f"{A} email:tom@x": 1, "email:summer@x": 1, C: 1}, frozenset({"other_contact"}),
    ),
    Scenario(
        26, "a guests e-mail joins a known person who has none",
        (call(f"{A} {C}", 0), call(f"{E} {C}", 1)),
        {f"{A} {E} {C}": 2}, part="b",
    ),
    Scenario(
        27, "a wrong merge that is undone leaves both as they were",
        (call(f"{A} {C}", 0), call(f"{K} {D}", 1), call(D, 2)),
        {f"{A} {C}": 1, f"{K} {D}": 2}, decided=(("merge", f"{A} {K}"),), undone=True,
    ),
    Scenario(
        28, "a test user in the code of a shop glues nobody",
        tuple(call(f"user_id:abc123 member_card:m{n} {C}{n}", n) for n in range(6)),
        {"user_id:abc123": 6} | {f"member_card:m{n} {C}{n}": 0 for n in range(6)},
        frozenset({"hot_identifier"}),
    ),
)  # fmt: skip
"""21 and 22 are about deletion, which is not a matter of the replay."""
