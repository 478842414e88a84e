"""The catalogue of traits: which were ever said, of which types, and when."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cdp.model import Event
from cdp.profiles.refused_traits_store import note_refused
from cdp.runtime.logs import get_logger
from cdp.standard_traits import ALIASES, find_standard
from cdp.storage.database import Driver

_log = get_logger(__name__)

MOST_NAMES = 2_000
"""Traits of one identifier. What else is said stays with the events that said it."""
MOST_REGISTERS = 20_000
"""Values within traits, and elements of lists, that are kept of one identifier."""

TYPES = ("text", "number", "boolean", "list", "object")
"""By bit, the lowest first."""

_BITS: dict[type, int] = {str: 1, int: 2, float: 2, bool: 4, list: 8, dict: 16}

# Times are kept to the hour, or each batch would write of each name.
_NOTE = """
INSERT INTO trait_names AS known (name, types, first_seen, last_seen)
SELECT s.name, s.types, s.first_seen, s.last_seen
  FROM unnest(%b::text[], %b::int[], %b::timestamptz[], %b::timestamptz[])
       AS s (name, types, first_seen, last_seen)
 WHERE NOT EXISTS (
       SELECT FROM trait_names k
        WHERE k.name = s.name AND k.types & s.types = s.types AND k.first_seen <= s.first_seen
          AND k.last_seen > s.last_seen - interval '1 hour')
    ON CONFLICT (name) DO UPDATE
   SET types = known.types | excluded.types,
       first_seen = least(known.first_seen, excluded.first_seen),
       last_seen = greatest(known.last_seen, excluded.last_seen)
"""

_FULL = """
SELECT node_id, name, count(*) FROM traits
 WHERE node_id IN (SELECT node_id FROM traits WHERE node_id = ANY(%b::bigint[])
                    GROUP BY node_id HAVING count(*) > %b)
 GROUP BY node_id, name
"""
_REFUSE = """
DELETE FROM traits t
 USING unnest(%b::bigint[], %b::text[], %b::text[]) AS s (node_id, name, part)
 WHERE t.node_id = s.node_id AND t.name = s.name AND t.part = s.part
"""
_LIST = """
SELECT coalesce(k.name, s.name) AS name, coalesce(k.types, 0), s.personal, k.first_seen, k.last_seen
  FROM trait_names k FULL JOIN trait_settings s ON s.name = k.name
"""
_AFTER = """
 WHERE coalesce(k.name, s.name) COLLATE "C" > %s
 ORDER BY coalesce(k.name, s.name) COLLATE "C" LIMIT %s
"""
_SPELLED = """
SELECT name FROM trait_names
 WHERE lower(translate(name, ' _-.', '')) = ANY(%s::text[]) ORDER BY name COLLATE "C"
"""
_NAMED = " WHERE coalesce(k.name, s.name) = %s"


class KnownTrait(NamedTuple):
    """A trait as the catalogue has it; ``personal`` is ``None`` where its name decides."""

    name: str
    types: list[str]
    personal: bool | None
    first_seen: datetime | None
    last_seen: datetime | None


def note_traits(connection: Driver, events: Iterable[Event]) -> None:
    """Let the catalogue know what traits the events named, of which types, and when."""
    seen: dict[str, list[Any]] = {}
    for event in events:
        at = event.at
        for name, value in event.traits.items():
            bit = _BITS.get(type(value), 0)
            known = seen.get(name)
            if known is None:
                seen[name] = [bit, at, at]
                continue
            known[0] |= bit
            if at < known[1]:
                known[1] = at
            elif at > known[2]:
                known[2] = at
    # Sorted, so that two workers lock shared rows in one order.
    rows = sorted(seen.items())
    columns = zip(*((name, *row) for name, row in rows), strict=True)
    connection.execute(_NOTE, [list(column) for column in columns])


New = tuple[int, str, str]
"""Node, trait and part of a register that was not there before."""


def refuse_surplus(connection: Driver, new: Collection[New]) -> None:
    """Take back those of the registers ``new`` that are more than a node may have.

    What was there before stays, so that nobody is changed by what is said too much.
    """
    if not new:
        return
    nodes = sorted({node for node, _, _ in new})
    counts = connection.execute(_FULL, (nodes, MOST_NAMES)).fetchall()
    if not counts:
        return
    surplus = _find_surplus(new, {(node, name): count for node, name, count in counts})
    if surplus:
        columns = [list(column) for column in zip(*surplus, strict=True)]
        connection.execute(_REFUSE, columns)
        note_refused(connection, (node for node, _, _ in surplus))
        _log.warning("traits_refused", registers=len(surplus), most=MOST_NAMES)


def _find_surplus(new: Collection[New], counts: Mapping[tuple[int, str], int]) -> list[New]:
    fresh: dict[int, dict[str, list[New]]] = {}
    for one in sorted(new):
        fresh.setdefault(one[0], {}).setdefault(one[1], []).append(one)
    surplus = []
    for node in {node for node, _ in counts}:
        held = {name: count for (owner, name), count in counts.items() if owner == node}
        added = fresh.get(node, {})
        unknown = [name for name in added if held.get(name) == len(added[name])]
        room = MOST_NAMES - (len(held) - len(unknown))
        refused = set(unknown[max(0, room) :])
        if sum(held.values()) > MOST_REGISTERS:
            refused = set(added)
        surplus += [one for name in sorted(refused) for one in added[name]]
    return surplus


def list_traits(connection: Driver, after: str, limit: int) -> list[KnownTrait]:
    """Return the traits whose names come after ``after``, by name."""
    return [_read_row(*row) for row in connection.execute(_LIST + _AFTER, (after, limit))]


def find_trait(connection: Driver, name: str) -> KnownTrait | None:
    """Return the trait, or ``None`` when nobody said or chose anything of it."""
    row = connection.execute(_LIST + _NAMED, (name,)).fetchone()
    return None if row is None else _read_row(*row)


def _read_row(
    name: str,
    types: int,
    personal: bool | None,
    first_seen: datetime | None,
    last_seen: datetime | None,
) -> KnownTrait:
    words = [word for bit, word in enumerate(TYPES) if types & (1 << bit)]
    return KnownTrait(name, words, personal, first_seen, last_seen)


def list_spellings(connection: Driver, name: str) -> list[str]:
    """Return the names ever said that are the same standard trait as ``name``; of others none.

    ``firstName`` → ``first_name``, ``firstName``, ``名``, as far as people have them.
    """
    standard = find_standard(name)
    if standard is None:
        return []
    return [found for (found,) in connection.execute(_SPELLED, (list(ALIASES[standard]),))]
