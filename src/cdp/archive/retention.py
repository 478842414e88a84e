"""How long events are kept: rules, and up to when they let events go. Pure.

Every rule that matches an event counts, so the shortest time wins. The age of an event is that of
what happened, not of its receipt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

ANY = ""


class Rule(NamedTuple):
    """Events of a source and a name are kept for ``days``; ``None`` is any."""

    source_id: str | None
    event: str | None
    """The name of a track call, or ``page`` or ``screen`` for those calls."""
    days: int


class Cutoff(NamedTuple):
    """Events of a source and a name that happened before are let go; ``ANY``: of any name."""

    source_number: int
    event: str
    before: datetime


def list_cutoffs(rules: Iterable[Rule], sources: Mapping[str, int], now: datetime) -> list[Cutoff]:
    """Return up to when ``rules`` let go of events; ``sources`` are the numbers by id."""
    found: dict[tuple[int, str], datetime] = {}
    for rule in rules:
        before = now - timedelta(days=rule.days)
        for source_id, number in sources.items():
            if rule.source_id not in (None, source_id):
                continue
            key = (number, rule.event or ANY)
            found[key] = max(before, found.get(key, before))
    return [Cutoff(*key, before) for key, before in sorted(found.items())]
