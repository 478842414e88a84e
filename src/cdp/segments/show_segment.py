"""A segment as it is shown."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from cdp.errors import NotFound
from cdp.runtime.clock import format_time
from cdp.segments import segments_store
from cdp.segments.definitions import Definition, find_dependencies
from cdp.segments.segments_store import Segment
from cdp.segments.service import Segments
from cdp.storage.database import Driver


def segment_not_found(key: str) -> NotFound:
    """Return the error for an unknown segment."""
    return NotFound("segment_not_found", f"there is no segment {key}")


def require_segment(tx: Driver, key: str) -> Segment:
    """Return the segment ``key``; raise ``NotFound``."""
    segment = segments_store.find_segment(tx, key)
    if segment is None:
        raise segment_not_found(key)
    return segment


def show_segment(
    services: Segments, segment: Segment, size: int, tag_keys: Collection[str]
) -> dict[str, Any]:
    """Return a segment as it is shown; ``tag_keys`` are those of all tags."""
    return {
        "key": segment.key,
        "name": segment.name,
        "description": segment.description,
        "rule": segment.rule,
        "consent": segment.consent,
        "version": segment.version,
        "status": show_status(services, segment.definition),
        "count": size,
        "uses": _show_uses(segment.definition, tag_keys),
        "created_at": format_time(segment.created_at),
        "updated_at": format_time(segment.updated_at),
    }


def show_status(services: Segments, definition: Definition) -> str:
    """Return ``ready``, ``computing``, or ``failing`` when the evaluation does not succeed."""
    if definition.name in services.refresher.failing():
        return "failing"
    return "computing" if definition.is_behind else "ready"


def _show_uses(definition: Definition, tag_keys: Collection[str]) -> list[dict[str, str]]:
    names = sorted(find_dependencies(definition, tag_keys))
    return [{"kind": name.kind, "key": name.key} for name in names]
