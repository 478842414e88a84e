"""One view per event name, with a column per property seen. Pure: what was seen in, SQL out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cdp.access.masking import MASK, is_personal
from cdp.analytics import masks
from cdp.analytics.quote import point_to, quote_name, quote_text
from cdp.typed_columns import BOOLEAN, FRACTION, INTEGER, NESTED, TEXT

KINDS_SQL = (
    "CASE {type} WHEN 'VARCHAR' THEN 1 WHEN 'BIGINT' THEN 2 WHEN 'UBIGINT' THEN 2"
    " WHEN 'BOOLEAN' THEN 8 WHEN 'OBJECT' THEN 16 WHEN 'ARRAY' THEN 16 WHEN 'NULL' THEN 0"
    " ELSE 4 END"
)

MOST_VIEWS = 1_000
MOST_COLUMNS = 300
_LONGEST_NAME = 200

Seen = Mapping[str, Mapping[str, int]]
"""Event name → property → kinds."""


class EventView(NamedTuple):
    """A view to be: ``name`` is what people write, ``event`` what it selects."""

    name: str
    event: str


def plan_views(events: Iterable[str], taken: Iterable[str]) -> list[EventView]:
    """Return the views for ``events``: each under its exact name, and in snake case beside it

    where that is no other event's name and not ``taken``. Names that differ in case only are one
    name to SQL: the first in code point order has it; the others are in ``events`` all the same.
    """
    used = {name.lower() for name in taken}
    views: list[EventView] = []
    named = [event for event in sorted(set(events)) if 0 < len(event) <= _LONGEST_NAME]
    for event in named[:MOST_VIEWS]:
        if event.lower() not in used:
            used.add(event.lower())
            views.append(EventView(event, event))
    wishes: dict[str, list[EventView]] = {}
    for view in views:
        wishes.setdefault(snake_case(view.event), []).append(view)
    for name, wishing in wishes.items():
        if name and len(wishing) == 1 and name not in used:
            views.append(EventView(name, wishing[0].event))
    return views


def snake_case(name: str) -> str:
    """``Order Completed``, ``orderCompleted`` → ``order_completed``; other scripts stay."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"\W+", "_", spaced).strip("_").lower()


def name_columns(properties: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Return a column name for each property, its own but for case twins and ``taken`` names."""
    used = {name.lower() for name in taken}
    columns: dict[str, str] = {}
    for key in sorted(properties):
        name, number = key, 2
        while name.lower() in used or not name:
            name, number = f"{key}_{number}", number + 1
        used.add(name.lower())
        columns[key] = name
    return columns


_FIXED = ("message_id", "profile_id", "timestamp")


def write_view(
    schema: str,
    view: EventView,
    properties: Mapping[str, int],
    *,
    is_masked: bool,
    chosen: masks.Choices,
) -> str:
    """Return the statement that makes ``view`` in ``schema``; ``chosen`` is what is personal."""
    kept = dict(sorted(properties.items())[:MOST_COLUMNS])
    names = name_columns(kept, _FIXED)
    columns = [
        f"{_mask_column(view.event, key, kinds, chosen) if is_masked else _read_column(key, kinds)}"
        f" AS {quote_name(names[key])}"
        for key, kinds in kept.items()
    ]
    fixed = ["e.message_id", "p.profile_id", 'e."at" AS "timestamp"']
    return f"""CREATE OR REPLACE VIEW {schema}.{quote_name(view.name)} AS
SELECT {", ".join(fixed + columns)}
  FROM core.events e
  LEFT JOIN core.node_profiles m
    ON m.node_id = e.node_id AND e."at" >= m.since AND e."at" < m.until
  LEFT JOIN core.profiles p ON p.profile_no = m.profile_no
 WHERE e.event = {quote_text(view.event)}"""


def _read_column(key: str, kinds: int) -> str:
    pointer = point_to(key)
    text = f"(e.properties ->> {pointer})"
    if kinds == INTEGER:
        return f"TRY_CAST({text} AS BIGINT)"
    if kinds in (FRACTION, INTEGER | FRACTION):
        return f"TRY_CAST({text} AS DOUBLE)"
    if kinds == BOOLEAN:
        return f"TRY_CAST({text} AS BOOLEAN)"
    if kinds in (0, TEXT):
        return text
    if kinds & NESTED:
        return f"(e.properties -> {pointer})"
    return f"CAST((e.properties -> {pointer}) AS VARIANT)"


def _mask_column(event: str, key: str, kinds: int, chosen: masks.Choices) -> str:
    """Like ``_read_column``; what is personal becomes text."""
    pointer = point_to(key)
    value = f"(e.properties -> {pointer})"
    text = f"(e.properties ->> {pointer})"
    is_place_name = event in ("page", "screen") and key == "name"
    if is_personal(key, chosen) and not is_place_name:
        return (
            f"CASE json_type({value}) WHEN 'BOOLEAN' THEN {text} WHEN 'NULL' THEN NULL"
            f" WHEN 'VARCHAR' THEN {masks.mask_text(text)} ELSE {quote_text(MASK)} END"
        )
    if kinds in (0, TEXT):
        return masks.mask_emails(text)
    if kinds & TEXT or kinds & NESTED:
        hidden = masks.mask_document(value, chosen=chosen)
        return hidden if kinds & NESTED else f"CAST({hidden} AS VARIANT)"
    return _read_column(key, kinds)
