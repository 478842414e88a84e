"""People over HTTP: one by any of their identifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Response

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.profiles import profile_document as documents
from cdp.profiles.accounts_read_store import read_accounts
from cdp.profiles.page_asgi import PROFILE_ROUTE
from cdp.profiles.pages import Asked, Pages
from cdp.profiles.people import People as People
from cdp.profiles.people import read_person as read_person
from cdp.profiles.people import read_person_at
from cdp.profiles.profile_examples import PROFILE_EXAMPLE
from cdp.profiles.profile_names import Normalise
from cdp.profiles.profile_parts import ReadPart, show_segments
from cdp.profiles.profile_store import Found, read_sources
from cdp.profiles.said import list_changes
from cdp.profiles.tag_values_store import read_tag_values
from cdp.profiles.timeline_store import Archived, read_said, read_timeline
from cdp.profiles.traits import fold_traits, list_history
from cdp.receipts import after_profiles
from cdp.runtime.clock import now
from cdp.runtime.cursors import cut_page, decode_cursor, encode_cursor
from cdp.runtime.query_time import read_query_time
from cdp.storage.database import Database, Driver

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Limit = Annotated[int, Query(ge=1, le=1000)]


def create_router(
    database: Database,
    normalise: Normalise,
    archived: Archived | None = None,
    parts: Mapping[str, ReadPart] | None = None,
) -> APIRouter:
    """Return the routes of one person. ``normalise`` is identity's, with its rules.

    ``parts`` are what other stages show with a profile when it is asked for by `include`.
    """
    return create_person_router(Pages(People(database, normalise, archived), parts))


def create_person_router(pages: Pages) -> APIRouter:
    """Return the routes of one person, whose page is one of ``pages``."""
    router = APIRouter(tags=["profiles"], dependencies=[Depends(after_profiles)])
    people = pages.people
    _add_profile(router, pages)
    _add_traits(router, people)
    _add_events(router, people)
    _add_lists(router, people)
    return router


def _add_profile(router: APIRouter, pages: Pages) -> None:
    @router.get(
        PROFILE_ROUTE,
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
        return pages.show(Asked(p, caller, fields, include, at, limit, if_none_match))


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
            rows = read_tag_values(tx, found.profile_id, at, is_masked=not caller.sees_personal)
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
