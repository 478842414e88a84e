"""Tag values out of DuckDB: how many profiles have one, and which."""

from __future__ import annotations

import json
from typing import Any

from cdp.segments.person_engine import Reader

MOST_VALUES = 1000


def count_by_tag(reader: Reader) -> dict[str, int]:
    """Return how many profiles have each tag."""
    found = reader.read("SELECT key, count(*) AS profiles FROM core.tag_values GROUP BY key")
    return {row["key"]: row["profiles"] for row in found.to_pylist()}


def read_distribution(reader: Reader, key: str, path: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return how many profiles have each value of a tag, or of a field of it; most first."""
    pointer = "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in path)
    value = "json_extract(value, $pointer)" if path else "value"
    params: dict[str, Any] = {"key": key, "most": MOST_VALUES}
    if path:
        params["pointer"] = pointer
    found = reader.read(
        f"""SELECT value, count(*) AS profiles
              FROM (SELECT {value}::VARCHAR AS value FROM core.tag_values WHERE key = $key)
             WHERE value IS NOT NULL AND value <> 'null'
             GROUP BY value ORDER BY profiles DESC, value LIMIT $most""",
        params,
    )
    return [
        {"value": json.loads(row["value"]), "count": row["profiles"]} for row in found.to_pylist()
    ]
