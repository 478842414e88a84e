"""Whose facts came of an age between two looks: found by the time of the facts.

Events lie in about the order in which they happened, so only the few blocks are read that hold the
moments asked for, however many people there are.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from cdp.segments.flips import Crossing
from cdp.segments.mirror_engine import Duck
from cdp.segments.rules import Duration
from cdp.segments.times import step_back

_OPEN = """
CREATE OR REPLACE TEMP TABLE crossed_facts (crossing VARCHAR, node_id BIGINT, "at" TIMESTAMPTZ)
"""
_EVENTS = """
INSERT INTO crossed_facts
SELECT $prefix || event, node_id, "at" FROM core.events
 WHERE "at" > $low AND "at" <= $high AND event IN (SELECT unnest($names::VARCHAR[]))
"""
_ORDERS = """
INSERT INTO crossed_facts
SELECT $prefix, node_id, placed_at FROM core.orders
 WHERE placed_at > $low AND placed_at <= $high AND node_id IS NOT NULL
"""
_CROSSED = """
CREATE OR REPLACE TEMP TABLE crossed AS
SELECT DISTINCT f.crossing, m.profile_no
  FROM crossed_facts f JOIN core.node_profiles m
    ON m.node_id = f.node_id AND f."at" >= m.since AND f."at" < m.until
"""


def find_crossed(
    duck: Duck, crossings: Collection[Crossing], since: datetime, now: datetime
) -> set[str]:
    """Fill ``crossed`` (crossing, profile_no) with whose facts came of age in (since, now].

    Return the names of the crossings in which somebody is. A fact is of an age at the first instant
    from which stepping back by it leads to the fact or behind it, so months need no special care.
    """
    duck.execute(_OPEN)
    by_age: dict[Duration, list[str]] = {}
    for crossing in crossings:
        names = by_age.setdefault(crossing.age, [])
        if crossing.event is not None:
            names.append(crossing.event)
    for age, names in by_age.items():
        span = {"low": step_back(since, age), "high": step_back(now, age)}
        if names:
            prefix = Crossing("", age).name
            duck.execute(_EVENTS, {**span, "prefix": prefix, "names": names})
        if Crossing(None, age) in crossings:
            duck.execute(_ORDERS, {**span, "prefix": Crossing(None, age).name})
    duck.execute(_CROSSED)
    rows = duck.execute("SELECT DISTINCT crossing FROM crossed").fetchall()
    return {row[0] for row in rows}
