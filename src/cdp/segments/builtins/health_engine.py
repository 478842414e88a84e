"""Health scores over traits, tags and rules in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cdp.segments.builtins import health
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.figures import Computed, Numbers, Whole, lack, no_values, values_table
from cdp.segments.builtins.health import Component, HealthSettings
from cdp.segments.builtins.source_engine import Source, numbers, whole
from cdp.segments.builtins.traits_engine import select_tag, select_trait

# A net promoter's group counts 100, 50 or 0; true counts 100.
_WORTH = """
(CASE value WHEN '"promoter"' THEN 100 WHEN '"passive"' THEN 50 WHEN '"detractor"' THEN 0
            WHEN 'true' THEN 100 WHEN 'false' THEN 0 END)::DOUBLE
"""
_EVERYBODY = "SELECT profile_no FROM core.profiles{among} ORDER BY profile_no"


def compute_health(source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None) -> Computed:
    """Score everybody of whom any component is known."""
    settings: HealthSettings = built_in.settings
    among = " SEMI JOIN scope USING (profile_no)" if source.is_restricted else ""
    people = whole(source.select(_EVERYBODY.format(among=among)), "profile_no")
    columns = [_read_component(source, each, people) for each in settings.components]
    parts = np.column_stack(columns)
    is_anything_known = ~np.isnan(parts).all(axis=1)
    people, parts = people[is_anything_known], parts[is_anything_known]
    weights = np.array([each.weight for each in settings.components])
    scores, coverage = health.score(parts, weights)
    scores, bands = health.band(scores, coverage, settings)
    values = values_table(people, {"score": scores, "band": bands, "coverage": coverage})
    if fitted is not None:
        return Computed(values)
    summary = health.summarise(settings, scores, bands, parts)
    if not len(people):
        missing = [lack("people of whom a component is known", 0, 1)]
        return Computed(no_values(), "not_enough_data", {**summary, "missing": missing})
    return Computed(values, summary=summary)


def _read_component(source: Source, component: Component, people: Whole) -> Numbers:
    """Return the component's score of each of ``people``; NaN where it is missing."""
    column = np.full(len(people), np.nan)
    if component.kind == "rule":
        column[:] = 0.0
        column[np.isin(people, source.find_holders(component.document))] = 100.0
        return column
    select = select_trait if component.kind == "trait" else select_tag
    sql, params = select(source, component.path)
    found = source.select(
        f"""SELECT profile_no, worth, number
              FROM (SELECT profile_no, {_WORTH} AS worth, try_cast(value AS DOUBLE) AS number
                      FROM ({sql}))
             WHERE worth IS NOT NULL OR isfinite(number)""",
        params,
    )
    who, worth = whole(found, "profile_no"), numbers(found, "worth")
    scaled = health.scale(numbers(found, "number"), component.range)
    scaled = np.where(np.isnan(worth), scaled, worth)
    place = np.searchsorted(people, who)
    inside = place < len(people)
    inside[inside] = people[place[inside]] == who[inside]
    column[place[inside]] = scaled[inside]
    return column
