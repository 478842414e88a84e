"""People over HTTP: one by any of their identifiers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Response

from cdp.access.guard import require
from cdp.access.read_audit import note_person
from cdp.access.scopes import Caller
from cdp.errors import NotFound, Unprocessable
from cdp.model import Identifier
from cdp.profiles import profile_document as documents
from cdp.profiles.accounts_read_store import read_accounts
from cdp.profiles.consent_history_store import read_kept
from cdp.profiles.default_consent_store import read_defaults
from cdp.profiles.profile_examples import PROFILE_EXAMPLE
from cdp.profiles.profile_names import Normalise, parse_profile_name, profile_not_found
from cdp.profiles.profile_parts import (
    ALWAYS,
    INCLUDED,
    Fields,
    PartQuery,
    ReadPart,
    ask_members,
    list_needed,
    parse_fields,
    parse_include,
    show_segments,
)
from cdp.profiles.profile_store import (
    PARTS,
    PROFILE_ID,
    Found,
    Person,
    find_people,
    list_profile_ids,
    read_people,
    read_ranks,
    read_sources,
)
from cdp.profiles.said import list_changes, list_registers, list_statements
from cdp.profiles.tag_values_store import read_tag_values
from cdp.profiles.timeline_store import Archived, read_said, read_timeline
from cdp.profiles.traits import fold_traits, list_history
from cdp.receipts import after_profiles
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import cut_page, decode_cursor, encode_cursor
from cdp.runtime.query_time import read_query_time
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
            note_person(found.profile_id)
            yield tx, asked, found

    def list_ids(self, name: str) -> list[str]:
        """Return every profile id that ever led to whom ``name`` leads to; nobody: as it is."""
        try:
            with self.find(name) as (tx, _, found):
                return list_profile_ids(tx, found.profile_no)
        except NotFound:
            return [name.removeprefix("id:")]

    @contextmanager
    def find_number(self, name: str) -> Iterator[tuple[Driver, int]]:
        """Give a snapshot and the number of the person whom ``name`` leads to, as ``find`` does."""
        with self.find(name) as (tx, _, found):
            yield tx, found.profile_no


def read_person(connection: Driver, found: Found, parts: Collection[str] = PARTS) -> Person:
    """Return the person that was found; raise ``NotFound`` when it is gone."""
    person = read_people(connection, [found.profile_no], parts).get(found.profile_no)
    if person is None:
        raise profile_not_found()
    return person


def read_person_at(
    connection: Driver,
    found: Found,
    at: datetime,
    archived: Archived | None = None,
    parts: Collection[str] = PARTS,
) -> Person:
    """Return the person with what had been said of them by ``at``.

    Registers hold the newest only, so what was said later hides what counted before; then the
    timeline is asked.
    """
    person = read_person(connection, found, parts)
    times = [register.at for register in person.registers]
    times += [statement.at for statement in person.statements]
    if max(times, default=at) > at:
        said = read_said(connection, found.profile_no, archived)
        person.registers = list(list_registers(said, read_ranks(connection)))
        person.statements = [
            *read_defaults(connection, found.profile_no, at),
            *read_kept(connection, found.profile_no),
            *list_statements(said),
        ]
    return person


def create_router(
    database: Database,
    normalise: Normalise,
    archived: Archived | None = None,
    parts: Mapping[str, ReadPart] | None = None,
) -> APIRouter:
    """Return the routes of one person. ``normalise`` is identity's, with its rules.

    ``parts`` are what other stages show with a profile when it is asked for by `include`.
    """
    router = APIRouter(tags=["profiles"], dependencies=[Depends(after_profiles)])
    people = People(database, normalise, archived)
    _add_profile(router, people, {**INCLUDED, **(parts or {})})
    _add_traits(router, people)
    _add_events(router, people)
    _add_lists(router, people)
    return router


def _add_profile(router: APIRouter, people: People, parts: Mapping[str, ReadPart]) -> None:
    @router.get(
        "/v1/profiles/{p}",
        responses={200: {"content": {"application/json": {"example": PROFILE_EXAMPLE}}}},
    )
    def get_profile(
        caller: Reader,
        p: str,
        fields: Annotated[
            str | None,
            Query(description="Only these members, such as `traits.city,consent,version`."),
        ] = None,
        include: Annotated[
            str | None,
            Query(
                description="Lists to show with it, in `included`: events, orders, tags, segments,"
                " history, service, …"
            ),
        ] = None,
        at: Annotated[
            str | None, Query(description="As of this time: who they were, what they had said.")
        ] = None,
        limit: Annotated[
            int, Query(ge=1, le=1000, description="The most rows of an included list.")
        ] = 50,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Show a person, asked for by any identifier or by any profile id ever issued.

        Only what `fields` names is read. With `at` the document holds what can be told of that
        time: identifiers seen by then, traits, consent, accounts.
        """
        wanted, names = parse_fields(fields), parse_include(include, parts)
        then = read_query_time("at", at)
        if then is not None:
            wanted = as_of(wanted)
        moment = then or now()
        with people.find(p) as (tx, asked, found):
            query = make_query(people, tx, found, caller, moment, limit)
            document = read_document(asked, found, query, wanted)
            if names:
                document["included"] = {name: parts[name](query) for name in names}
        if then is not None:
            tell_as_of(document, then)
        return answer_tagged(document, if_none_match)


def read_document(
    asked: Identifier, found: Found, query: PartQuery, wanted: Fields | None
) -> dict[str, Any]:
    """Return the profile as ``query`` asks, of which ``wanted`` members (None: all) are read."""
    # One round trip for all of it: what is asked within waits for nothing.
    with query.tx.pipeline():
        receive = ask_members(query, wanted)
        person = read_person_at(query.tx, found, query.now, query.archived, list_needed(wanted))
        members = receive()
    shown = documents.show_person(person, query.sources, query.now, is_masked=query.is_masked)
    is_old_id = asked.type == PROFILE_ID and asked.value != person.profile_id
    document = {
        "id": shown.pop("id"),
        "asked_as": str(asked),
        "redirected_from": asked.value if is_old_id else None,
        **shown,
        **members,
    }
    return document if wanted is None else wanted.cut(document)


def make_query(
    people: People, tx: Driver, found: Found, caller: Caller, moment: datetime, limit: int = 50
) -> PartQuery:
    """Return what parts of this person's profile are read with."""
    return PartQuery(
        tx,
        found.profile_no,
        found.profile_id,
        moment,
        read_sources(tx),
        caller,
        limit=limit,
        archived=people.archived,
    )


_AS_OF = ("identifiers", "name", "traits", "consent", "accounts")


def as_of(wanted: Fields | None) -> Fields:
    """Return which of ``wanted`` can be told of a former time. Raises ``Unprocessable``."""
    if wanted is None:
        return parse_fields(_AS_OF) or Fields(frozenset(), {})
    unknown = sorted(wanted.members - ALWAYS - set(_AS_OF))
    if unknown:
        raise Unprocessable(
            "not_as_of", f"{unknown[0]!r} is only known as of now; leave it out", path="/fields"
        )
    return wanted


def tell_as_of(document: dict[str, Any], then: datetime) -> None:
    """Leave out what was not known at ``then``, and say that this is as of that time."""
    document["at"] = format_time(then)
    if "identifiers" in document:
        document["identifiers"] = [
            one
            for one in document["identifiers"]
            if one["first_seen"] is not None and one["first_seen"] <= document["at"]
        ]


def answer_tagged(document: dict[str, Any], if_none_match: str | None) -> Response:
    """Answer ``document`` with its ETag, or 304 when the caller has it already.

    The tag is made from the content: the version alone does not change when only time passes.
    """
    body = msgspec.json.encode(document)
    # Without it in the fields, the content alone.
    tag = f'"{document.get("version", "")}-{_digest(body)}"'
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

        Of a trait said in parts, `parts` tells it of each. With `history` everything that was said
        until then, newest first; null is a removal.
        """
        moment = read_query_time("at", at) or now()
        with people.find(p) as (tx, _, found):
            if history:
                said = read_said(tx, found.profile_no, people.archived)
                registers = list_history(list_changes(said), moment)
            else:
                person = read_person_at(tx, found, moment, people.archived)
                traits = fold_traits(person.registers, moment)
                registers = [trait.newest for trait in traits.values()]
            sources = read_sources(tx)
        is_masked = not caller.sees_personal
        if provenance and not history:
            rows = documents.show_sourced_traits(traits, sources, is_masked=is_masked)
        else:
            rows = documents.show_trait_rows(
                registers, sources, with_provenance=history, is_masked=is_masked
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
                since=read_query_time("from", since),
                until=read_query_time("to", until),
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
    def add(
        name: str,
        summary: str,
        key: Sequence[str],
        read: Callable[[Driver, Found, Caller], list[Any]],
    ) -> None:
        """``key`` names the members that a row is known and ordered by."""

        @router.get(f"/v1/profiles/{{p}}/{name}", name=f"list_{name}", description=summary)
        def list_rows(
            caller: Reader, p: str, limit: Limit = 1000, cursor: str | None = None
        ) -> Response:
            past = decode_cursor(cursor, list[str]) if cursor else None
            with people.find(p) as (tx, _, found):
                rows = read(tx, found, caller)
            return answer_rows(*cut_rows(rows, limit, past, key))

    def read_identifiers(tx: Driver, found: Found, caller: Caller) -> list[Any]:
        nodes = read_person(tx, found, ("nodes",)).nodes
        is_masked = not caller.sees_personal
        return documents.show_identifiers(nodes, read_sources(tx), is_masked=is_masked)

    def read_accounts_of(tx: Driver, found: Found, _: Caller) -> list[Any]:
        return read_accounts(tx, found.profile_no, now())

    add("accounts", "The accounts that a person belongs to.", ("account_id",), read_accounts_of)
    add(
        "identifiers",
        "The identifiers that lead to a person.",
        ("type", "first_seen", "value"),
        read_identifiers,
    )
    add(
        "segments",
        "The segments that a person is in, as last computed.",
        ("segment",),
        lambda tx, found, _: show_segments(tx, found.profile_id),
    )

    @router.get("/v1/profiles/{p}/tags")
    def list_tags(
        caller: Reader,
        p: str,
        at: Annotated[str | None, Query(description="A time: the values as they were.")] = None,
        limit: Limit = 1000,
        cursor: str | None = None,
    ) -> Response:
        """A person's tag values, as last computed or as they were at a time."""
        past = decode_cursor(cursor, list[str]) if cursor else None
        with people.find(p) as (tx, _, found):
            rows = read_tag_values(tx, found.profile_id, at)
        return answer_rows(*cut_rows(rows, limit, past, ("key",)))


def cut_rows(
    rows: Sequence[Mapping[str, Any]], limit: int, past: list[str] | None, key: Sequence[str]
) -> tuple[list[Any], str | None]:
    """Return the page past the row ``past``, and the cursor of the next. Pure.

    Rows that come or go meanwhile move no other row to another page.
    """

    def place(row: Mapping[str, Any]) -> list[str]:
        return [str(row[name]) for name in key]

    ordered = sorted(rows, key=place)
    left = [row for row in ordered if past is None or place(row) > past]
    page, following = cut_page(left, limit, place)
    return list(page), following


def answer_rows(rows: list[Any], following: str | None) -> Response:
    """Answer one page of a list, and the cursor of the next."""
    return Response(
        msgspec.json.encode({"data": rows, "next": following}), media_type="application/json"
    )
