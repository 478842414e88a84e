"""Net promoter score over the answers in DuckDB."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from cdp.segments.builtins import nps
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.events_engine import make_events_table
from cdp.segments.builtins.figures import Computed, lack, no_values, values_table
from cdp.segments.builtins.nps_settings import MOST_TOUCHPOINTS, NpsSettings
from cdp.segments.builtins.source_engine import Source, whole

_NUMBER = "try_cast(score::VARCHAR AS DOUBLE)"
_IS_VALID = f"coalesce({_NUMBER} BETWEEN 0 AND 10 AND {_NUMBER} = trunc({_NUMBER}), FALSE)"
# Of several answers to a survey the latest counts.
_ANSWERS = f"""
CREATE OR REPLACE TEMP TABLE nps_answers AS
SELECT profile_no, survey, touchpoint, max((a."at", message_id, source_id)) AS said,
       arg_max({_NUMBER}, (a."at", message_id, source_id))::INTEGER AS score
  FROM counted_events a WHERE {_IS_VALID}
 GROUP BY profile_no, survey, touchpoint
"""
_LATEST = """
SELECT profile_no, arg_max(score, said) AS score FROM nps_answers
 GROUP BY profile_no ORDER BY profile_no
"""
_COUNTS = """
SELECT score, count(*) AS people
  FROM (SELECT arg_max(score, said) AS score FROM nps_answers GROUP BY profile_no, survey)
 GROUP BY score
"""
_BY_TOUCHPOINT = """
SELECT coalesce(touchpoint ->> '$', touchpoint::VARCHAR) AS touchpoint, score, count(*) AS people
  FROM nps_answers WHERE touchpoint IS NOT NULL AND touchpoint::VARCHAR <> 'null'
 GROUP BY 1, 2
"""
_BY_SURVEY = _BY_TOUCHPOINT.replace("touchpoint", "survey")
_REFUSED = f"""
SELECT count(*) FILTER (is_said AND NOT {_IS_VALID}) AS rejected,
       count(*) FILTER (NOT is_said) AS unanswered
  FROM (SELECT *, score IS NOT NULL AND score::VARCHAR <> 'null' AS is_said FROM counted_events)
"""


def compute_nps(source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None) -> Computed:
    """Give each person their latest answer; sum up one answer per person and survey."""
    settings: NpsSettings = built_in.settings
    make_events_table(
        source,
        settings.events,
        {"score": settings.property, **_optional(settings)},
    )
    for column in ("survey", "touchpoint"):
        if getattr(settings, column) is None:
            source.run(f"ALTER TABLE counted_events ADD COLUMN {column} JSON")
    source.run(_ANSWERS)
    latest = source.select(_LATEST)
    score = whole(latest, "score")
    values = values_table(
        whole(latest, "profile_no"),
        {"score": score, "group": pa.array([nps.group_of(each) for each in score.tolist()])},
    )
    if fitted is not None:
        return Computed(values)
    summary = _sum_up(source, settings)
    if not summary["responses"]:
        missing = [lack("answers from 0 to 10", 0, 1)]
        return Computed(no_values(), "not_enough_data", {**summary, "missing": missing})
    return Computed(values, summary=summary)


def _optional(settings: NpsSettings) -> dict[str, Any]:
    named = {"survey": settings.survey, "touchpoint": settings.touchpoint}
    return {name: path for name, path in named.items() if path is not None}


def _sum_up(source: Source, settings: NpsSettings) -> dict[str, Any]:
    refused = source.select(_REFUSED).to_pylist()[0]
    counts = {row["score"]: row["people"] for row in source.select(_COUNTS).to_pylist()}
    summary = {**nps.summarise(counts, refused["rejected"]), "unanswered": refused["unanswered"]}
    for name, query in (("survey", _BY_SURVEY), ("touchpoint", _BY_TOUCHPOINT)):
        if getattr(settings, name) is not None:
            summary[f"by_{name}"] = _break_down(source, name, query)
    return summary


def _break_down(source: Source, name: str, query: str) -> list[dict[str, Any]]:
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for row in source.select(query).to_pylist():
        found[row[name]][row["score"]] = row["people"]
    ranked = sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return [{name: value, **nps.summarise(counts)} for value, counts in ranked[:MOST_TOUCHPOINTS]]
