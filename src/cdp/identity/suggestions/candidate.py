"""What of a person is compared: contacts, name, birthday, address, each in one spelling. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from cdp.identity.suggestions.said import Said
from cdp.identity.suggestions.spelling import cut_grams, fold, read_name, read_street

_DATE = re.compile(r"^(\d{4})\s*[-/.年]?\s*(\d{1,2})\s*[-/.月]?\s*(\d{1,2})")
# Local parts that a whole office reads.
_OFFICES = frozenset(
    {
        "info", "admin", "office", "sales", "contact", "support", "service", "hello", "mail",
        "kontakt", "shop", "order", "orders", "noreply", "no-reply", "postmaster", "webmaster",
        "test",
    }
)  # fmt: skip
_SHORTEST_LOCAL = 5
_TAIL = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """One person as they are compared. ``None`` and empty lists are unknown."""

    person: int
    """The number of the profile."""
    name: str | None = None
    family: str | None = None
    given: str | None = None
    letters: str | None = None
    sound: str | None = None
    emails: tuple[str, ...] = ()
    locals: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    phone_tails: tuple[str, ...] = ()
    birthday: str | None = None
    """``YYYYMMDD``."""
    street: str | None = None
    grams: tuple[str, ...] = ()
    city: str | None = None
    postcode: str | None = None

    @property
    def is_comparable(self) -> bool:
        """Whether there is enough to tell this person from others."""
        known = sum(
            1
            for part in (self.name, self.birthday, self.street or self.city or self.postcode)
            if part
        )
        return bool(self.emails or self.phones) or known > 1


COLUMNS = tuple(one.name for one in fields(Candidate))
LIST_COLUMNS = frozenset({"emails", "locals", "phones", "phone_tails", "grams"})


def build_candidate(
    person: int,
    said: Said,
) -> Candidate:
    """Make of what is said of a person what is compared; what cannot be read is left out."""
    name = read_name(*(said.first(part) for part in ("whole_name", "given_name", "family_name")))
    street = read_street(said.line("street"))
    return Candidate(
        person,
        name.whole if name else None,
        (name.family or None) if name else None,
        (name.given or None) if name else None,
        name.letters if name else None,
        name.sound if name else None,
        said.emails,
        _list_locals(said.emails),
        said.phones,
        tuple(sorted({phone[-_TAIL:] for phone in said.phones if len(phone) > _TAIL})),
        _read_birthday(said.first("birthday")),
        street,
        cut_grams(street) if street else (),
        read_street(said.first("city")),
        _read_postcode(said.first("postcode")),
    )


def _list_locals(emails: Iterable[str]) -> tuple[str, ...]:
    """Return local parts that may be somebody's own, without tags and dots: people vary them."""
    found = set()
    for email in emails:
        local = fold(email.partition("@")[0].partition("+")[0]).replace(".", "").replace("_", "")
        if len(local) >= _SHORTEST_LOCAL and local not in _OFFICES:
            found.add(local)
    return tuple(sorted(found))


def _read_birthday(text: str) -> str | None:
    match = _DATE.match(text.strip())
    if match is None:
        return None
    year, month, day = (int(part) for part in match.groups())
    # A day that does not exist is still what was typed, and typed twice it is the same.
    return f"{year:04}{month:02}{day:02}" if year > 0 else None


def _read_postcode(text: str) -> str | None:
    return re.sub(r"[\W_]+", "", fold(text)) or None
