"""Which value of a trait counts. Pure.

What is said comes apart into parts (``cdp.trait_parts``). Each node keeps one register for each
part of a trait and source; a person's traits are what the registers of all their nodes amount to
(``cdp.trait_value``).
The join of registers is a maximum, for ``$set_once`` a minimum, so neither order nor grouping nor
repetition matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cdp.trait_parts import ONCE, list_parts
from cdp.trait_value import fold

Stamp = tuple[int, datetime, str, int]
"""What decides which of two counts: rank of the source, event time, message id, source."""


class Register(NamedTuple):
    """What one message said of one part of a trait; ``value`` ``None`` removes it."""

    name: str
    value: Any
    at: datetime
    message_id: str
    source_number: int
    part: str = ""
    rank: int = 0
    """Of its source: what a higher one says counts, whatever the time."""

    @property
    def stamp(self) -> Stamp:
        """What decides between two: rank, then event time, then message id, then source."""
        return self.rank, self.at, self.message_id, self.source_number

    @property
    def earliest(self) -> Stamp:
        """What decides between two of ``$set_once``: the least counts."""
        return -self.rank, self.at, self.message_id, self.source_number


class Trait(NamedTuple):
    """What a trait amounts to, and the registers that had a part in it, the newest last."""

    newest: Register
    """With the value of the whole trait."""
    said: Sequence[Register]


Key = tuple[str, str, int]


def take_apart(said: Register) -> Iterable[Register]:
    """Give the registers of what one message said of a whole trait."""
    for part, value in list_parts(said.value):
        yield said._replace(value=value, part=part)


def join_registers(
    registers: Iterable[Register], at: datetime | None = None
) -> dict[Key, Register]:
    """Return the register that survives of each trait, part and source, as of ``at``.

    Removals are among them. ``None``: any time; what was said later than ``at`` does not count.
    """
    kept: dict[Key, Register] = {}
    for register in registers:
        if at is not None and register.at > at:
            continue
        key = (register.name, register.part, register.source_number)
        known = kept.get(key)
        if known is None or _outlives(register, known):
            kept[key] = register
    return kept


def _outlives(one: Register, other: Register) -> bool:
    if one.part == ONCE:
        return one.earliest < other.earliest
    return one.stamp > other.stamp


def join_traits(registers: Iterable[Register], at: datetime | None = None) -> dict[str, Register]:
    """Return the traits that a person has as of ``at``, by name in order, without removed ones.

    Each has the value of the whole, and who said the newest part of it.
    """
    return {name: trait.newest for name, trait in fold_traits(registers, at).items()}


def fold_traits(registers: Iterable[Register], at: datetime | None = None) -> dict[str, Trait]:
    """Return the same with all that had a part in each."""
    by_name: dict[str, list[Register]] = {}
    for register in registers:
        if at is None or register.at <= at:
            by_name.setdefault(register.name, []).append(register)
    traits = {}
    for name in sorted(by_name):
        value, said = fold(by_name[name])
        if value is not None:
            traits[name] = Trait(said[-1]._replace(value=value), said)
    return traits


def list_history(registers: Iterable[Register], at: datetime) -> list[Register]:
    """Return everything said until ``at``, by trait, the newest first; ``None`` is a removal."""
    said = [register for register in registers if register.at <= at]
    said.sort(key=lambda register: register.stamp[1:], reverse=True)
    return sorted(said, key=lambda register: register.name)
