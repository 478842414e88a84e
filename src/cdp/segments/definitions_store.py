"""The definitions of segments and tags together, as a refresh needs them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from cdp.segments import segments_store, tags_store
from cdp.segments.definitions import Definition, UnitName
from cdp.segments.refresh_plan import Evaluation
from cdp.storage.database import Driver


def read_definitions(connection: Driver) -> list[Definition]:
    """Return the newest definition of every segment and tag."""
    segments = [each.definition for each in segments_store.list_segments(connection)]
    return segments + [each.definition for each in tags_store.list_tags(connection)]


def mark_evaluated(tx: Driver, plan: Iterable[Evaluation], skipped: Collection[UnitName]) -> None:
    """Write down which definitions are now true of everybody."""
    for evaluation in plan:
        definition = evaluation.definition
        if evaluation.whole and definition.is_behind:
            _store_of(definition.name).mark_evaluated(tx, definition.key, definition.version)
    # What was left out must be looked at for everybody when it is tried again.
    for name in skipped:
        _store_of(name).mark_evaluated(tx, name.key, 0)


def delete_definition(tx: Driver, name: UnitName) -> None:
    """Delete a segment or a tag; its people must have left it."""
    if name.kind == "segment":
        segments_store.delete_segment(tx, name.key)
    else:
        tags_store.delete_tag(tx, name.key)


def _store_of(name: UnitName) -> Any:
    return segments_store if name.kind == "segment" else tags_store
