"""How two people are compared: fields, their levels of likeness, and what each level weighs. Pure.

The model is that of Fellegi and Sunter (1969): a level's *m* is how often a person's two records
are so alike, its *u* how often two strangers are; log2(m/u) is its weight in bits. The numbers here
hold where there are too few people to learn them from; else they are where learning starts.
"""

from __future__ import annotations

from typing import NamedTuple

DIFFERENT = "different"
"""The level below all others."""


class Level(NamedTuple):
    """One degree of likeness. ``condition`` is DuckDB SQL over ``…_l`` and ``…_r``."""

    name: str
    condition: str
    m: float
    u: float
    counted: str | None = None
    """The column whose value weighs less the more people share it."""


class Field(NamedTuple):
    """Something that people are compared by; its levels from the most alike down."""

    name: str
    unknown: str
    """When nothing can be said."""
    levels: tuple[Level, ...]
    m_different: float
    u_different: float

    def name_level(self, rank: int) -> str:
        """Return the name of a level by its rank: 0 is different, the greatest most alike."""
        return DIFFERENT if rank == 0 else self.levels[len(self.levels) - rank].name


def _shares(column: str) -> str:
    return f"list_has_any({column}_l, {column}_r)"


def _jaro(column: str, least: float) -> str:
    return f"jaro_winkler_similarity({column}_l, {column}_r) >= {least}"


def _alike(one: str, other: str) -> str:
    """Equal, or long enough to be a slip: ``li`` and ``liu`` are two families."""
    return (
        f"({one} = {other} OR (least(length({one}), length({other})) >= 3"
        f" AND jaro_winkler_similarity({one}, {other}) >= 0.9))"
    )


# Of all pairs of neighbouring characters of both lines, how many they share (Dice). The characters
# alone are thirty times cheaper to compare, and tell most lines apart.
_SHARE = (
    "jaccard(street_l, street_r) >= 0.55"
    " AND 2.0 * len(list_intersect(grams_l, grams_r)) / (len(grams_l) + len(grams_r))"
)
# Likewise: two digits differ before two neighbours are found exchanged.
_ONE_APART = (
    "(hamming(birthday_l, birthday_r) <= 2 AND damerau_levenshtein(birthday_l, birthday_r) <= 1)"
)
_TURNED = (
    "(left(birthday_l, 4) = left(birthday_r, 4) AND substr(birthday_l, 5, 2) = right(birthday_r, 2)"
    " AND right(birthday_l, 2) = substr(birthday_r, 5, 2))"
)
_SAME_GIVEN = "given_l = given_r OR given_l = family_r OR family_l = given_r"
_NO_NAME = "name_l IS NULL OR name_r IS NULL"

FIELDS: tuple[Field, ...] = (
    Field(
        "email",
        "len(emails_l) = 0 OR len(emails_r) = 0",
        (
            Level("same", _shares("emails"), 0.55, 0.000002),
            Level("same_local_part", _shares("locals"), 0.15, 0.0001),
        ),
        0.30,
        0.9998,
    ),
    Field(
        "phone",
        "len(phones_l) = 0 OR len(phones_r) = 0",
        (
            Level("same", _shares("phones"), 0.60, 0.000002),
            Level("same_ending", _shares("phone_tails"), 0.05, 0.000004),
        ),
        0.35,
        0.9999,
    ),
    Field(
        "name",
        _NO_NAME,
        (
            Level("same", "name_l = name_r", 0.70, 0.0003, "name"),
            Level("same_sound", "sound_l = sound_r", 0.06, 0.0002),
            Level(
                "similar",
                f"({_alike('family_l', 'family_r')} AND {_alike('given_l', 'given_r')})"
                f" OR ({_alike('family_l', 'given_r')} AND {_alike('given_l', 'family_r')})",
                0.11,
                0.0003,
            ),
            Level("similar_whole", _jaro("letters", 0.9), 0.04, 0.0015),
            Level("same_given", _SAME_GIVEN, 0.03, 0.006),
            Level("same_family", "family_l = family_r", 0.03, 0.02),
        ),
        0.03,
        0.97,
    ),
    Field(
        "birthday",
        "birthday_l IS NULL OR birthday_r IS NULL",
        (
            Level("same", "birthday_l = birthday_r", 0.90, 0.00005, "birthday"),
            Level("one_digit_or_turned", f"{_ONE_APART} OR {_TURNED}", 0.06, 0.001),
        ),
        0.04,
        0.999,
    ),
    Field(
        "street",
        "street_l IS NULL OR street_r IS NULL",
        (
            Level("same", "street_l = street_r", 0.45, 0.00005),
            Level("alike", f"{_SHARE} >= 0.8", 0.12, 0.0005),
            Level("partly_alike", f"{_SHARE} >= 0.55", 0.08, 0.01),
        ),
        0.35,
        0.99,
    ),
    Field(
        "place",
        "(city_l IS NULL OR city_r IS NULL) AND (postcode_l IS NULL OR postcode_r IS NULL)",
        (
            Level("same_postcode", "postcode_l = postcode_r", 0.55, 0.002, "postcode"),
            Level("same_city", f"city_l = city_r OR {_jaro('city', 0.9)}", 0.25, 0.05),
        ),
        0.20,
        0.948,
    ),
)  # fmt: skip
FIELD_NAMES = tuple(field.name for field in FIELDS)

SHARED_CONTACT = 5
"""People who may give one e-mail address or number; what more give is an office's."""
CROWD = 50
"""People under one key; a key of more brings together whom it does not tell apart."""
KEYS = {
    "key_sound": "sound",
    "key_birthday": "birthday",
    "key_family_postcode": "family || '|' || postcode",
    "key_given_postcode": "given || '|' || postcode",
    "key_initials_city": "left(letters, 3) || left(given, 3) || '|' || city",
    "key_sound_city": "sound || '|' || city",
    "key_sound_year": "sound || '|' || left(birthday, 4)",
    "key_birthday_initial": "birthday || '|' || left(letters, 1)",
    "key_street": "street",
    "key_street_postcode": "left(street, 8) || '|' || postcode",
    "key_house_city": "regexp_extract(street, '^\\d+') || '|' || city",
}
"""Who is compared with whom: all that share one of these keys, in DuckDB SQL."""
LIST_KEYS = ("emails", "locals", "phone_tails")
"""Or any element of one of these lists."""
CERTAIN = (
    ("name", "birthday", "city"),
    ("name", "birthday", "postcode"),
    ("name", "birthday", "street"),
    ("name", "emails"),
    ("name", "phones"),
)
"""Columns that two strangers hardly ever share all of: the start of every estimate."""
CERTAIN_SHARE = 0.6
"""How many of all true pairs share one of these, roughly."""

MIN_SCORE = 0.5
"""Pairs that are less likely are no suggestion."""

_SMALLEST, _LARGEST = 1e-8, 0.9999
_LEAST_BITS = 2.0


def assume_probability(people: int) -> float:
    """Return how likely two random people are one when nothing was learned.

    As if one in twenty had a second record, and never more than among a thousand.
    """
    return 0.1 / max(people, 1000)


class Learned(NamedTuple):
    """What was learned of a level; ``None``: it was not seen."""

    m: float | None
    u: float | None


def take_in(field: Field, learned: dict[str, Learned]) -> Field:
    """Return a field with what was learned of its levels, as far as it makes sense.

    Where likeness would speak against two people being one, or unlikeness for it, the field keeps
    what it had: it was learned from too few.
    """
    levels = tuple(
        level._replace(m=_choose(told.m, level.m), u=_choose(told.u, level.u))
        for level in field.levels
        for told in (learned.get(level.name, Learned(None, None)),)
    )
    different = learned.get(DIFFERENT, Learned(None, None))
    taken = field._replace(
        levels=levels,
        m_different=_choose(different.m, field.m_different),
        u_different=_choose(different.u, field.u_different),
    )
    best = taken.levels[0]
    is_sensible = best.m / best.u >= 2**_LEAST_BITS and taken.m_different < taken.u_different
    return taken if is_sensible else field


def _choose(told: float | None, known: float) -> float:
    return known if told is None else min(max(told, _SMALLEST), _LARGEST)
