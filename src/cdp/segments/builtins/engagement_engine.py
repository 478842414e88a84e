"""Engagement over the events in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdp.segments.builtins import engagement
from cdp.segments.builtins.bands import place_in_bands
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.engagement import EngagementSettings
from cdp.segments.builtins.figures import Computed, count_values, lack, no_values, values_table
from cdp.segments.builtins.source_engine import Source, numbers, whole

_ACTIVITY = """
WITH seen AS (
    SELECT o.profile_no, e.event,
           date_diff('day', DATE '1970-01-01', (e."at" AT TIME ZONE $timezone)::DATE) AS day
      FROM core.events e JOIN {owners} o
        ON o.node_id = e.node_id AND e."at" >= o.since AND e."at" < o.until
     WHERE e.event IS NOT NULL AND e."at" <= $until {among})
SELECT profile_no, count(*) FILTER (is_in) AS events,
       count(DISTINCT day) FILTER (is_in) AS active_days,
       count(DISTINCT event) FILTER (is_in) AS kinds,
       $today - max(day) FILTER (is_in) AS days_since
  FROM (SELECT *, day > $today - $window AS is_in FROM seen)
 GROUP BY profile_no ORDER BY profile_no
"""


def compute_engagement(
    source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None
) -> Computed:
    """Score everybody who was ever active."""
    settings: EngagementSettings = built_in.settings
    among = "AND list_contains($events::VARCHAR[], e.event)" if settings.events else ""
    activity = source.select(
        _ACTIVITY.format(owners=source.owners, among=among),
        {
            "timezone": source.timezone,
            "until": source.until,
            "today": source.today,
            "window": settings.window_days,
        }
        | ({"events": list(settings.events)} if settings.events else {}),
    )
    scores = engagement.score(
        settings,
        numbers(activity, "days_since"),
        numbers(activity, "active_days"),
        numbers(activity, "kinds"),
    )
    bands = place_in_bands(scores, settings.bands, engagement.BANDS)
    values = values_table(
        whole(activity, "profile_no"),
        {
            "score": scores,
            "band": bands,
            "active_days": whole(activity, "active_days"),
            "events": whole(activity, "events"),
            "kinds": whole(activity, "kinds"),
        },
    )
    if fitted is not None:
        return Computed(values)
    if not activity.num_rows:
        missing = [lack("people with an event that counts", 0, 1)]
        return Computed(no_values(), "not_enough_data", {"people": 0, "missing": missing})
    average = round(float(scores.mean()), 2)
    summary = {"people": activity.num_rows, "average": average, "bands": count_values(bands)}
    return Computed(values, summary={**summary, "window_days": settings.window_days})
