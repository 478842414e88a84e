"""Hold back moves between the levels of a tag until they have held long enough, in DuckDB.

``found`` is what the definition says of people, ``core.tag_values`` what was told of them. For
everybody whose level differs, each level on the way is a step with the time since which they have
been there or beyond. The tag takes the farthest step whose time is over.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa

from cdp.segments.mirror_engine import Duck, fetch
from cdp.segments.transitions import Transitions
from cdp.storage.registered_engine import registered

_STANDING = """
CREATE OR REPLACE TEMP TABLE standing AS
SELECT f.profile_no, r.position AS raw, h.position AS held
  FROM found f
  JOIN core.tag_values v ON v.key = $key AND v.profile_no = f.profile_no
  JOIN levels r ON r.level = {found}
  JOIN levels h ON h.level = {told}
 WHERE r.position <> h.position
   AND CASE WHEN r.position > h.position THEN $up_us ELSE $down_us END > 0
"""
_STEPS = """
CREATE OR REPLACE TEMP TABLE steps AS
SELECT s.profile_no, s.held, l.position, l.level, s.raw > s.held AS rises,
       coalesce(w.since, $now) AS since,
       coalesce(w.since, $now)
         + to_microseconds(CASE WHEN s.raw > s.held THEN $up_us ELSE $down_us END) AS due_at
  FROM standing s
  JOIN levels l ON l.position BETWEEN least(s.raw, s.held + 1) AND greatest(s.raw, s.held - 1)
  LEFT JOIN waiting w ON w.profile_no = s.profile_no AND w.level = l.level
                     AND w.rises = (s.raw > s.held)
"""
_REACHED = """
CREATE OR REPLACE TEMP TABLE reached AS
SELECT profile_no,
       coalesce(max(position) FILTER (rises AND due_at <= $now),
                min(position) FILTER (NOT rises AND due_at <= $now),
                any_value(held)) AS position
  FROM steps GROUP BY profile_no
"""
_LEVEL = """
CREATE OR REPLACE TEMP TABLE held_back AS
SELECT f.profile_no, coalesce(l.level, json(f.value)::VARCHAR)::JSON AS value
  FROM found f LEFT JOIN reached e ON e.profile_no = f.profile_no
  LEFT JOIN levels l ON l.position = e.position
"""
# The level always stands last, so that the same value is always the same text.
_FIELD = """
CREATE OR REPLACE TEMP TABLE held_back AS
SELECT f.profile_no,
       CASE WHEN coalesce(json_type({found}::JSON), 'NULL') = 'NULL' THEN f.value
            ELSE json_merge_patch(f.value,
                                  json_object($field, coalesce(l.level, {found})::JSON)) END
           AS value
  FROM found f LEFT JOIN reached e ON e.profile_no = f.profile_no
  LEFT JOIN levels l ON l.position = e.position
"""
_LEFT = """
CREATE OR REPLACE TEMP TABLE waiting_now AS
SELECT s.profile_no, s.level, s.rises, s.since, s.due_at
  FROM steps s JOIN reached e ON e.profile_no = s.profile_no
 WHERE CASE WHEN s.rises THEN s.position > e.position ELSE s.position < e.position END
"""
_GONE = """
SELECT profile_no, level FROM waiting w
 WHERE NOT EXISTS (FROM waiting_now n WHERE n.profile_no = w.profile_no AND n.level = w.level
                                        AND n.rises = w.rises)
"""
_BEGUN = """
SELECT n.profile_no, n.level, n.rises, n.since, n.due_at FROM waiting_now n
 WHERE NOT EXISTS (FROM waiting w WHERE w.profile_no = n.profile_no AND w.level = n.level
                                    AND w.rises = n.rises)
"""
_MICROSECOND = timedelta(microseconds=1)


def hold_back(
    duck: Duck, key: str, transitions: Transitions, waiting: pa.Table, now: datetime
) -> tuple[pa.Table, pa.Table]:
    """Let ``found`` hold the levels that may be told at ``now``.

    ``waiting`` is who has been waiting, of those that ``found`` speaks of. Returns who waits no
    longer and who has begun to, as ``moves_store.write_moves`` takes them.
    """
    field = transitions.field
    pointer = "/" + (field or "").replace("~", "~0").replace("/", "~1")
    named = {} if field is None else {"pointer": pointer}
    place = "json({})::VARCHAR" if field is None else "json_extract({}, $pointer)::VARCHAR"
    found, told = place.format("f.value"), place.format("v.value")
    holds = {"up_us": _as_us(transitions.up), "down_us": _as_us(transitions.down)}
    with registered(duck, "waiting", waiting), registered(duck, "listed", _list(transitions)):
        duck.execute(
            "CREATE OR REPLACE TEMP TABLE levels AS "
            "SELECT json(level)::VARCHAR AS level, position FROM listed"
        )
        duck.execute(_STANDING.format(found=found, told=told), {**named, **holds, "key": key})
        duck.execute(_STEPS, {**holds, "now": now})
        duck.execute(_REACHED, {"now": now})
        if field is None:
            duck.execute(_LEVEL)
        else:
            duck.execute(_FIELD.format(found=found), {**named, "field": field})
        duck.execute("CREATE OR REPLACE TEMP TABLE found AS FROM held_back")
        duck.execute(_LEFT)
        return fetch(duck, _GONE), fetch(duck, _BEGUN)


def cross(duck: Duck, name: str, profiles: list[int]) -> None:
    """Let ``profiles`` be evaluated again, as those of the crossing ``name``."""
    people = pa.table({"profile_no": pa.array(profiles, pa.int64())})
    with registered(duck, "due_people", people):
        duck.execute("INSERT INTO crossed SELECT $name, profile_no FROM due_people", {"name": name})


def _list(transitions: Transitions) -> pa.Table:
    return pa.table(
        {
            "level": pa.array(transitions.order, pa.string()),
            "position": pa.array(range(len(transitions.order)), pa.int64()),
        }
    )


def _as_us(hold: timedelta | None) -> int:
    return 0 if hold is None else hold // _MICROSECOND
