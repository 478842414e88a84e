"""The preview of a rule out of DuckDB: how many people it means, and some of their faces."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cdp.access.masking import mask_identifier, mask_traits
from cdp.runtime.clock import format_time
from cdp.segments.compile import compile_rule
from cdp.segments.person_engine import Reader
from cdp.segments.rules import Rule
from cdp.segments.typed_events_engine import read_typed
from cdp.standard_traits import find_display_name, find_standard

FACES = 10
_SHOWN_TRAITS = frozenset({"name", "first_name", "last_name", "city"})
"""By their usual names; whatever spelling of them was sent is shown as it was sent."""

_COUNT = """
WITH meant AS MATERIALIZED ({sql})
SELECT (SELECT count(*) FROM meant) AS members,
       (SELECT count(*) FROM core.profiles) AS everybody,
       (SELECT list(profile_no) FROM (FROM meant ORDER BY profile_no LIMIT {faces})) AS sample
"""
_PROFILES = """
SELECT p.profile_no, p.profile_id, max(n.last_seen) AS last_seen
  FROM core.profiles p
  JOIN core.node_profiles np ON np.profile_no = p.profile_no
  JOIN core.nodes n ON n.node_id = np.node_id
 WHERE list_contains($sample, p.profile_no)
 GROUP BY p.profile_no, p.profile_id ORDER BY p.profile_no
"""
_IDENTIFIERS = """
SELECT np.profile_no, n.type, n.value
  FROM core.node_profiles np JOIN core.nodes n ON n.node_id = np.node_id
 WHERE list_contains($sample, np.profile_no) AND np.until = 'infinity' AND n.variant = ''
 ORDER BY n.first_seen, n.type, n.value
"""
_TRAITS = """
SELECT np.profile_no, t.name,
       core.trait_value(t.value, t.part, t.rank, t."at", t.message_id,
                        t.source_number)::VARCHAR AS value
  FROM core.node_traits t JOIN core.node_profiles np
    ON np.node_id = t.node_id AND t."at" >= np.since AND t."at" < np.until
 WHERE list_contains($sample, np.profile_no) AND t."at" <= $now
 GROUP BY np.profile_no, t.name
"""


def preview(
    reader: Reader, rule: Rule, now: datetime, timezone: str, *, is_masked: bool
) -> dict[str, Any]:
    """Return ``count``, ``share`` of all profiles, and a ``sample`` of up to ten people."""
    compiled = compile_rule(rule, now, timezone, typed=read_typed(reader))
    sql = _COUNT.format(sql=compiled.sql, faces=FACES)
    row: dict[str, Any] = reader.read(sql, compiled.params).to_pylist()[0]
    share = row["members"] / row["everybody"] if row["everybody"] else 0.0
    faces = read_faces(reader, row["sample"] or [], now, is_masked=is_masked)
    return {"count": row["members"], "share": share, "sample": faces}


def read_faces(
    reader: Reader, sample: Sequence[int], now: datetime, *, is_masked: bool
) -> list[dict[str, Any]]:
    """Return what lets somebody recognise the profiles ``sample``, by number."""
    if not sample:
        return []
    params: dict[str, Any] = {"sample": list(sample)}
    identifiers: dict[int, list[dict[str, str]]] = defaultdict(list)
    for row in reader.read(_IDENTIFIERS, params).to_pylist():
        value = row["value"]
        shown = mask_identifier(row["type"], value) if is_masked else value
        identifiers[row["profile_no"]].append({"type": row["type"], "value": shown})
    traits: dict[int, dict[str, Any]] = defaultdict(dict)
    for row in reader.read(_TRAITS, {**params, "now": now}).to_pylist():
        if find_standard(row["name"]) not in _SHOWN_TRAITS:
            continue
        value = json.loads(row["value"])
        if value is not None:
            traits[row["profile_no"]][row["name"]] = value
    return [
        {
            "profile_id": row["profile_id"],
            "name": _name(traits[row["profile_no"]], is_masked=is_masked),
            "identifiers": identifiers[row["profile_no"]],
            "traits": mask_traits(traits[row["profile_no"]])
            if is_masked
            else traits[row["profile_no"]],
            "last_seen": format_time(row["last_seen"]),
        }
        for row in reader.read(_PROFILES, params).to_pylist()
    ]


def _name(traits: dict[str, Any], *, is_masked: bool) -> str | None:
    """Return what to call somebody; ``None`` when nobody said."""
    found = find_display_name(traits)
    if found is None:
        return None
    name, trait = found
    return str(mask_traits({trait: name})[trait]) if is_masked else name
