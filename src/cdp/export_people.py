"""Everything that is held of a person, as one archive: a folder each, with JSON and CSV.

Read in one snapshot and written as it is read, so that a person of millions of events takes no more
memory than one of a few.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO
from zipfile import ZipFile

import msgspec

from cdp.model import Identifier
from cdp.orders.orders_read_store import read_orders, read_versions
from cdp.privacy.archives_folder import Archives
from cdp.privacy.people_store import Person, find_person, list_names, merge_people
from cdp.profiles import profile_document as documents
from cdp.profiles.accounts_read_store import read_accounts
from cdp.profiles.consent import list_consent_history
from cdp.profiles.consent_document import show_statements
from cdp.profiles.consent_history_store import read_statements
from cdp.profiles.moves_store import read_moves
from cdp.profiles.profile_store import read_people, read_segments, read_sources, read_tags
from cdp.profiles.said import list_changes
from cdp.profiles.timeline_store import Archived, read_said, read_timeline
from cdp.profiles.touches_store import read_touches
from cdp.profiles.traits import fold_traits, list_history
from cdp.runtime.clock import format_time
from cdp.service.fold import show_service
from cdp.service.service_store import read_service_events
from cdp.storage.database import Database, Driver, driver
from cdp.storage.tombstones_store import ensure_privacy_salt, hash_identifier

_PAGE = 1000
_EVENTS_PAGE = 10_000
"""More at a time: of an archived day each page reads what lies around it."""

Row = Mapping[str, Any]


def export_people(
    database: Database,
    archives: Archives,
    job_id: str,
    asked: Sequence[Identifier],
    now: datetime,
    archived: Archived | None = None,
) -> dict[str, Any]:
    """Write the archive of a job; return what it holds: people, files, hashes of who is in it."""
    with database.transaction() as connection:
        salt = ensure_privacy_salt(driver(connection))
    with database.snapshot() as connection, archives.write(job_id) as archive:
        tx = driver(connection)
        tx.execute("SET LOCAL statement_timeout = 0")
        found = [(one, find_person(tx, one)) for one in asked]
        people = merge_people(person for _, person in found if person is not None)
        for number, person in enumerate(people, 1):
            folder = f"{number}-{person.profile_id}"
            _Export(archive, tx, person, folder, now, archived).write()
        names = [name for one, person in found for name in list_names(one, person)]
        summary = {
            "made_at": format_time(now),
            "people": [person.profile_id for person in people],
            "unknown": sum(person is None for _, person in found),
        }
        archive.writestr("archive.json", _encode(summary))
        return {
            "people": len(people),
            "files": len(archive.namelist()),
            "held": sorted({hash_identifier(salt, name).hex() for name in names}),
        }


class _Export:
    """One person's folder."""

    def __init__(
        self,
        archive: ZipFile,
        tx: Driver,
        person: Person,
        folder: str,
        now: datetime,
        archived: Archived | None,
    ) -> None:
        self._archive = archive
        self._tx = tx
        self._no = person.profile_no
        self._ids = [person.profile_id, *person.profile_ids]
        self._folder = folder
        self._now = now
        self._archived = archived
        self._sources = read_sources(tx)

    def write(self) -> None:
        """Write all files."""
        person = read_people(self._tx, [self._no])[self._no]
        first, last = read_touches(self._tx, self._no)
        profile = documents.show_person(person, self._sources, self._now, is_masked=False)
        self._put_json("profile", {**profile, "first_touch": first, "last_touch": last})
        self._put("identifiers", profile["identifiers"])
        traits = fold_traits(person.registers, self._now)
        self._put("traits", documents.show_sourced_traits(traits, self._sources, is_masked=False))
        said = list_history(list_changes(read_said(self._tx, self._no, self._archived)), self._now)
        self._put(
            "trait_history",
            documents.show_trait_rows(said, self._sources, with_provenance=True, is_masked=False),
        )
        stated = [*read_statements(self._tx, self._no, self._archived), *person.statements]
        history = [(one.purpose, one) for one in list_consent_history(stated, self._now)]
        self._put("consents", show_statements(history, self._sources, is_masked=False))
        self._put("accounts", read_accounts(self._tx, self._no, self._now))
        self._put("segments", _plain(read_segments(self._tx, self._ids[0])))
        self._put("tags", _plain(read_tags(self._tx, self._ids[0])))
        moves = read_moves(self._tx, self._no, self._ids)
        self._put("segment_history", _plain(moves.segments))
        self._put("tag_history", _plain(moves.tags))
        self._put("tags_to_come", _plain(moves.to_come))
        self._put("history", list(self._list_history()))
        self._put("decisions", list(self._list_decisions(profile["identifiers"])))
        told = read_service_events(self._tx, self._no, self._now)
        self._put_json("service", show_service(told, self._now))
        self._put_all("orders", self._list_orders())
        self._put_all("events", self._list_events())

    def _list_history(self) -> Iterator[Row]:
        for at, change, profile_id, details in self._tx.execute(
            """SELECT at, change, profile_id, details FROM profile_changes
                WHERE profile_id = ANY(%s) ORDER BY change_no""",
            (self._ids,),
        ):
            yield {
                "at": format_time(at), "change": change, "profile_id": profile_id,
                "details": details,
            }  # fmt: skip

    def _list_decisions(self, identifiers: Iterable[Row]) -> Iterator[Row]:
        names = [json.dumps([{"type": one["type"], "value": one["value"]}]) for one in identifiers]
        for row in self._tx.execute(
            """SELECT decision_id, kind, identifiers, actor, reason, made_at, undone_at
                 FROM identity_decisions
                WHERE identifiers @> ANY(%s::jsonb[]) ORDER BY decision_no""",
            (names,),
        ):
            yield {
                "id": row[0], "kind": row[1], "identifiers": row[2], "actor": row[3],
                "reason": row[4], "at": format_time(row[5]),
                "undone_at": None if row[6] is None else format_time(row[6]),
            }  # fmt: skip

    def _list_orders(self) -> Iterator[Row]:
        past = None
        while True:
            page = read_orders(self._tx, self._no, limit=_PAGE, past=past)
            scopes: dict[int, str] = dict(
                self._tx.execute(
                    "SELECT order_no, scope FROM orders WHERE order_no = ANY(%s)",
                    ([number for (_, number), _ in page],),
                ).fetchall()
            )
            for (_, number), order in page:
                versions = read_versions(self._tx, scopes[number], order.order_id)
                yield {
                    **msgspec.to_builtins(order),
                    "versions": [
                        {"source": one.source, **msgspec.to_builtins(one.report)}
                        for one in versions
                    ],
                }
            if len(page) < _PAGE:
                return
            past = page[-1][0]

    def _list_events(self) -> Iterator[Row]:
        past = None
        while True:
            page = read_timeline(
                self._tx,
                self._no,
                limit=_EVENTS_PAGE,
                order="asc",
                past=past,
                archived=self._archived,
            )
            for event in page:
                yield documents.show_event(event, self._sources, is_masked=False)
            if len(page) < _EVENTS_PAGE:
                return
            past = page[-1].key

    # ── Files ───────────────────────────────────────────────────────────────────────────────────

    def _put_json(self, name: str, document: Any) -> None:
        self._archive.writestr(f"{self._folder}/{name}.json", _encode(document))

    def _put(self, name: str, rows: Sequence[Row]) -> None:
        self._put_json(name, rows)
        with self._open(f"{name}.csv") as file:
            _write_csv(file, rows)

    def _put_all(self, name: str, rows: Iterator[Row]) -> None:
        """Write rows of which there may be any number: the table is made from the JSON beside it.

        Only one file of an archive can be written at a time, so the rows are read twice.
        """
        columns: dict[str, None] = {}
        with self._open(f"{name}.json") as file:
            file.write("[")
            for number, row in enumerate(rows):
                columns |= dict.fromkeys(row)
                file.write((",\n" if number else "\n") + _encode(row))
            file.write("\n]\n")
        again = self._list_orders() if name == "orders" else self._list_events()
        with self._open(f"{name}.csv") as file:
            _write_csv(file, again, list(columns))

    def _open(self, name: str) -> TextIO:
        return io.TextIOWrapper(
            self._archive.open(f"{self._folder}/{name}", "w", force_zip64=True),
            "utf-8",
            newline="",
        )


def _write_csv(file: TextIO, rows: Iterable[Row], columns: Sequence[str] | None = None) -> None:
    if columns is None:
        rows = list(rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(file, columns, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(row.get(key)) for key in columns})


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        # A spreadsheet would run it.
        return f"'{value}"
    return value


def _encode(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_show)


def _show(value: Any) -> Any:
    return format_time(value) if isinstance(value, datetime) else str(value)


def _plain(rows: Iterable[Row]) -> list[Row]:
    return [
        {key: format_time(one) if isinstance(one, datetime) else one for key, one in row.items()}
        for row in rows
    ]
