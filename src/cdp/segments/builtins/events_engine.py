"""Events as built-in tags count them, out of DuckDB."""

from __future__ import annotations

from cdp.segments.builtins.source_engine import Source
from cdp.segments.compile_events import matching_events
from cdp.segments.compile_paths import json_at
from cdp.segments.compile_scope import Scope
from cdp.segments.compile_values import Parameters
from cdp.segments.rules import Events, Path


def make_events_table(source: Source, events: Events, columns: dict[str, Path]) -> None:
    """Make the temporary table ``counted_events``: profile_no, at, message_id, source_id, and per

    column the JSON text at its path.
    """
    parameters = Parameters()
    scope = Scope(source.until, source.timezone, source.is_restricted)
    rows = matching_events(events, scope, parameters, ())
    extracted = "".join(
        f", {json_at('value', path, parameters, is_object=True)} AS {name}"
        for name, path in columns.items()
    )
    source.run(
        "CREATE OR REPLACE TEMP TABLE counted_events AS "
        f'SELECT profile_no, "at", message_id, source_id{extracted} FROM ({rows})',
        parameters.values,
    )
