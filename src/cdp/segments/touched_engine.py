"""Whose answers may have changed, and why: the temporary tables ``touched`` and ``scope``."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import pyarrow as pa

from cdp.segments.definitions import UnitName
from cdp.segments.membership_store import Touched
from cdp.segments.mirror_engine import Duck
from cdp.storage.registered_engine import registered

_NOBODY_CROSSED = """
CREATE OR REPLACE TEMP TABLE crossed (crossing VARCHAR, profile_no BIGINT)
"""
# Somebody whose event was dated ahead of its receipt is touched again when its time has come.
# A member whose profile is gone was absorbed by whoever holds the node that named it.
_TOUCHED = """
CREATE OR REPLACE TEMP TABLE touched AS
WITH gone AS (
    SELECT t.profile_no FROM incoming_touched t
     WHERE NOT EXISTS (FROM core.profiles p WHERE p.profile_no = t.profile_no)
       AND EXISTS (FROM core.memberships m WHERE m.profile_no = t.profile_no)),
told AS (
    SELECT profile_no, 'event' AS cause, 2 AS rank FROM incoming_touched
    UNION ALL SELECT profile_no, 'merge', 1 FROM incoming_merged
    UNION ALL SELECT np.profile_no, 'merge', 1
                FROM gone JOIN core.node_profiles np ON np.node_id = gone.profile_no
    UNION ALL SELECT profile_no, 'time', 3 FROM core.profile_events
               WHERE "at" > $since AND "at" <= $now AND "at" > received_at
    UNION ALL SELECT m.profile_no, 'time', 3
                FROM core.orders o JOIN core.node_profiles m
                  ON m.node_id = o.node_id AND o.placed_at >= m.since AND o.placed_at < m.until
               WHERE o.placed_at > $since AND o.placed_at <= $now
    UNION ALL SELECT np.profile_no, 'time', 3
                FROM core.account_members m JOIN core.node_profiles np ON np.node_id = m.node_id
               WHERE m."at" > $since AND m."at" <= $now
                  OR EXISTS (FROM core.account_facts f
                              WHERE f.account_no = m.account_no
                                AND f."at" > $since AND f."at" <= $now))
SELECT profile_no, arg_min(cause, rank) AS cause FROM told
 WHERE profile_no IS NOT NULL GROUP BY profile_no
"""

_SCOPE = """
CREATE OR REPLACE TEMP TABLE scope_causes AS
SELECT profile_no, arg_min(cause, rank) AS cause
  FROM (SELECT profile_no, cause, 1 AS rank FROM touched
        UNION ALL SELECT profile_no, cause, 2 FROM pending_memberships
                   WHERE list_contains($segments, segment)
        UNION ALL SELECT profile_no, cause, 2 FROM pending_tags WHERE list_contains($tags, key)
        UNION ALL SELECT profile_no, 'time', 3 FROM crossed
                   WHERE list_contains($crossings, crossing))
 GROUP BY profile_no
"""
_SCOPE_PROFILES = "CREATE OR REPLACE TEMP TABLE scope AS SELECT profile_no FROM scope_causes"


def find_touched(duck: Duck, touched: Touched, since: datetime, now: datetime) -> int:
    """Fill ``touched`` (profile_no, cause): those that the batches name, and those whose

    future-dated facts came true in (``since``, ``now``]. Nobody is in ``crossed`` yet. Return how
    many are touched.
    """
    profiles = pa.table({"profile_no": pa.array(touched.profiles, pa.int64())})
    merged = pa.table({"profile_no": pa.array(touched.merged, pa.int64())})
    with (
        registered(duck, "incoming_touched", profiles),
        registered(duck, "incoming_merged", merged),
    ):
        duck.execute(_TOUCHED, {"since": since, "now": now})
    duck.execute(_NOBODY_CROSSED)
    return count_rows(duck, "touched")


def fill_scope(duck: Duck, dependencies: Collection[UnitName], crossings: Collection[str]) -> int:
    """Fill ``scope`` (profile_no): the touched, those whom this refresh has already changed in

    one of ``dependencies``, and those in ``crossings``. Return how many they are.
    """
    duck.execute(
        _SCOPE,
        {
            "segments": [each.key for each in dependencies if each.kind == "segment"],
            "tags": [each.key for each in dependencies if each.kind == "tag"],
            "crossings": list(crossings),
        },
    )
    duck.execute(_SCOPE_PROFILES)
    return count_rows(duck, "scope")


def count_rows(duck: Duck, relation: str) -> int:
    """Return how many rows a relation has."""
    row: Any = duck.execute(f"SELECT count(*) FROM {relation}").fetchone()
    return int(row[0])
