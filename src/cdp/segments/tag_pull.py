"""Values of a tag with what else is asked of their people: read in Postgres, completed in DuckDB.

The ledger knows every value as of a moment; fields and consents are those of now, as in a pull of
members.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from cdp.access.masking import mask_value
from cdp.segments import members_engine, tag_history_store
from cdp.segments.export import read_rows
from cdp.segments.members_engine import Pull
from cdp.segments.person_engine import Reader
from cdp.segments.tag_history_store import HeldValue
from cdp.storage.database import Database, driver

CHUNK_ROWS = 20_000


class PulledValue(NamedTuple):
    """A value, and the fields of whose it is, in the order they were asked for."""

    held: HeldValue
    fields: list[Any]


def read_page(
    database: Database,
    reader: Reader,
    key: str,
    pull: Pull,
    *,
    after: str,
    most: int,
    is_masked: bool,
) -> list[PulledValue]:
    """Return the first ``most`` values after the profile ``after``, of those who consent."""
    found: list[PulledValue] = []
    chunks = _read_chunks(database, reader, key, pull, after, max(most, 1000), is_masked=is_masked)
    for rows in chunks:
        found += rows
        if len(found) >= most:
            break
    return found[:most]


def read_chunks(
    database: Database, reader: Reader, key: str, pull: Pull, *, is_masked: bool
) -> Iterator[list[PulledValue]]:
    """Yield all values in chunks of bounded size: memory stays flat however many there are."""
    return _read_chunks(database, reader, key, pull, "", CHUNK_ROWS, is_masked=is_masked)


def _read_chunks(
    database: Database,
    reader: Reader,
    key: str,
    pull: Pull,
    after: str,
    size: int,
    *,
    is_masked: bool,
) -> Iterator[list[PulledValue]]:
    while True:
        with database.transaction() as connection:
            rows = tag_history_store.read_values(
                driver(connection), key, pinned=pull.pinned, after=after, most=size
            )
        completed = _complete(reader, pull, rows, is_masked=is_masked)
        if completed:
            yield completed
        if len(rows) < size:
            return
        after = rows[-1].profile_id


def _complete(
    reader: Reader, pull: Pull, rows: list[HeldValue], *, is_masked: bool
) -> list[PulledValue]:
    if is_masked:
        rows = [row._replace(value=_mask(row.value)) for row in rows]
    if not (pull.fields or pull.purposes):
        return [PulledValue(row, []) for row in rows]
    people = members_engine.read_people(reader, pull, [row.profile_no for row in rows])
    known = {
        profile_id: values
        for profile_id, _, values in read_rows(people, pull.fields, is_masked=is_masked)
    }
    if pull.purposes:
        rows = [row for row in rows if row.profile_id in known]
    # Whoever was merged into another since has the value of then, and nothing else.
    absent = [None] * len(pull.fields)
    return [PulledValue(row, known.get(row.profile_id, absent)) for row in rows]


def _mask(text: str) -> str:
    return msgspec.json.encode(mask_value(msgspec.json.decode(text))).decode()
