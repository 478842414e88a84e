"""Which value of a trait counts. Pure.

Each node keeps a last-writer register per trait; a person's traits are the join of their nodes'
registers. The join is a maximum, so neither order nor grouping nor repetition matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple


class Register(NamedTuple):
    """What one message said of one trait; ``value`` ``None`` removes it."""

    name: str
    value: Any
    at: datetime
    message_id: str
    source_number: int

    @property
    def stamp(self) -> tuple[datetime, str, int]:
        """What decides between two: event time, then message id, then source."""
        return self.at, self.message_id, self.source_number


def join_registers(
    registers: Iterable[Register], at: datetime | None = None
) -> dict[str, Register]:
    """Return the newest register of each trait, removals included, as of ``at`` (None: any time).

    What was said later than ``at`` does not count.
    """
    newest: dict[str, Register] = {}
    for register in registers:
        if at is not None and register.at > at:
            continue
        known = newest.get(register.name)
        if known is None or register.stamp > known.stamp:
            newest[register.name] = register
    return newest


def join_traits(registers: Iterable[Register], at: datetime | None = None) -> dict[str, Register]:
    """Return the traits that a person has as of ``at``, by name in order, without removed ones."""
    joined = join_registers(registers, at)
    return {name: joined[name] for name in sorted(joined) if joined[name].value is not None}


def list_history(registers: Iterable[Register], at: datetime) -> list[Register]:
    """Return everything said until ``at``, by trait, the newest first; ``None`` is a removal."""
    said = [register for register in registers if register.at <= at]
    said.sort(key=lambda register: register.stamp, reverse=True)
    return sorted(said, key=lambda register: register.name)
