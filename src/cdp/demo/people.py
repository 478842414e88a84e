"""The demo's people: who they are and how they behave, drawn from a seeded generator. Pure."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import TypeVar

from cdp.demo.names import (
    CITIES,
    FAMILY_NAMES,
    GIVEN_NAMES,
    MAIL_HOSTS,
    MOBILE_PREFIXES,
    WESTERN_FIRST_NAMES,
    WESTERN_LAST_NAMES,
)

_T = TypeVar("_T")
_IDS = string.ascii_letters + string.digits
# Numbers of one seed's people do not run into those of the next seed's.
_SEED_STRIDE = 1_000_000


@dataclass(frozen=True, slots=True)
class Person:
    """One customer. Identifiers that they do not have are ``None``."""

    number: int
    user_id: str
    name: str
    email: str | None
    phone: str | None
    city: str
    birthday: date
    browsers: tuple[str, ...]
    """Anonymous ids, one per browser they use."""
    app_device: str | None
    union_id: str | None
    open_id: str | None
    member_card: str | None
    crm_id: str | None
    consents_to_marketing: bool
    liveliness: float
    """Sessions per 30 days."""
    buys: float
    """Share of sessions that end in an order."""


def seeded(seed: int, *path: object) -> Random:
    """Return a generator of its own for one thing, so that people do not depend on each other."""
    return Random("/".join(["cdp-demo", str(seed), *map(str, path)]))


def make_person(seed: int, index: int) -> Person:
    """Return person ``index`` of ``seed``: always the same one."""
    draw = seeded(seed, "person", index)
    number = seed * _SEED_STRIDE + index
    name, latin = _draw_name(draw)
    uses_app = draw.random() < 0.45
    uses_wechat = draw.random() < 0.6
    is_member = draw.random() < 0.5
    return Person(
        number=number,
        user_id=f"u{number}",
        name=name,
        email=f"{latin}{number}@{pick(draw, MAIL_HOSTS)}" if draw.random() < 0.85 else None,
        phone=_draw_phone(draw, number) if draw.random() < 0.8 else None,
        city=_draw_city(draw),
        birthday=date(1955, 1, 1) + timedelta(days=draw.randrange(365 * 52)),
        browsers=tuple(_draw_uuid(draw) for _ in range(1 + (draw.random() < 0.35))),
        app_device=_draw_uuid(draw).upper() if uses_app else None,
        union_id=f"o6_bm{_draw_text(draw, 23)}" if uses_wechat else None,
        open_id=f"oUpF8{_draw_text(draw, 23)}" if uses_wechat else None,
        member_card=f"{8_600_000_000 + number}" if is_member else None,
        crm_id=f"C{number:08d}" if is_member or draw.random() < 0.3 else None,
        consents_to_marketing=draw.random() < 0.65,
        liveliness=min(12.0, draw.lognormvariate(0.2, 0.8)),
        buys=min(0.8, draw.betavariate(1.6, 5.0)),
    )


def pick(draw: Random, choices: Sequence[_T]) -> _T:
    """Return one of ``choices``, all equally likely."""
    return choices[draw.randrange(len(choices))]


def _draw_name(draw: Random) -> tuple[str, str]:
    """A name, and its Latin letters for an e-mail address."""
    if draw.random() < 0.75:
        family, family_latin = pick(draw, FAMILY_NAMES)
        given, given_latin = pick(draw, GIVEN_NAMES)
        return family + given, f"{given_latin}.{family_latin}"
    first = pick(draw, WESTERN_FIRST_NAMES)
    last = pick(draw, WESTERN_LAST_NAMES)
    plain = "".join(letter for letter in f"{first}.{last}".lower() if letter in _IDS + ".")
    return f"{first} {last}", plain


def _draw_phone(draw: Random, number: int) -> str:
    # 7919 is prime to 10^8: different numbers give different phones.
    return f"+86{pick(draw, MOBILE_PREFIXES)}{number * 7919 % 10**8:08d}"


def _draw_city(draw: Random) -> str:
    ticket = draw.randrange(sum(weight for _, weight in CITIES))
    for city, weight in CITIES:
        ticket -= weight
        if ticket < 0:
            return city
    raise AssertionError("the weights add up to the range drawn from")


def _draw_text(draw: Random, length: int) -> str:
    return "".join(pick(draw, _IDS) for _ in range(length))


def _draw_uuid(draw: Random) -> str:
    digits = f"{draw.getrandbits(128):032x}"
    # Version 4, as browsers make them (RFC 9562, section 5.4).
    digits = f"{digits[:12]}4{digits[13:16]}a{digits[17:]}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
