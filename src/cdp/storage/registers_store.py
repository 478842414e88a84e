"""Registers of nodes that are not one person's for all time: one slot for each of its spans.

A register keeps the newest of what was said of a node. Where (node, event time) leads to several
profiles, each keeps a newest of its own, or what is said in one person's time would hide what
another had said before. A slot is named by the beginning of its span; of most nodes there is one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from cdp.model import Slot
from cdp.said import consents_said, traits_said
from cdp.storage.database import Driver
from cdp.trait_parts import list_parts, outlives

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode


class Cuts:
    """Where the time of some nodes is cut."""

    def __init__(self, times: Mapping[int, list[datetime]]) -> None:
        self._times = times

    def find_slot(self, node_id: int, at: datetime) -> datetime | None:
        """Return when the span begins in which ``at`` lies; ``None`` for the first."""
        times = self._times.get(node_id) if self._times else None
        position = bisect_right(times, at) if times else 0
        return times[position - 1] if times and position else None


def find_cuts(conn: Driver, node_ids: Collection[int]) -> Cuts:
    """Return where the time of ``node_ids`` is cut. Of most it is not, and an index knows."""
    times: dict[int, list[datetime]] = {}
    for node_id, since in conn.execute(
        """SELECT node_id, since FROM node_profiles
            WHERE node_id = ANY(%b) AND since > '-infinity' ORDER BY node_id, since""",
        (sorted(node_ids),),
    ):
        times.setdefault(node_id, []).append(since)
    return Cuts(times)


def lock_nodes(conn: Driver, node_ids: Collection[int]) -> None:
    """Wait for whoever is writing of these nodes, and let nobody begin until we commit."""
    conn.execute(
        "SELECT FROM nodes WHERE node_id = ANY(%b) ORDER BY node_id FOR UPDATE",
        (sorted(node_ids),),
    )


def settle_registers(conn: Driver, slots: Collection[Slot]) -> set[int]:
    """Let each of ``slots`` hold the newest of what was said in it; return the nodes that changed.

    From the registers there are and the stored events. The caller has locked the nodes, and has
    written their spans.
    """
    if not slots:
        return set()
    parted = [slot for slot in slots if not slot.is_whole]
    said = [*_read_said(conn, parted), *_read_groups(conn, parted)]
    changed: set[int] = set()
    for kind in (_TRAITS, _CONSENTS, _MEMBERS):
        changed |= _settle(conn, kind, slots, said)
    return changed


_Stamp = tuple[datetime, str, int]


class _Kind(NamedTuple):
    table: str
    name: tuple[str, ...]
    """The columns that name a register of a node, beside its span."""
    value: str
    form: str
    read: Callable[[Any], Any]
    """From an event to what it said, by name, as the table holds it."""


class _Said(NamedTuple):
    node_id: int
    type: str
    at: datetime
    message_id: str
    source_number: int
    properties: Mapping[str, Any]
    context: Mapping[str, Any]
    account_no: int | None = None
    """The account that a group call names; its traits are nobody's but the account's."""


_Name = tuple[Any, ...]


def _read_traits(event: _Said) -> dict[_Name, Any]:
    said = traits_said(event.type, event.properties, event.context)
    return {
        (name, part, event.source_number): _encode(patch).decode()
        for name, value in said.items()
        for part, patch in list_parts(value)
    }


def _read_consents(event: _Said) -> dict[_Name, Any]:
    return {(purpose,): granted for purpose, granted in consents_said(event.context).items()}


def _read_members(event: _Said) -> dict[_Name, Any]:
    # As what, a group call does not say.
    return {} if event.account_no is None else {("member", event.account_no): "true"}


_TRAITS = _Kind(
    "traits", ("name", "part", "source_number"), "value", "text[]::json[]", _read_traits
)
_CONSENTS = _Kind("consents", ("purpose",), "granted", "bool[]", _read_consents)
_MEMBERS = _Kind(
    "account_members", ("fact", "account_no"), "value", "text[]::json[]", _read_members
)
_TYPES = {"source_number": "int", "account_no": "bigint"}
"""Of the columns that name a register; of the others it is text."""


def _bounds(slots: Iterable[Slot]) -> tuple[list[Any], list[Any], list[Any]]:
    rows = list(slots)
    return [s.node_id for s in rows], [s.since for s in rows], [s.until for s in rows]


_BLANK = r"E' \t\n\r\f\v'"
_SLOTS = (
    """unnest(%b::bigint[], %b::timestamptz[], %b::timestamptz[]) AS s (node_id, since, until)"""
)
_INSIDE = """{t}.node_id = s.node_id AND {t}.at >= coalesce(s.since, '-infinity')
             AND {t}.at < coalesce(s.until, 'infinity')"""


def _read_said(conn: Driver, slots: Collection[Slot]) -> list[_Said]:
    if not slots:
        return []
    rows = conn.execute(
        f"""SELECT e.node_id, e.type, e.at, e.message_id, e.source_number,
                   CASE e.type WHEN 'identify' THEN e.properties::text ELSE '{{}}' END,
                   e.context::text
              FROM {_SLOTS} JOIN events e ON {_INSIDE.format(t="e")}
             WHERE e.type = 'identify' OR e.context -> 'traits' IS NOT NULL
                OR e.context -> 'consent' IS NOT NULL
                OR e.context -> 'consentManagement' IS NOT NULL""",
        _bounds(slots),
    )
    return [
        _Said(node_id, kind, at, message_id, number, _decode(properties), _decode(context))
        for node_id, kind, at, message_id, number, properties, context in rows
    ]


def _read_groups(conn: Driver, slots: Collection[Slot]) -> list[_Said]:
    if not slots:
        return []
    rows = conn.execute(
        f"""SELECT e.node_id, e.type, e.at, e.message_id, e.source_number, a.account_no
              FROM {_SLOTS} JOIN events e ON {_INSIDE.format(t="e")}
              JOIN accounts a ON a.account_id = btrim(e.group_id, {_BLANK})
             WHERE e.type = 'group'""",
        _bounds(slots),
    )
    return [
        _Said(node_id, kind, at, message_id, number, {}, {}, account_no)
        for node_id, kind, at, message_id, number, account_no in rows
    ]


def _settle(conn: Driver, kind: _Kind, slots: Collection[Slot], said: Iterable[_Said]) -> set[int]:
    names = "".join(f", t.{column}" for column in kind.name)
    stored = {
        (node_id, tuple(name), since): ((at, message_id, number), value)
        for node_id, value, at, message_id, number, since, *name in conn.execute(
            f"""SELECT t.node_id, t.{kind.value}{"::text" * (kind is not _CONSENTS)},
                       t.at, t.message_id, t.source_number, nullif(t.since, '-infinity'){names}
                  FROM {_SLOTS} JOIN {kind.table} t ON {_INSIDE.format(t="t")}""",
            _bounds(slots),
        )
    }
    sinces: dict[int, list[datetime]] = {}
    for slot in slots:
        if slot.since is not None:
            sinces.setdefault(slot.node_id, []).append(slot.since)
    cuts = Cuts({node_id: sorted(times) for node_id, times in sinces.items()})
    wanted: dict[_Key, tuple[_Stamp, Any]] = {}
    for (node_id, name, _), (stamp, value) in stored.items():
        _take(wanted, (node_id, name, cuts.find_slot(node_id, stamp[0])), stamp, value)
    for event in said:
        stamp = (event.at, event.message_id, event.source_number)
        for name, value in kind.read(event).items():
            _take(wanted, (event.node_id, name, cuts.find_slot(event.node_id, event.at)),
                  stamp, value)  # fmt: skip
    return _replace(conn, kind, stored, wanted)


_Key = tuple[int, _Name, datetime | None]
"""Node, what names the register, beginning of the span."""


def _take(wanted: dict[_Key, tuple[_Stamp, Any]], key: _Key, stamp: _Stamp, value: Any) -> None:
    known = wanted.get(key)
    # Only traits are said in parts.
    part = key[1][1] if len(key[1]) > 2 else ""
    if known is None or outlives(part, stamp, known[0]):
        wanted[key] = (stamp, value)


def _replace(
    conn: Driver,
    kind: _Kind,
    stored: Mapping[_Key, tuple[_Stamp, Any]],
    wanted: Mapping[_Key, tuple[_Stamp, Any]],
) -> set[int]:
    stale = [key for key, row in stored.items() if _stamp_of(wanted, key) != row[0]]
    fresh = [key for key, row in wanted.items() if _stamp_of(stored, key) != row[0]]
    if stale:
        _delete(conn, kind, stale)
    if fresh:
        _insert(conn, kind, [(key, *wanted[key]) for key in fresh])
    return {key[0] for key in (*stale, *fresh)}


def _stamp_of(rows: Mapping[_Key, tuple[_Stamp, Any]], key: _Key) -> _Stamp | None:
    return rows[key][0] if key in rows else None


def _delete(conn: Driver, kind: _Kind, keys: Collection[_Key]) -> None:
    arrays = "".join(f", %b::{_TYPES.get(column, 'text')}[]" for column in kind.name)
    conn.execute(
        f"""DELETE FROM {kind.table} t
             USING unnest(%b::bigint[], %b::timestamptz[]{arrays})
                   AS s (node_id, since, {", ".join(kind.name)})
             WHERE t.node_id = s.node_id AND t.since = coalesce(s.since, '-infinity')
               {"".join(f"AND t.{column} = s.{column} " for column in kind.name)}""",
        _columns([(node_id, since, *name) for node_id, name, since in keys]),
    )


def _insert(conn: Driver, kind: _Kind, rows: Collection[tuple[_Key, _Stamp, Any]]) -> None:
    # The source stands in the stamp already.
    names = [column for column in kind.name if column != "source_number"]
    columns = ["node_id", "since", kind.value, "at", "message_id", "source_number", *names]
    arrays = "".join(f", %b::{_TYPES.get(column, 'text')}[]" for column in names)
    conn.execute(
        f"""INSERT INTO {kind.table} ({", ".join(columns)})
            SELECT {", ".join(columns).replace("since", "coalesce(since, '-infinity')")}
              FROM unnest(%b::bigint[], %b::timestamptz[], %b::{kind.form}, %b::timestamptz[],
                          %b::text[], %b::int[]{arrays})
                   AS s ({", ".join(columns)})""",
        _columns(
            [
                (node_id, since, value, *stamp, *name[: len(names)])
                for (node_id, name, since), stamp, value in rows
            ]
        ),
    )


def _columns(rows: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
