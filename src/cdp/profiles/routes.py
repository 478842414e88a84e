"""People over HTTP: one by any of their identifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Response

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.errors import Unprocessable
from cdp.model import Identifier
from cdp.profiles import profile_document as documents
from cdp.profiles.accounts_read_store import read_accounts
from cdp.profiles.profile_names import Normalise, parse_profile_name, profile_not_found
from cdp.profiles.profile_store import (
    PROFILE_ID,
    Found,
    Person,
    find_people,
    read_people,
    read_ranks,
    read_segments,
    read_sources,
    read_tags,
)
from cdp.profiles.said import list_changes, list_registers, list_statements
from cdp.profiles.timeline_store import Archived, read_said, read_timeline
from cdp.profiles.touches_store import read_touches
from cdp.profiles.traits import join_traits, list_history
from cdp.receipts import after_profiles
from cdp.runtime.clock import format_time, now, parse_time
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.storage.database import Database, Driver, driver

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Limit = Annotated[int, Query(ge=1, le=1000)]


@dataclass(frozen=True, slots=True)
class People:
    """The people of one database, found by identifiers as callers write them."""

    database: Database
    normalise: Normalise
    archived: Archived | None = None
    """Where days lie that Postgres no longer holds."""

    @contextmanager
    def find(self, name: str) -> Iterator[tuple[Driver, Identifier, Found]]:
        """Give a snapshot and whom ``name`` leads to; raise ``NotFound`` for nobody."""
        asked = parse_profile_name(name, self.normalise)
        with self.database.snapshot() as connection:
            tx = driver(connection)
            found = find_people(tx, [asked])[0]
            if found is None:
                raise profile_not_found()
            yield tx, asked, found

    @contextmanager
    def find_number(self, name: str) -> Iterator[tuple[Driver, int]]:
        """Give a snapshot and the number of the person whom ``name`` leads to, as ``find`` does."""
        with self.find(name) as (tx, _, found):
            yield tx, found.profile_no


def read_person(connection: Driver, found: Found) -> Person:
    """Return the person that was found; raise ``NotFound`` when it is gone."""
    person = read_people(connection, [found.profile_no]).get(found.profile_no)
    if person is None:
        raise profile_not_found()
    return person


def read_person_at(
    connection: Driver, found: Found, at: datetime, archived: Archived | None = None
) -> Person:
    """Return the person with what had been said of them by ``at``.

    Registers hold the newest only, so what was said later hides what counted before; then the
    timeline is asked.
    """
    person = read_person(connection, found)
    times = [register.at for register in person.registers]
    times += [statement.at for statement in person.statements]
    if max(times, default=at) > at:
        said = read_said(connection, found.profile_no, archived)
        person.registers = list(list_registers(said, read_ranks(connection)))
        person.statements = list(list_statements(said))
    return person


def create_router(
    database: Database, normalise: Normalise, archived: Archived | None = None
) -> APIRouter:
    """Return the routes of one person. ``normalise`` is identity's, with its rules."""
    router = APIRouter(tags=["profiles"], dependencies=[Depends(after_profiles)])
    people = People(database, normalise, archived)
    _add_profile(router, people)
    _add_traits(router, people)
    _add_events(router, people)
    _add_lists(router, people)
    return router


def _add_profile(router: APIRouter, people: People) -> None:
    @router.get("/v1/profiles/{p}")
    def get_profile(
        caller: Reader,
        p: str,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Show a person, asked for by any identifier or by any profile id ever issued."""
        moment = now()
        with people.find(p) as (tx, asked, found):
            person = read_person_at(tx, found, moment, people.archived)
            sources = read_sources(tx)
            accounts = read_accounts(tx, found.profile_no, moment)
            first_touch, last_touch = read_touches(tx, found.profile_no)
        shown = documents.show_person(person, sources, moment, is_masked=not caller.sees_personal)
        is_old_id = asked.type == PROFILE_ID and asked.value != person.profile_id
        document = {
            "id": shown.pop("id"),
            "asked_as": str(asked),
            "redirected_from": asked.value if is_old_id else None,
            **shown,
            "accounts": accounts,
            "first_touch": first_touch,
            "last_touch": last_touch,
        }
        return answer_tagged(document, if_none_match)


def answer_tagged(document: dict[str, Any], if_none_match: str | None) -> Response:
    """Answer ``document`` with its ETag, or 304 when the caller has it already.

    The tag is made from the content: the version alone does not change when only time passes.
    """
    body = msgspec.json.encode(document)
    tag = f'"{document["version"]}-{_digest(body)}"'
    known = {part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, media_type="application/json", headers={"ETag": tag})


def _digest(body: bytes) -> str:
    return blake2b(body, digest_size=8).hexdigest()


def _add_traits(router: APIRouter, people: People) -> None:
    @router.get("/v1/profiles/{p}/traits")
    def list_traits(
        caller: Reader,
        p: str,
        at: str | None = None,
        provenance: bool = False,
        history: bool = False,
    ) -> Response:
        """Show each trait, as of `at`; with `provenance` who said it, when, and in which message.

        With `history` everything that was said until then, newest first; null is a removal.
        """
        moment = _parse_moment("at", at) or now()
        with people.find(p) as (tx, _, found):
            if history:
                said = read_said(tx, found.profile_no, people.archived)
                registers = list_history(list_changes(said), moment)
            else:
                person = read_person_at(tx, found, moment, people.archived)
                registers = list(join_traits(person.registers, moment).values())
            sources = read_sources(tx)
        rows = documents.show_trait_rows(
            registers,
            sources,
            with_provenance=provenance or history,
            is_masked=not caller.sees_personal,
        )
        return answer_rows(rows, None)


def _add_events(router: APIRouter, people: People) -> None:
    @router.get("/v1/profiles/{p}/events")
    def list_events(
        caller: Reader,
        p: str,
        event: str | None = None,
        since: Annotated[str | None, Query(alias="from")] = None,
        until: Annotated[str | None, Query(alias="to")] = None,
        order: Literal["asc", "desc"] = "desc",
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> Response:
        """Show what a person did, newest first, in ``from`` <= time < ``to``."""
        with people.find(p) as (tx, _, found):
            events = read_timeline(
                tx,
                found.profile_no,
                limit=limit + 1,
                order=order,
                event=event,
                since=_parse_moment("from", since),
                until=_parse_moment("to", until),
                past=decode_cursor(cursor, tuple[datetime, int, str]) if cursor else None,
                archived=people.archived,
            )
            sources = read_sources(tx)
        page = events[:limit]
        is_masked = not caller.sees_personal
        return answer_rows(
            [documents.show_event(event, sources, is_masked=is_masked) for event in page],
            encode_cursor(page[-1].key) if len(events) > limit else None,
        )


def _add_lists(router: APIRouter, people: People) -> None:
    def add(name: str, summary: str, read: Callable[[Driver, Found, Caller], list[Any]]) -> None:
        @router.get(f"/v1/profiles/{{p}}/{name}", name=f"list_{name}", description=summary)
        def list_rows(caller: Reader, p: str) -> Response:
            with people.find(p) as (tx, _, found):
                rows = read(tx, found, caller)
            return answer_rows(rows, None)

    def read_identifiers(tx: Driver, found: Found, caller: Caller) -> list[Any]:
        nodes = read_person(tx, found).nodes
        is_masked = not caller.sees_personal
        return documents.show_identifiers(nodes, read_sources(tx), is_masked=is_masked)

    def read_member_of(tx: Driver, found: Found, _: Caller) -> list[Any]:
        rows = read_segments(tx, found.profile_id)
        return [{**row, "entered_at": format_time(row["entered_at"])} for row in rows]

    def read_tag_values(tx: Driver, found: Found, _: Caller) -> list[Any]:
        return [{**row, "at": format_time(row["at"])} for row in read_tags(tx, found.profile_id)]

    def read_accounts_of(tx: Driver, found: Found, _: Caller) -> list[Any]:
        return read_accounts(tx, found.profile_no, now())

    add("accounts", "The accounts that a person belongs to.", read_accounts_of)
    add("identifiers", "The identifiers that lead to a person.", read_identifiers)
    add("segments", "The segments that a person is in, as last computed.", read_member_of)
    add("tags", "A person's tag values, as last computed.", read_tag_values)


def answer_rows(rows: list[Any], following: str | None) -> Response:
    """Answer one page of a list, and the cursor of the next."""
    return Response(
        msgspec.json.encode({"data": rows, "next": following}), media_type="application/json"
    )


def _parse_moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    # A plus sign that was not percent-encoded arrives as a space.
    moment = parse_time(text.replace(" ", "+")) or parse_time(text)
    if moment is None:
        raise Unprocessable(
            "invalid_parameter", f"{name}: write a time as 2026-03-01T08:00:00Z", path=f"/{name}"
        )
    return moment
