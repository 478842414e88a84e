"""Traits and tags of people as columns, out of DuckDB."""

from __future__ import annotations

from cdp.segments.builtins.source_engine import Source
from cdp.segments.rules import Path


def select_trait(source: Source, path: Path) -> tuple[str, dict[str, object]]:
    """Return ``SELECT profile_no, value`` (JSON text) of the newest value of a trait, and its

    parameters.
    """
    sql = f"""
        SELECT profile_no, json_extract(value, $path)::VARCHAR AS value
          FROM (SELECT o.profile_no,
                       core.trait_value(t.value, t.part, t.rank, t."at", t.message_id,
                                        t.source_number) AS value
                  FROM core.node_traits t JOIN {source.owners} o
                    ON o.node_id = t.node_id AND t."at" >= o.since AND t."at" < o.until
                 WHERE t.name = $name AND t."at" <= $until GROUP BY o.profile_no)"""
    return sql, {"name": path[0], "path": point_to(path[1:]), "until": source.until}


def select_tag(source: Source, path: Path) -> tuple[str, dict[str, object]]:
    """Return ``SELECT profile_no, value`` (JSON text) of a tag's field, and its parameters.

    Of a net promoter tag the group stands for the score.
    """
    keys = source.select("SELECT DISTINCT key FROM core.tag_values")["key"].to_pylist()
    key, rest = _split_key(path, set(keys))
    among = " SEMI JOIN scope USING (profile_no)" if source.is_restricted else ""
    value = "json_extract(value, $path)"
    if rest in ((), ("score",)):
        value = f"""CASE WHEN json_extract_string(value, '/group')
                           IN ('promoter', 'passive', 'detractor')
                         THEN json_extract(value, '/group') ELSE {value} END"""
    sql = f"SELECT profile_no, ({value})::VARCHAR AS value FROM core.tag_values{among}"
    return f"{sql} WHERE key = $key", {"key": key, "path": point_to(rest)}


def _split_key(path: Path, keys: set[str]) -> tuple[str, Path]:
    for length in range(len(path), 0, -1):
        if (key := ".".join(path[:length])) in keys:
            return key, path[length:]
    return path[0], path[1:]


def point_to(path: Path) -> str:
    """Return the JSON Pointer of a path; of an empty one the whole document."""
    if not path:
        return "$"
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in path)
