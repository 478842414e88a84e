"""The identifiers that tie most people together, for a steward to look at before they hurt."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from cdp.identity.facts import Node
from cdp.identity.hot import count_people
from cdp.identity.identifiers import is_blocked
from cdp.identity.links_store import read_links_of
from cdp.identity.rules import Rules
from cdp.model import Identifier
from cdp.storage.database import Driver

_MOST_CANDIDATES = 1000


class HotIdentifier(NamedTuple):
    identifier: Identifier
    people: int
    """Different values of one type that names people, seen together with it."""
    events: int
    """That hang on it."""
    last_seen: datetime
    quarantined: bool
    """Its links are withdrawn, because of how many people it ties together."""
    blocked: bool


def list_hot(conn: Driver, rules: Rules, *, limit: int) -> list[HotIdentifier]:
    """Return identifiers that were seen with more than one person, and all quarantined ones, most

    people first. Reads the whole table of links.
    """
    candidates = [
        row[0]
        for row in conn.execute(
            """SELECT node_id FROM (
                   SELECT unnest(node_ids) AS node_id FROM links
                    WHERE kind = 'seen' AND retracted_at IS NULL) AS seen
                GROUP BY node_id HAVING count(*) > 1 ORDER BY count(*) DESC LIMIT %s""",
            (_MOST_CANDIDATES,),
        )
    ]
    rows = conn.execute(
        """SELECT node_id, type, value, first_seen, events, last_seen, quarantined FROM nodes
            WHERE node_id = ANY(%s) OR quarantined""",
        (candidates,),
    ).fetchall()
    if not rows:
        return []
    links = read_links_of(conn, [row[0] for row in rows])
    around = sorted({node_id for link in links for node_id in link.node_ids})
    nodes = {
        row[0]: Node(*row)
        for row in conn.execute(
            "SELECT node_id, type, value, first_seen FROM nodes WHERE node_id = ANY(%s)", (around,)
        )
    }
    people = count_people(nodes, links, rules)
    found = [
        HotIdentifier(
            Identifier(row[1], row[2]),
            people.get(row[0], 0),
            row[4],
            row[5],
            row[6],
            is_blocked(Identifier(row[1], row[2]), rules),
        )
        for row in rows
        if people.get(row[0], 0) > 1 or row[6]
    ]
    found.sort(key=lambda one: (-one.people, one.identifier))
    return found[:limit]
