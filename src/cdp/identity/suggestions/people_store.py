"""Read from Postgres what is said of people, some thousands at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from cdp.identity.suggestions.said import PLAIN, TRAIT_NAMES, Normalise, Said, sort_out
from cdp.model import Identifier
from cdp.storage.database import Driver
from cdp.trait_parts import ADD_OP, SET_ONCE_OP

_PAGE = 5000
_decode = msgspec.json.decode

# Of each part of a trait the newest value, as profiles show it: what is said of the whole replaces
# the parts before it.
_TRAITS = """
SELECT DISTINCT ON (profile_no, name, part) profile_no, name, value::text
  FROM (SELECT np.profile_no, t.name, t.part, t.value, t.at, t.message_id, t.source_number,
               max(t.at) FILTER (WHERE t.part = '')
                   OVER (PARTITION BY np.profile_no, t.name) AS replaced_at
          FROM node_profiles np
          JOIN traits t ON t.node_id = np.node_id AND t.at >= np.since AND t.at < np.until
         WHERE np.profile_no = ANY(%(people)s::bigint[]) AND t.at <= %(now)s
           AND lower(regexp_replace(t.name, %(plain)s, '', 'g')) = ANY(%(names)s::text[])) said
 WHERE part = '' OR replaced_at IS NULL OR at > replaced_at
 ORDER BY profile_no, name, part, at DESC, message_id DESC, source_number DESC
"""
_CONTACTS = """
SELECT np.profile_no, n.type, n.value
  FROM node_profiles np JOIN nodes n ON n.node_id = np.node_id
 WHERE np.profile_no = ANY(%(people)s::bigint[]) AND np.until = 'infinity'
   AND n.type IN ('email', 'phone') AND n.variant = '' AND NOT n.quarantined
"""
# Contacts that somebody else has, and that these people claimed all the same.
_CLAIMS = """
SELECT DISTINCT np.profile_no, c.type, c.value
  FROM node_profiles np
  JOIN nodes n ON n.node_id = np.node_id
  JOIN refusals r ON r.component_id = n.component_id AND r.node_a = n.node_id
  JOIN nodes c ON c.node_id = r.node_b
 WHERE np.profile_no = ANY(%(people)s::bigint[]) AND np.until = 'infinity'
   AND c.type IN ('email', 'phone') AND c.variant = '' AND NOT c.quarantined
   AND r.reason NOT IN ('hot_identifier', 'shared_device', 'limit', 'blocked')
"""


def list_people(conn: Driver, *, after: int = 0, limit: int = _PAGE) -> list[int]:
    """Return the numbers of profiles above ``after``, ascending."""
    rows = conn.execute(
        "SELECT profile_no FROM profiles WHERE profile_no > %s ORDER BY profile_no LIMIT %s",
        (after, limit),
    ).fetchall()
    return [row[0] for row in rows]


def read_said(
    conn: Driver, people: Sequence[int], normalise: Normalise, now: datetime
) -> dict[int, Said]:
    """Return what is said of each of these people until ``now``."""
    parameters = {"people": list(people), "plain": PLAIN, "names": list(TRAIT_NAMES), "now": now}
    traits: dict[int, list[tuple[str, object]]] = {person: [] for person in people}
    contacts: dict[int, set[Identifier]] = {person: set() for person in people}
    for person, name, text in conn.execute(_TRAITS, parameters):
        value = _decode(text)
        if isinstance(value, dict) and len(value) == 1:
            value = value.get(SET_ONCE_OP, value.get(ADD_OP, value))
        if value is not None:
            traits[person].append((name, value))
    for query in (_CONTACTS, _CLAIMS):
        for person, kind, value in conn.execute(query, parameters):
            contacts[person].add(Identifier(kind, value))
    return {person: sort_out(traits[person], contacts[person], normalise) for person in people}


def read_everybody(conn: Driver, normalise: Normalise, now: datetime) -> Iterator[tuple[int, Said]]:
    """Give everybody's number and what is said of them, in order of the numbers."""
    after = 0
    while people := list_people(conn, after=after):
        yield from read_said(conn, people, normalise, now).items()
        after = people[-1]
