"""Whose facts came of an age between two looks: found by the time of the facts, or by their values.

Events lie in about the order in which they happened, so only the few blocks are read that hold the
moments asked for, however many people there are. Values that are times lie in no order: of those
one column is read, and only what begins like a time near the moment is looked at more closely.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from cdp.segments.compile_values import read_time_sql
from cdp.segments.flips import Crossing, DayCrossing, Scan, ValueCrossing
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

# The time of day of the fact lies in that of ($since, $now].
_DAY_PASSED = """
{at} <= $now - INTERVAL 24 HOURS
 AND (((epoch_us({at}) - epoch_us($since) - 1) % 86400000000) + 86400000000) % 86400000000
     < epoch_us($now) - epoch_us($since)
"""
_DAYS_OF_EVENTS = f"""
INSERT INTO crossed_facts
SELECT DISTINCT $prefix || event, node_id, "at" FROM core.events
 WHERE event IN (SELECT unnest($names::VARCHAR[])) AND {_DAY_PASSED.format(at='"at"')}
"""
_DAYS_OF_ORDERS = f"""
INSERT INTO crossed_facts
SELECT DISTINCT $prefix, node_id, placed_at FROM core.orders
 WHERE node_id IS NOT NULL AND {_DAY_PASSED.format(at="placed_at")}
"""

# Rows of which some text is a time in ($low, $high]. A time begins with its date, in its own zone,
# so most rows are told by their first characters; what is nested or written with escapes is opened.
_IN_SLICE = f"""
(value::VARCHAR >= $first AND value::VARCHAR < $beyond
   AND {read_time_sql("(value ->> '$')")} > $low AND {read_time_sql("(value ->> '$')")} <= $high
 OR (left(value::VARCHAR, 1) IN ('[', '{{') OR starts_with(value::VARCHAR, '"\\'))
   AND EXISTS (FROM json_tree(value) leaf
                WHERE leaf.type = 'VARCHAR'
                  AND {read_time_sql("(leaf.atom ->> '$')")} > $low
                  AND {read_time_sql("(leaf.atom ->> '$')")} <= $high))
"""
_TRAITS = f"""
INSERT INTO crossed_facts
SELECT DISTINCT $prefix || name, node_id, "at" FROM core.node_traits
 WHERE name IN (SELECT unnest($names::VARCHAR[])) AND {_IN_SLICE}
"""
_ACCOUNTS = f"""
INSERT INTO crossed_facts
SELECT DISTINCT $prefix || f.name, m.node_id, m."at"
  FROM (SELECT account_no, name FROM core.account_facts
         WHERE kind = 'trait' AND name IN (SELECT unnest($names::VARCHAR[])) AND {_IN_SLICE}) f
  JOIN core.account_members m ON m.account_no = f.account_no
"""
_TAGS = f"""
INSERT INTO crossed
SELECT DISTINCT $prefix || key, profile_no FROM core.tag_values
 WHERE key IN (SELECT unnest($names::VARCHAR[])) AND {_IN_SLICE}
"""
_DAY = timedelta(days=1)


def find_crossed(
    duck: Duck,
    crossings: Collection[Crossing],
    since: datetime,
    now: datetime,
    *,
    scans: Collection[Scan] = (),
    scanned_at: datetime | None = None,
) -> set[str]:
    """Fill ``crossed`` (crossing, profile_no) with whose facts came of age in (since, now].

    ``scans`` are looked for in (``scanned_at``, now], by default in the same stretch. Return the
    names of the crossings in which somebody is. A fact is of an age at the first instant from which
    stepping back by it leads to the fact or behind it, so months need no special care.
    """
    duck.execute(_OPEN)
    for age, names, with_orders in _by_age(crossings):
        span = {"low": step_back(since, age), "high": step_back(now, age)}
        if names:
            prefix = Crossing("", age).name
            duck.execute(_EVENTS, {**span, "prefix": prefix, "names": names})
        if with_orders:
            duck.execute(_ORDERS, {**span, "prefix": Crossing(None, age).name})
    scanned_at = since if scanned_at is None else scanned_at
    _find_days(duck, {one for one in scans if isinstance(one, DayCrossing)}, scanned_at, now)
    values = {one for one in scans if isinstance(one, ValueCrossing)}
    _find_values(duck, _TRAITS, (one for one in values if one.of == "trait"), scanned_at, now)
    _find_values(duck, _ACCOUNTS, (one for one in values if one.of == "account"), scanned_at, now)
    duck.execute(_CROSSED)
    _find_values(duck, _TAGS, (one for one in values if one.of == "tag"), scanned_at, now)
    rows = duck.execute("SELECT DISTINCT crossing FROM crossed").fetchall()
    return {row[0] for row in rows}


def _by_age(crossings: Iterable[Crossing]) -> list[tuple[Duration, list[str], bool]]:
    """Return per age the names of events, and whether orders are looked for too."""
    by_age: dict[Duration, set[str | None]] = {}
    for crossing in crossings:
        by_age.setdefault(crossing.age, set()).add(crossing.event)
    return [
        (age, [name for name in names if name is not None], None in names)
        for age, names in by_age.items()
    ]


def _find_days(duck: Duck, days: set[DayCrossing], since: datetime, now: datetime) -> None:
    span = {"since": since, "now": now}
    names = [one.event for one in days if one.event is not None]
    if names:
        prefix = DayCrossing("").name
        duck.execute(_DAYS_OF_EVENTS, {**span, "prefix": prefix, "names": names})
    if DayCrossing(None) in days:
        duck.execute(_DAYS_OF_ORDERS, {**span, "prefix": DayCrossing(None).name})


def _find_values(
    duck: Duck, query: str, crossings: Iterable[ValueCrossing], since: datetime, now: datetime
) -> None:
    """Run ``query`` for each age; the ends of a slice as dates are a day wider, for their zones."""
    by_age: dict[Duration, list[ValueCrossing]] = {}
    for crossing in crossings:
        by_age.setdefault(crossing.age, []).append(crossing)
    for age, found in by_age.items():
        low, high = step_back(since, age), step_back(now, age)
        duck.execute(
            query,
            {
                "low": low,
                "high": high,
                "first": f'"{_write_date(low, -_DAY)}',
                # Whatever follows the date comes before this.
                "beyond": f'"{_write_date(high, _DAY)}~',
                "prefix": found[0]._replace(key="").name,
                "names": [one.key for one in found],
            },
        )


def _write_date(time: datetime, nudge: timedelta) -> str:
    try:
        return (time.astimezone(UTC) + nudge).date().isoformat()
    except OverflowError:
        return "0001-01-01" if nudge < timedelta() else "9999-12-31"
