"""Whom an identifier means to privacy: the person, and what is theirs alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cdp.model import Identifier
from cdp.storage.database import Driver

PROFILE_ID = "id"


class Slice(NamedTuple):
    """A time in which an identifier that others use too was this person's; ``None`` is open."""

    node_id: int
    since: datetime | None
    until: datetime | None


@dataclass(slots=True)
class Person:
    """One person with the identifiers that lead to nobody else."""

    profile_no: int
    profile_id: str
    nodes: dict[int, Identifier] = field(default_factory=dict)
    """Theirs for all time."""
    profile_ids: list[str] = field(default_factory=list)
    """Every profile id that any of these nodes ever named."""
    slices: list[Slice] = field(default_factory=list)
    """Of shared devices."""


_FIND = """
SELECT np.profile_no, p.profile_id
  FROM nodes n
  JOIN node_profiles np ON np.node_id = n.node_id
  JOIN profiles p ON p.profile_no = np.profile_no
 WHERE CASE WHEN %(type)s = 'id' THEN n.profile_id = %(value)s AND np.since = '-infinity'
            ELSE n.type = %(type)s AND n.value = %(value)s AND n.variant = ''
                 AND np.until = 'infinity' END
"""
_NODES = """
SELECT n.node_id, n.type, n.value, n.variant, n.profile_id,
       nullif(np.since, '-infinity'), nullif(np.until, 'infinity'),
       np.since = '-infinity' AND np.until = 'infinity'
  FROM node_profiles np JOIN nodes n ON n.node_id = np.node_id
 WHERE np.profile_no = %s
 ORDER BY n.node_id, np.since
"""


def find_person(conn: Driver, identifier: Identifier) -> Person | None:
    """Return whom ``identifier`` (normalised; type ``id``: a profile id) leads to, or ``None``."""
    row = conn.execute(_FIND, {"type": identifier.type, "value": identifier.value}).fetchone()
    if row is None:
        return None
    person = Person(*row)
    for node_id, kind, value, variant, profile_id, since, until, is_whole in conn.execute(
        _NODES, (person.profile_no,)
    ):
        # The node behind a shared device's own profile goes and comes with the device.
        if is_whole and not variant:
            person.nodes[node_id] = Identifier(kind, value)
            person.profile_ids.append(profile_id)
        elif not variant:
            person.slices.append(Slice(node_id, since, until))
    return person


def list_names(asked: Identifier, person: Person | None) -> list[Identifier]:
    """Return the identifiers that stand for a person: as asked, and all that are theirs alone."""
    named = [] if asked.type == PROFILE_ID else [asked]
    theirs = [] if person is None else list(person.nodes.values())
    shared = _is_shared(asked, person)
    return list(dict.fromkeys([*([] if shared else named), *theirs]))


def _is_shared(asked: Identifier, person: Person | None) -> bool:
    """Whether others use what was asked for: then it must be heard for their sake."""
    return person is not None and asked not in person.nodes.values()


def merge_people(people: Iterable[Person]) -> list[Person]:
    """Return each person once, however many identifiers led to them."""
    return list({person.profile_no: person for person in people}.values())
