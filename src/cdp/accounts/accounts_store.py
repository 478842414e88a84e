"""Keep what is said of accounts and of their members: registers, whatever the order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from cdp.accounts.account import PARENT, AccountSaid, MemberSaid, Stamp, keep_newest
from cdp.storage.database import Driver
from cdp.storage.registers_store import Cuts, find_cuts

_encode = msgspec.json.Encoder().encode


class PlacedAccount(NamedTuple):
    """What a message says of an account, with the nodes of the members it names."""

    said: AccountSaid
    source_number: int
    members: Sequence[tuple[int, MemberSaid]] = ()

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.said.at, self.said.message_id, self.source_number)


@dataclass(slots=True)
class AccountChanges:
    """Of what something else is true than before."""

    accounts: set[int] = field(default_factory=set)
    nodes: set[int] = field(default_factory=set)
    """Nodes whose memberships changed."""


_FIND = "SELECT account_id, account_no FROM accounts WHERE account_id = ANY(%b::text[])"
_ADD = """
INSERT INTO accounts (account_id)
SELECT account_id FROM unnest(%b::text[]) AS t (account_id) ORDER BY 1
    ON CONFLICT DO NOTHING
RETURNING account_no
"""


class _Register(NamedTuple):
    """A table of registers: which columns name one of them."""

    table: str
    keys: tuple[tuple[str, str], ...]
    """Columns and their types. ``since`` is the beginning of a node's span, null for the first."""

    @property
    def key_names(self) -> str:
        return ", ".join(name for name, _ in self.keys)

    @property
    def key_lists(self) -> str:
        return ", ".join(f"%b::{kind}[]" for _, kind in self.keys)

    def _read_keys(self, form: str) -> str:
        return ", ".join(form.format(name) if name == "since" else name for name, _ in self.keys)

    def lock(self) -> str:
        """SQL that reads, and holds, the registers that exist."""
        return f"""SELECT {self._read_keys("nullif({}, '-infinity')")}, r.value::text
                     FROM {self.table} r
                     JOIN (SELECT {self._read_keys("coalesce({0}, '-infinity') AS {0}")}
                             FROM unnest({self.key_lists}) AS u ({self.key_names})) t
                    USING ({self.key_names})
                    ORDER BY {self.key_names} FOR UPDATE OF r"""

    def write(self) -> str:
        """SQL that lets each register take a newer value."""
        stamp = '{0}.at, {0}.message_id COLLATE "C", {0}.source_number'
        values = "value, at, message_id, source_number"
        return f"""INSERT INTO {self.table} AS r ({self.key_names}, {values})
                   SELECT {self._read_keys("coalesce({}, '-infinity')")}, {values}
                     FROM unnest({self.key_lists}, %b::text[]::json[], %b::timestamptz[],
                                 %b::text[], %b::int[]) AS t ({self.key_names}, {values})
                       ON CONFLICT ({self.key_names}) DO UPDATE
                      SET value = excluded.value, at = excluded.at,
                          message_id = excluded.message_id, source_number = excluded.source_number
                    WHERE ({stamp.format("excluded")}) > ({stamp.format("r")})
                RETURNING {self._read_keys("nullif(r.{}, '-infinity')")}"""


_FACTS = _Register("account_facts", (("account_no", "bigint"), ("kind", "text"), ("name", "text")))
_MEMBERS = _Register(
    "account_members",
    (("account_no", "bigint"), ("node_id", "bigint"), ("fact", "text"), ("since", "timestamptz")),
)


def write_accounts(connection: Driver, placed: Sequence[PlacedAccount]) -> AccountChanges:
    """Let every register take the newest value said of it; return what changed by that.

    A call that says again what is known changes nothing, however often it comes.
    """
    changes = AccountChanges()
    if not placed:
        return changes
    numbers = _number_accounts(connection, _list_ids(placed), changes)
    facts = keep_newest(_list_facts(placed, numbers))
    changes.accounts |= {key[0] for key in _write(connection, _FACTS, facts)}
    named = {node_id for one in placed for node_id, _ in one.members}
    cuts = find_cuts(connection, named) if named else Cuts({})
    members = keep_newest(_list_members(placed, numbers, cuts))
    changes.nodes |= {key[1] for key in _write(connection, _MEMBERS, members)}
    return changes


def _list_ids(placed: Iterable[PlacedAccount]) -> set[str]:
    ids = {one.said.account_id for one in placed}
    return ids | {parent for one in placed if (parent := one.said.fields.get(PARENT))}


def _number_accounts(connection: Driver, ids: set[str], changes: AccountChanges) -> dict[str, int]:
    numbers = _find(connection, sorted(ids))
    missing = sorted(ids - numbers.keys())
    if missing:
        made = connection.execute(_ADD, (missing,)).fetchall()
        changes.accounts |= {number for (number,) in made}
        # Those that another worker made meanwhile too.
        numbers |= _find(connection, missing)
    return numbers


def _find(connection: Driver, ids: list[str]) -> dict[str, int]:
    return dict(connection.execute(_FIND, (ids,)).fetchall())


def _list_facts(
    placed: Iterable[PlacedAccount], numbers: dict[str, int]
) -> Iterator[tuple[tuple[Any, ...], Any, Stamp]]:
    for one in placed:
        number = numbers[one.said.account_id]
        for kind, values in (("field", one.said.fields), ("trait", one.said.traits)):
            for name, value in values.items():
                yield (number, kind, name), value, one.stamp


def _list_members(
    placed: Iterable[PlacedAccount], numbers: dict[str, int], cuts: Cuts
) -> Iterator[tuple[tuple[Any, ...], Any, Stamp]]:
    for one in placed:
        number = numbers[one.said.account_id]
        for node_id, said in one.members:
            since = cuts.find_slot(node_id, one.said.at)
            for fact, value in said.facts().items():
                yield (number, node_id, fact, since), value, one.stamp


def _write(
    connection: Driver, register: _Register, newest: dict[tuple[Any, ...], tuple[Any, Stamp]]
) -> list[tuple[Any, ...]]:
    """Write the registers; return the keys of those that hold another value than before."""
    if not newest:
        return []
    # Sorted, so that two workers lock shared rows in one order; the spans of a node need none.
    rows = sorted(newest.items(), key=lambda row: row[0][:3])
    keys = [list(column) for column in zip(*(key for key, _ in rows), strict=True)]
    texts = {key: _encode(value).decode() for key, (value, _) in rows}
    before = {
        tuple(key): text for *key, text in connection.execute(register.lock(), keys).fetchall()
    }
    stamps = [stamp for _, (_, stamp) in rows]
    written = connection.execute(
        register.write(),
        (
            *keys,
            [texts[key] for key, _ in rows],
            [stamp.at for stamp in stamps],
            [stamp.message_id for stamp in stamps],
            [stamp.source_number for stamp in stamps],
        ),
    ).fetchall()
    return [key for key in written if before.get(key) != texts[key]]
