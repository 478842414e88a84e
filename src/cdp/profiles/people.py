"""People found by identifiers as callers write them, and what had been said of them by a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from cdp.access.read_audit import note_person
from cdp.errors import NotFound
from cdp.model import Identifier
from cdp.profiles.consent_history_store import read_kept
from cdp.profiles.default_consent_store import read_defaults
from cdp.profiles.profile_names import Normalise, parse_profile_name, profile_not_found
from cdp.profiles.profile_store import (
    PARTS,
    Found,
    Person,
    find_people,
    list_profile_ids,
    read_people,
    read_ranks,
)
from cdp.profiles.said import list_registers, list_statements
from cdp.profiles.timeline_store import Archived, read_said
from cdp.storage.database import Database, Driver, driver


@dataclass(frozen=True, slots=True)
class People:
    """The people of one database, found by identifiers as callers write them."""

    database: Database
    normalise: Normalise
    archived: Archived | None = None
    """Where days lie that Postgres no longer holds."""

    @contextmanager
    def find(self, name: str) -> Iterator[tuple[Driver, Identifier, Found]]:
        """Give a snapshot and whom ``name`` leads to; raise ``NotFound`` for nobody."""
        asked = parse_profile_name(name, self.normalise)
        with self.database.snapshot() as connection:
            tx = driver(connection)
            found = find_people(tx, [asked])[0]
            if found is None:
                raise profile_not_found()
            note_person(found.profile_id)
            yield tx, asked, found

    def list_ids(self, name: str) -> list[str]:
        """Return every profile id that ever led to whom ``name`` leads to; nobody: as it is."""
        try:
            with self.find(name) as (tx, _, found):
                return list_profile_ids(tx, found.profile_no)
        except NotFound:
            return [name.removeprefix("id:")]

    @contextmanager
    def find_number(self, name: str) -> Iterator[tuple[Driver, int]]:
        """Give a snapshot and the number of the person whom ``name`` leads to, as ``find`` does."""
        with self.find(name) as (tx, _, found):
            yield tx, found.profile_no


def read_person(connection: Driver, found: Found, parts: Collection[str] = PARTS) -> Person:
    """Return the person that was found; raise ``NotFound`` when it is gone."""
    person = read_people(connection, [found.profile_no], parts).get(found.profile_no)
    if person is None:
        raise profile_not_found()
    return person


def has_later(person: Person, at: datetime) -> bool:
    """Whether something that was said of the person is later than ``at``."""
    return any(register.at > at for register in person.registers) or any(
        statement.at > at for statement in person.statements
    )


def read_person_at(
    connection: Driver,
    found: Found,
    at: datetime,
    archived: Archived | None = None,
    parts: Collection[str] = PARTS,
) -> Person:
    """Return the person with what had been said of them by ``at``.

    Registers hold the newest only, so what was said later hides what counted before; then the
    timeline is asked.
    """
    person = read_person(connection, found, parts)
    if has_later(person, at):
        said = read_said(connection, found.profile_no, archived)
        person.registers = list(list_registers(said, read_ranks(connection)))
        person.statements = [
            *read_defaults(connection, found.profile_no, at),
            *read_kept(connection, found.profile_no),
            *list_statements(said),
        ]
    return person
