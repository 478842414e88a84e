"""Read people from Postgres: few statements, whatever the number of people asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from cdp.model import Identifier
from cdp.profiles.consent import Statement
from cdp.profiles.traits import Register
from cdp.storage.database import Driver

PROFILE_ID = "id"
"""The type under which any profile id ever issued is asked for."""

_decode = msgspec.json.decode
_PLACE = "%(people)s::bigint[]"


class Found(NamedTuple):
    """The person that an identifier leads to."""

    profile_no: int
    profile_id: str


class Source(NamedTuple):
    """What a row's source number stands for."""

    source_id: str
    name: str
    trait_rank: int = 0
    """What a source with a higher one says of traits counts, whatever the time."""


@dataclass(frozen=True, slots=True)
class Node:
    """An identifier of a person, with what hangs on it in the time that is theirs."""

    node_id: int
    type: str
    value: str
    source_numbers: list[int]
    is_visible: bool
    """False for what only the machine knows, such as the anonymous side of a shared device."""
    first_seen: datetime | None
    last_seen: datetime | None
    events: int
    claimed_by: list[str]
    """Ids of other people's profiles whose claim on this contact was refused."""


class Revenue(NamedTuple):
    """What the orders in one currency come to; ``net`` is in its minor units, after refunds."""

    currency: str
    orders_with_net: int
    net: int


@dataclass(slots=True)
class Person:
    """Everything that a profile page shows, as stored: registers, not values."""

    profile_no: int
    profile_id: str
    version: int
    joined_at: datetime | None
    nodes: list[Node] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    revenue: list[Revenue] = field(default_factory=list)


# An identifier stands for whose it is now; a profile id for what its node was first, since a shared
# device's people keep the id that the device gave them.
_FIND = """
SELECT asked.ordinal, p.profile_no, p.profile_id
  FROM unnest(%(types)s::text[], %(values)s::text[])
       WITH ORDINALITY AS asked (type, value, ordinal)
  JOIN LATERAL (
       SELECT np.profile_no
         FROM nodes n JOIN node_profiles np ON np.node_id = n.node_id AND np.until = 'infinity'
        WHERE asked.type <> 'id' AND n.type = asked.type AND n.value = asked.value
          AND n.variant = ''
       UNION ALL
       SELECT np.profile_no
         FROM nodes n JOIN node_profiles np ON np.node_id = n.node_id AND np.since = '-infinity'
        WHERE asked.type = 'id' AND n.profile_id = asked.value
       ) AS named ON true
  JOIN profiles p ON p.profile_no = named.profile_no
"""

# Of one type, as most look-ups are, the values are looked for together. The offset keeps the rest
# to one row each, where some hundreds would be taken for reason enough to read all of a table.
_FIND_OF_TYPE = """
SELECT n.value, named.profile_no, named.profile_id
  FROM nodes n
 CROSS JOIN LATERAL (
       SELECT p.profile_no, p.profile_id
         FROM node_profiles np JOIN profiles p ON p.profile_no = np.profile_no
        WHERE np.node_id = n.node_id AND np.until = 'infinity'
       OFFSET 0) AS named
 WHERE n.type = %(type)s AND n.variant = '' AND n.value = ANY(%(values)s::text[])
"""

# Whose rows are read is put in: numbers, or what finds the one person of a page.
_PEOPLE = """
SELECT profile_no, profile_id, version, joined_at FROM profiles
 WHERE profile_no = ANY({people})
"""

# Counters count for whoever holds a node for all time; a slice of a shared one is counted.
# Only contacts are claimed: of a strong type the second value is somebody else's, and a shared
# device is everybody's who uses it.
_NODES = """
SELECT np.profile_no, n.node_id, n.type, n.value, n.source_numbers,
       n.variant = '' AND np.until = 'infinity',
       CASE WHEN whole.is_whole THEN n.first_seen ELSE slice.first_seen END,
       CASE WHEN whole.is_whole THEN n.last_seen ELSE slice.last_seen END,
       CASE WHEN whole.is_whole THEN n.events ELSE coalesce(slice.events, 0) END,
       ARRAY(SELECT DISTINCT p.profile_id
               FROM refusals r
               JOIN node_profiles cp ON cp.node_id = r.node_a AND cp.until = 'infinity'
               JOIN profiles p ON p.profile_no = cp.profile_no
              WHERE r.component_id = n.component_id AND r.node_b = n.node_id
                AND coalesce((SELECT document -> 'types'
                                FROM identity_rules ORDER BY version DESC LIMIT 1)
                             #>> ARRAY[n.type, 'class'],
                             CASE WHEN n.type ~ '^(email|phone)(_sha256)?$' THEN 'contact' END)
                    = 'contact'
                AND r.reason NOT IN ('hot_identifier', 'shared_device', 'limit')
                AND cp.profile_no <> np.profile_no
                AND NOT EXISTS (SELECT FROM nodes own
                                 WHERE own.type = n.type AND own.value = n.value
                                   AND own.variant = 'shared')
              ORDER BY p.profile_id)
  FROM node_profiles np
  JOIN nodes n ON n.node_id = np.node_id
 CROSS JOIN LATERAL (SELECT np.since = '-infinity' AND np.until = 'infinity' AS is_whole) whole
  LEFT JOIN LATERAL (
       SELECT min(e.at) AS first_seen, max(e.at) AS last_seen, count(*) AS events
         FROM (SELECT node_id, at FROM events
               UNION ALL SELECT node_id, at FROM shared_device_facts) e
        WHERE NOT whole.is_whole AND e.node_id = np.node_id
          AND e.at >= np.since AND e.at < np.until
       ) slice ON NOT whole.is_whole
 WHERE np.profile_no = ANY({people})
 ORDER BY n.type, n.first_seen, n.value
"""

_TRAITS = """
SELECT np.profile_no, t.name, t.value::text, t.at, t.message_id, t.source_number, t.part,
       coalesce((s.settings ->> 'trait_rank')::int, 0)
  FROM node_profiles np
  JOIN traits t ON t.node_id = np.node_id AND t.at >= np.since AND t.at < np.until
  LEFT JOIN sources s ON s.number = t.source_number
 WHERE np.profile_no = ANY({people})
"""

_CONSENTS = """
SELECT np.profile_no, c.purpose, c.granted, c.at, c.message_id, c.source_number, c.node_id
  FROM node_profiles np
  JOIN consents c ON c.node_id = np.node_id AND c.at >= np.since AND c.at < np.until
 WHERE np.profile_no = ANY({people})
"""

_REVENUE = """
SELECT np.profile_no, o.currency, count(*) FILTER (WHERE o.total > o.refunded),
       sum(o.total - o.refunded)::bigint
  FROM node_profiles np
  JOIN orders o ON o.node_id = np.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
 WHERE np.profile_no = ANY({people})
 GROUP BY np.profile_no, o.currency
 ORDER BY o.currency
"""


SOURCES = """
SELECT number, source_id, name, coalesce((settings ->> 'trait_rank')::int, 0) FROM sources
"""


def find_people(connection: Driver, asked: Sequence[Identifier]) -> list[Found | None]:
    """Return, for each normalised identifier, the person it leads to now.

    An identifier of type ``id`` is any profile id ever issued.
    """
    found: list[Found | None] = [None] * len(asked)
    if not asked:
        return found
    if len({one.type for one in asked}) == 1 and asked[0].type != PROFILE_ID:
        return _find_of_type(connection, asked[0].type, [one.value for one in asked])
    rows = connection.execute(
        _FIND, {"types": [a.type for a in asked], "values": [a.value for a in asked]}
    )
    for ordinal, profile_no, profile_id in rows:
        found[ordinal - 1] = Found(profile_no, profile_id)
    return found


def _find_of_type(connection: Driver, kind: str, values: Sequence[str]) -> list[Found | None]:
    rows = connection.execute(_FIND_OF_TYPE, {"type": kind, "values": list(values)})
    found = {value: Found(profile_no, profile_id) for value, profile_no, profile_id in rows}
    return [found.get(value) for value in values]


STATEMENTS: Mapping[str, str] = {
    "nodes": _NODES, "traits": _TRAITS, "consents": _CONSENTS, "revenue": _REVENUE,
}  # fmt: skip
"""What is read of people, with a place for an array of their numbers."""
PARTS = frozenset(STATEMENTS)

Row = Sequence[Any]


def read_people(
    connection: Driver, profile_nos: Iterable[int], parts: Collection[str] = PARTS
) -> dict[int, Person]:
    """Return the people with these numbers, in one round trip; numbers without one are left out.

    Of ``parts`` only those are read that are named; the others stay empty.
    """
    parameters = {"people": list(profile_nos)}

    def ask(statement: str) -> Iterable[Row]:
        return connection.execute(statement.format(people=_PLACE), parameters)

    with connection.pipeline():
        people_rows = ask(_PEOPLE)
        rows = {part: ask(statement) for part, statement in STATEMENTS.items() if part in parts}
    return gather_people(people_rows, rows)


def gather_people(
    people_rows: Iterable[Row], rows: Mapping[str, Iterable[Row]]
) -> dict[int, Person]:
    """Return people by their number, from the rows of each part of them."""
    people = {row[0]: Person(*row) for row in people_rows}
    for profile_no, *columns in rows.get("nodes", ()):
        people[profile_no].nodes.append(Node(*columns))
    for profile_no, name, text, *said in rows.get("traits", ()):
        register = Register(name, _decode(text), *said)
        people[profile_no].registers.append(register)
    for profile_no, *statement in rows.get("consents", ()):
        people[profile_no].statements.append(Statement(*statement))
    for profile_no, *revenue in rows.get("revenue", ()):
        people[profile_no].revenue.append(Revenue(*revenue))
    return people


def list_nodes(connection: Driver, profile_no: int) -> list[int]:
    """Return every node that is this person's for some of the time."""
    rows = connection.execute(
        "SELECT DISTINCT node_id FROM node_profiles WHERE profile_no = %s ORDER BY node_id",
        (profile_no,),
    )
    return [node_id for (node_id,) in rows]


def list_profile_ids(connection: Driver, profile_no: int) -> list[str]:
    """Return every profile id that leads to this person, former ones included."""
    rows = connection.execute(
        """SELECT DISTINCT n.profile_id
             FROM node_profiles np JOIN nodes n ON n.node_id = np.node_id
            WHERE np.profile_no = %s ORDER BY n.profile_id""",
        (profile_no,),
    )
    return [profile_id for (profile_id,) in rows]


def read_sources(connection: Driver) -> dict[int, Source]:
    """Return the sources by their number."""
    rows = connection.execute(SOURCES)
    return {number: Source(*source) for number, *source in rows}


def read_ranks(connection: Driver) -> dict[int, int]:
    """Return the ranks of those sources that have one, by number."""
    rows = connection.execute(
        """SELECT number, (settings ->> 'trait_rank')::int FROM sources
            WHERE settings ->> 'trait_rank' IS NOT NULL"""
    )
    return dict(rows.fetchall())


def read_segments(connection: Driver, profile_id: str) -> list[dict[str, Any]]:
    """Return the segments that a person is in, with the time they entered."""
    rows = connection.execute(
        """SELECT m.segment, s.name, m.entered_at, m.version
             FROM memberships m JOIN segments s ON s.key = m.segment
            WHERE m.profile_id = %s ORDER BY m.segment""",
        (profile_id,),
    )
    return [
        {"segment": segment, "name": name, "entered_at": entered_at, "version": version}
        for segment, name, entered_at, version in rows
    ]


def read_tags(connection: Driver, profile_id: str) -> list[dict[str, Any]]:
    """Return a person's tag values: ``key``, ``value``, ``at``, ``version``."""
    rows = connection.execute(
        """SELECT key, value::text, at, version FROM tag_values
            WHERE profile_id = %s ORDER BY key""",
        (profile_id,),
    )
    return [
        {"key": key, "value": _decode(value), "at": at, "version": version}
        for key, value, at, version in rows
    ]
