"""Read all that the page of one person shows in one statement, from the name to the newest events.

Each statement that reads of a person alone costs a round trip, its own look for the person and the
rows in Python. Here they are parts of one, which finds the person once and answers with JSON; the
events leave Postgres as the caller gets them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from cdp.model import Identifier
from cdp.profiles import profile_store
from cdp.profiles.accounts_read_store import ACCOUNTS, show_accounts
from cdp.profiles.profile_store import (
    PROFILE_ID,
    SOURCES,
    Found,
    Person,
    Source,
    gather_people,
)
from cdp.profiles.service_read_store import SERVICE_COUNTS, show_service_counts
from cdp.profiles.timeline_store import NEWEST, Key
from cdp.profiles.touches_store import TOUCHES, TOUCHES_PARAMETERS, show_touches
from cdp.storage.database import Driver


class NewestEvents(NamedTuple):
    """The newest events in Postgres as JSON, an array of what the timeline shows of each."""

    shown: bytes
    following: Key | None
    """Past which key there are more."""
    are_all: bool
    """Whether no newer one lies in the archive alone."""


@dataclass(frozen=True, slots=True)
class Page:
    """A person, and what was asked for of those parts that are read with them."""

    found: Found
    person: Person
    sources: Mapping[int, Source]
    members: Mapping[str, Any]
    """Values of members of the document, by their names, unmasked."""
    events: NewestEvents | None


_Row = tuple[Any, ...]
_NODE = tuple[
    int, int, str, str, list[int], bool, datetime | None, datetime | None, int, list[str]
]  # fmt: skip


class _Part(NamedTuple):
    """A statement that becomes part of the page's, and what its rows are made of."""

    statement: str
    row: Any
    members: Callable[[list[Any]], Mapping[str, Any]] | None = None
    """Makes members of the document from the rows."""


def _show_touches(rows: list[Any]) -> Mapping[str, Any]:
    first, last = show_touches(rows)
    return {"first_touch": first, "last_touch": last}


_OF_PERSON: Mapping[str, Any] = {
    "nodes": _NODE,
    "traits": tuple[int, str, str, datetime, str, int, str, int],
    "consents": tuple[int, str, bool, datetime, str, int, int],
    "revenue": tuple[int, str, int, int],
}
_PARTS: Mapping[str, _Part] = {
    **{
        name: _Part(
            profile_store.STATEMENTS[name].format(people="ARRAY(SELECT profile_no FROM found)"), row
        )
        for name, row in _OF_PERSON.items()
    },
    "accounts": _Part(
        ACCOUNTS, tuple[str, str | None], lambda rows: {"accounts": show_accounts(rows)}
    ),
    "touches": _Part(TOUCHES, tuple[datetime, str, str, str, str, str | None], _show_touches),
    "service": _Part(
        SERVICE_COUNTS,
        tuple[int, int, int, int | None, datetime | None],
        lambda rows: {"service": show_service_counts(rows)},
    ),
}
EVENTS = "events"
NOTHING = "false"
"""What holds nothing besides Postgres."""
PAGE_PARTS = frozenset({*_PARTS, EVENTS})
"""What can be read of a person with one statement."""

_decoders = {
    name: msgspec.json.Decoder(list[part.row]).decode  # type: ignore[name-defined]
    for name, part in _PARTS.items()
}
_decode_sources = msgspec.json.Decoder(list[tuple[int, str, str, int]]).decode
_decode_keys = msgspec.json.Decoder(list[Key]).decode

_PERSON = "(SELECT profile_no FROM found)"
_BY_IDENTIFIER = """
SELECT np.profile_no
  FROM nodes n JOIN node_profiles np ON np.node_id = n.node_id AND np.until = 'infinity'
 WHERE n.type = %(type)s AND n.value = %(value)s AND n.variant = ''
"""
_BY_PROFILE_ID = """
SELECT np.profile_no
  FROM nodes n JOIN node_profiles np ON np.node_id = n.node_id AND np.since = '-infinity'
 WHERE n.profile_id = %(value)s
"""
_PAGE = """
WITH found AS MATERIALIZED (
    SELECT p.profile_no, p.profile_id, p.version, p.joined_at
      FROM ({named}) AS named JOIN profiles p ON p.profile_no = named.profile_no)
SELECT found.profile_no, found.profile_id, found.version, found.joined_at, {columns}
  FROM found {joins}
"""
_COLUMN = "(SELECT json_agg(json_build_array({values})) FROM ({statement}) AS r ({values}))"
# One more than is shown tells whether there are more.
_EVENTS_JOIN = f"""
 CROSS JOIN LATERAL (
       SELECT json_agg(newest.shown ORDER BY place) FILTER (WHERE place <= %(limit)s) AS shown,
              json_agg(newest.key) FILTER (WHERE place = %(limit)s) AS keys,
              count(*) AS read, min(newest.at) FILTER (WHERE place > %(limit)s) AS edge
         FROM ({NEWEST.format(person="found.profile_no")}) AS newest) AS events
"""


def read_page(
    connection: Driver,
    asked: Identifier,
    parts: Collection[str],
    now: datetime,
    *,
    limit: int = 50,
    may_hold: str = NOTHING,
) -> Page | None:
    """Return the page of whom the normalised identifier ``asked`` leads to; ``None``: nobody.

    ``connection`` is one of ``Database.read``. ``parts`` are some of ``PAGE_PARTS``; ``limit`` is
    the most events that are shown, ``may_hold`` the archive's (``Archived``). Touches, accounts and
    service are those of ``now``. All of it is of one moment.
    """
    names = tuple(name for name in _PARTS if name in parts)
    has_events = EVENTS in parts
    row = connection.execute(
        _write_statement(names, may_hold if has_events else None, asked.type == PROFILE_ID),
        {
            "type": asked.type,
            "value": asked.value,
            "now": now,
            "limit": limit,
            **TOUCHES_PARAMETERS,
        },
        prepare=True,
    ).fetchone()
    return None if row is None else _read_row(row, names, has_events, limit)


def _read_row(row: _Row, names: tuple[str, ...], has_events: bool, limit: int) -> Page:
    head, sources, columns = row[:4], row[4], row[5:]
    rows = {
        name: _decoders[name](column) if column else []
        for name, column in zip(names, columns, strict=False)
    }
    members: dict[str, Any] = {}
    for name in names:
        make = _PARTS[name].members
        if make is not None:
            members |= make(rows[name])
    return Page(
        Found(head[0], head[1]),
        gather_people([head], rows)[head[0]],
        {one[0]: Source(*one[1:]) for one in _decode_sources(sources or b"[]")},
        members,
        _read_events(columns[-4:], limit) if has_events else None,
    )


def _read_events(columns: _Row, limit: int) -> NewestEvents:
    shown, keys, read, may_be_more = columns
    following = _decode_keys(keys)[0] if read > limit else None
    return NewestEvents(shown or b"[]", following, not may_be_more)


@lru_cache(maxsize=256)
def _write_statement(names: tuple[str, ...], may_hold: str | None, is_by_id: bool) -> str:
    """Return the statement that reads these parts, with ``may_hold`` the newest events.

    Few of all sets of parts are asked for; each is planned once.
    """
    columns = [_write_column(SOURCES, 4)]
    columns += [
        _write_column(_PARTS[name].statement.format(person=_PERSON), _count(name)) for name in names
    ]
    if may_hold is not None:
        columns += ["events.shown", "events.keys", "events.read"]
        columns.append(may_hold.format(person="found.profile_no", at="events.edge"))
    return _PAGE.format(
        named=_BY_PROFILE_ID if is_by_id else _BY_IDENTIFIER,
        columns=", ".join(columns),
        joins=_EVENTS_JOIN if may_hold is not None else "",
    )


def _write_column(statement: str, count: int) -> str:
    values = ", ".join(f"c{place}" for place in range(count))
    return _COLUMN.format(values=values, statement=statement)


def _count(name: str) -> int:
    return len(_PARTS[name].row.__args__)
