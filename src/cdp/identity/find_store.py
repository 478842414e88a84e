"""Find a profile by any of its names, and list what it goes by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cdp.identity.forms_store import find_spelling
from cdp.model import Identifier
from cdp.storage.database import Driver

PROFILE_ID_TYPE = "id"
"""The type under which any profile id ever issued is asked for."""


@dataclass(frozen=True, slots=True)
class FoundProfile:
    profile_no: int
    profile_id: str
    node_ids: tuple[int, ...]
    """Every node that is this profile's for some of the time."""


@dataclass(frozen=True, slots=True)
class ProfileIdentifier:
    """An identifier that leads to a profile now."""

    node_id: int
    type: str
    value: str
    first_seen: datetime
    last_seen: datetime
    source_numbers: tuple[int, ...]
    also_claimed_by: tuple[str, ...]
    """Profile ids of others who claimed it and were refused."""


# A profile id stands for what its node was first (a shared device's people keep the id that the
# device gave them); an identifier for whose it is now.
_FIND_BY_ID = """
SELECT p.profile_no, p.profile_id
  FROM nodes n
  JOIN node_profiles s ON s.node_id = n.node_id AND s.since = '-infinity'
  JOIN profiles p USING (profile_no)
 WHERE n.profile_id = %s
"""
_FIND_BY_IDENTIFIER = """
SELECT p.profile_no, p.profile_id
  FROM nodes n
  JOIN node_profiles s ON s.node_id = n.node_id AND s.until = 'infinity'
  JOIN profiles p USING (profile_no)
 WHERE n.type = %s AND n.value = %s AND n.variant = ''
"""


def find_profile(conn: Driver, asked: Identifier) -> FoundProfile | None:
    """Return the profile that ``asked`` (normalised) leads to now, or ``None``.

    An identifier of type ``id`` is any profile id ever issued.
    """
    if asked.type == PROFILE_ID_TYPE:
        row = conn.execute(_FIND_BY_ID, (asked.value,)).fetchone()
    else:
        row = conn.execute(_FIND_BY_IDENTIFIER, tuple(asked)).fetchone()
        if row is None and (spelt := find_spelling(conn, asked)):
            row = conn.execute(_FIND_BY_IDENTIFIER, tuple(spelt)).fetchone()
    if row is None:
        return None
    nodes = conn.execute(
        "SELECT DISTINCT node_id FROM node_profiles WHERE profile_no = %s ORDER BY node_id",
        (row[0],),
    ).fetchall()
    return FoundProfile(row[0], row[1], tuple(node[0] for node in nodes))


def find_named_node(conn: Driver, asked: Identifier) -> int | None:
    """Return the node of an identifier, or ``None``."""
    row = conn.execute(
        "SELECT node_id FROM nodes WHERE type = %s AND value = %s AND variant = ''", tuple(asked)
    ).fetchone()
    if row is not None:
        return int(row[0])
    spelt = find_spelling(conn, asked)
    return None if spelt is None else find_named_node(conn, spelt)


def list_identifiers(conn: Driver, profile_no: int) -> list[ProfileIdentifier]:
    """Return the identifiers that lead to a profile now, by type and first sighting."""
    rows = conn.execute(
        """SELECT n.node_id, n.type, n.value, n.first_seen, n.last_seen, n.source_numbers,
                  ARRAY(SELECT DISTINCT p.profile_id
                          FROM refusals r
                          JOIN node_profiles c ON c.node_id = r.node_a AND c.until = 'infinity'
                          JOIN profiles p ON p.profile_no = c.profile_no
                         WHERE r.component_id = n.component_id AND r.node_b = n.node_id
                           AND c.profile_no <> s.profile_no
                         ORDER BY 1)
             FROM node_profiles s
             JOIN nodes n ON n.node_id = s.node_id
            WHERE s.profile_no = %s AND s.until = 'infinity' AND n.variant = ''
            ORDER BY n.type, n.first_seen, n.value""",
        (profile_no,),
    ).fetchall()
    return [
        ProfileIdentifier(row[0], row[1], row[2], row[3], row[4], tuple(row[5]), tuple(row[6]))
        for row in rows
    ]
