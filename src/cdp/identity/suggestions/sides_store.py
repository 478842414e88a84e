"""Read the two people of each suggestion as they are now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cdp.identity.suggestions.people_store import read_said
from cdp.identity.suggestions.queue_store import Suggestion
from cdp.identity.suggestions.said import Normalise
from cdp.identity.suggestions.show import Side
from cdp.model import Identifier
from cdp.storage.database import Driver


def read_sides(
    conn: Driver, suggestions: Iterable[Suggestion], normalise: Normalise, now: datetime
) -> dict[int, Side]:
    """Return everybody that these suggestions are about, by number."""
    ids: dict[int, str] = {}
    for one in suggestions:
        for person, profile_id in ((one.person_a, one.profile_a), (one.person_b, one.profile_b)):
            if person is not None and profile_id is not None:
                ids[person] = profile_id
    people = sorted(ids)
    names: dict[int, list[Identifier]] = {person: [] for person in people}
    rows = conn.execute(
        """SELECT s.profile_no, n.type, n.value FROM node_profiles s JOIN nodes n USING (node_id)
            WHERE s.profile_no = ANY(%s::bigint[]) AND s.until = 'infinity' AND n.variant = ''""",
        (people,),
    )
    for person, kind, value in rows:
        names[person].append(Identifier(kind, value))
    said = read_said(conn, people, normalise, now)
    return {person: Side(ids[person], tuple(names[person]), said[person]) for person in people}
