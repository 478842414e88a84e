"""How the values of a tag were spread, day by day, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query

from cdp.access.masking import mask_value
from cdp.errors import NotFound, Unprocessable
from cdp.runtime.clock import format_time
from cdp.segments import tag_history_store, tags_store
from cdp.segments.paths import read_path
from cdp.segments.service import SegmentReader, Segments
from cdp.segments.tags_store import Tag
from cdp.segments.transitions import find_field
from cdp.storage.database import Driver, driver
from cdp.storage.tag_horizon_store import TagHorizon, read_tag_horizon

_MOST_VALUES = 1000


def add_history(router: APIRouter, services: Segments) -> None:
    """Add the route of the history of values to ``router``."""

    @router.get("/v1/tags/{key}/history")
    def get_history(
        caller: SegmentReader,
        key: str,
        field: Annotated[str | None, Query(description="A dotted path into the value.")] = None,
    ) -> dict[str, Any]:
        """Show how many people had each value at the end of each day on which one changed.

        Before ``known_from`` that is not known any more; its day comes first then.
        """
        with services.database.snapshot() as connection:
            tx = driver(connection)
            tag = require_tag(tx, key)
            named = field or find_field(tag.document)
            horizon = read_tag_horizon(tx)
            moves = tag_history_store.read_daily_moves(
                tx,
                key,
                start=tag.first_change_no,
                path=read_path(named) if named else (),
                timezone=services.timezone,
            )
            if not caller.sees_personal:
                moves = ((day, _mask(value), more) for day, value, more in moves)
            if horizon.known_from is not None:
                first = horizon.known_from.astimezone(ZoneInfo(services.timezone)).date()
                moves = ((max(day, first), value, more) for day, value, more in moves)
            days = list(add_up(moves))
        known = show_known(horizon)
        return {"data": days, "field": named, "next": None, **known, **services.freshness()}


def add_up(moves: Iterable[tuple[date, str, int]]) -> Iterator[dict[str, Any]]:
    """Yield each day's spread from the moves of all days, in order.

    Raises ``Unprocessable`` when there are too many different values to be counted.
    """
    counts: dict[str, int] = {}
    day: date | None = None
    for moved_on, value, more in moves:
        if day is not None and moved_on != day:
            yield _show_day(day, counts)
        day = moved_on
        counts[value] = counts.get(value, 0) + more
        if not counts[value]:
            del counts[value]
        if len(counts) > _MOST_VALUES:
            message = f"more than {_MOST_VALUES} different values; name a field of them"
            raise Unprocessable("too_many_values", message, path="/field")
    if day is not None:
        yield _show_day(day, counts)


def _mask(value: str) -> str:
    return json.dumps(mask_value(json.loads(value)), ensure_ascii=False)


def _show_day(day: date, counts: dict[str, int]) -> dict[str, Any]:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    values = [{"value": json.loads(value), "count": count} for value, count in ordered]
    return {"day": day.isoformat(), "count": sum(counts.values()), "values": values}


def show_known(horizon: TagHorizon) -> dict[str, Any]:
    """Return ``known_from`` for an answer about the past; nothing when nothing is missing."""
    moment = horizon.known_from
    return {} if moment is None else {"known_from": format_time(moment)}


def require_tag(tx: Driver, key: str) -> Tag:
    """Return the tag ``key``; raise ``NotFound``."""
    tag = tags_store.find_tag(tx, key)
    if tag is None:
        raise tag_not_found(key)
    return tag


def tag_not_found(key: str) -> NotFound:
    """Return the error for an unknown tag."""
    return NotFound("tag_not_found", f"there is no tag {key}")
