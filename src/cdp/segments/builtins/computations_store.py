"""What each built-in tag last came to for the whole population, in Postgres."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cdp.segments.builtins.figures import Computed
from cdp.segments.builtins.schedule import News
from cdp.storage.database import Driver


@dataclass(frozen=True, slots=True)
class Computation:
    """The last computation over everybody."""

    version: int
    """Of the definition that it followed."""
    status: str
    summary: Any
    model: Any
    fitted: Mapping[str, Any]
    computed_at: datetime


def find_computation(connection: Driver, key: str) -> Computation | None:
    """Return the last computation of a tag, if there was one."""
    row = connection.execute(
        """SELECT version, status, summary, model, fitted, computed_at
             FROM tag_computations WHERE key = %s""",
        (key,),
    ).fetchone()
    return None if row is None else Computation(*row)


def write_computation(
    connection: Driver, key: str, version: int, computed: Computed, now: datetime
) -> None:
    """Keep what a computation over everybody came to."""
    connection.execute(
        """INSERT INTO tag_computations AS c
                  (key, version, status, summary, model, fitted, computed_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s)
               ON CONFLICT (key) DO UPDATE
              SET version = excluded.version, status = excluded.status,
                  summary = excluded.summary, model = excluded.model,
                  fitted = excluded.fitted, computed_at = excluded.computed_at""",
        (
            key,
            version,
            computed.status,
            json.dumps(computed.summary),
            json.dumps(computed.model),
            json.dumps(computed.fitted),
            now,
        ),
    )


_MOVES = """
SELECT left_stage, stage, count(*)
  FROM (SELECT at, value ->> %(field)s AS stage,
               lag(value ->> %(field)s) OVER (PARTITION BY profile_id ORDER BY change_no)
                   AS left_stage
          FROM tag_changes WHERE key = %(key)s AND value IS NOT NULL) told
 WHERE at > %(since)s AND left_stage <> stage
 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""


def count_moves(connection: Driver, key: str, field: str, since: datetime) -> list[dict[str, Any]]:
    """Return how many people moved from one value of a tag's ``field`` to another after ``since``,

    most first.
    """
    rows = connection.execute(_MOVES, {"key": key, "field": field, "since": since})
    return [{"from": before, "to": after, "people": count} for before, after, count in rows]


def delete_computation(connection: Driver, key: str) -> None:
    """Forget the computation of a tag that is no more, or no longer built in."""
    connection.execute("DELETE FROM tag_computations WHERE key = %s", (key,))


def read_news(connection: Driver, after: int, until: int) -> News:
    """Return what the batches (after, until] brought."""
    row = connection.execute(
        """SELECT coalesce(bool_or(orders <> '{}' OR erased_nodes <> '{}' OR EXISTS (
                      SELECT FROM orders o WHERE o.node_id = ANY(b.moved_nodes))), FALSE),
                  coalesce(bool_or(merges <> '[]' OR erased_nodes <> '{}'), FALSE)
             FROM batches b WHERE seq > %s AND seq <= %s""",
        (after, until),
    ).fetchone()
    assert row is not None
    return News(*row)
