"""The page of one person: the document, and what is asked for with it by `include`.

As of now it is read with one statement. What this does not cover is read part by part: a former
time, parts of other stages, newest events that lie in the archive, and people of whom something was
said that does not count yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
from starlette.responses import Response

from cdp.access.read_audit import note_person
from cdp.access.scopes import Caller
from cdp.errors import Unprocessable
from cdp.model import Identifier
from cdp.profiles import profile_document as documents
from cdp.profiles.page_store import EVENTS, NOTHING, NewestEvents, Page, read_page
from cdp.profiles.people import People, has_later, read_person_at
from cdp.profiles.profile_names import parse_profile_name, profile_not_found
from cdp.profiles.profile_parts import (
    ALWAYS,
    INCLUDED,
    Fields,
    PartQuery,
    ReadPart,
    ask_members,
    list_members,
    list_needed,
    mask_members,
    parse_fields,
    parse_include,
)
from cdp.profiles.profile_store import PROFILE_ID, Found, read_sources
from cdp.runtime.clock import format_time, now
from cdp.runtime.cursors import encode_cursor
from cdp.runtime.query_time import read_query_time
from cdp.storage.database import Driver


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller wrote: whom they ask for, and what they want to see."""

    name: str
    caller: Caller
    fields: str | None = None
    include: str | None = None
    at: str | None = None
    limit: int = 50
    if_none_match: str | None = None


class Pages:
    """The pages of all people."""

    def __init__(self, people: People, parts: Mapping[str, ReadPart] | None = None) -> None:
        """``parts`` are what other stages show with a profile when it is asked for by `include`."""
        self.people = people
        self.parts = {**INCLUDED, **(parts or {})}

    def show(self, asked: Asked) -> Response:
        """Answer with a person's page. Raises ``NotFound``, ``Unprocessable``."""
        wanted, names = parse_fields(asked.fields), parse_include(asked.include, self.parts)
        then = read_query_time("at", asked.at)
        document = None
        if then is None and set(names) <= {EVENTS}:
            document = self._read_at_once(asked, wanted, bool(names))
        if document is None:
            document = self._read_by_parts(asked, wanted, names, then)
        return answer_tagged(document, asked.if_none_match)

    def _read_at_once(
        self, asked: Asked, wanted: Fields | None, has_events: bool
    ) -> dict[str, Any] | None:
        """Return the document; ``None`` when registers and newest events do not tell it."""
        name = parse_profile_name(asked.name, self.people.normalise)
        moment, is_masked = now(), not asked.caller.sees_personal
        parts = {*list_needed(wanted), *list_members(wanted), *((EVENTS,) if has_events else ())}
        archived = self.people.archived
        may_hold = NOTHING if archived is None else archived.may_hold
        page = self.people.database.read(
            lambda connection: read_page(
                connection, name, parts, moment, limit=asked.limit, may_hold=may_hold
            )
        )
        if page is None:
            raise profile_not_found()
        note_person(page.found.profile_id)
        if has_later(page.person, moment) or (page.events and not page.events.are_all):
            return None
        document = _show_page(name, page, wanted, moment, is_masked=is_masked)
        if page.events is not None:
            document["included"] = {EVENTS: _show_events(page.events, is_masked=is_masked)}
        return document

    def _read_by_parts(
        self, asked: Asked, wanted: Fields | None, names: Sequence[str], then: datetime | None
    ) -> dict[str, Any]:
        if then is not None:
            wanted = as_of(wanted)
        with self.people.find(asked.name) as (tx, name, found):
            query = make_query(self.people, tx, found, asked.caller, then or now(), asked.limit)
            document = read_document(name, found, query, wanted)
            if names:
                document["included"] = {name: self.parts[name](query) for name in names}
        if then is not None:
            tell_as_of(document, then)
        return document


def _show_page(
    asked: Identifier, page: Page, wanted: Fields | None, moment: datetime, *, is_masked: bool
) -> dict[str, Any]:
    shown = documents.show_person(page.person, page.sources, moment, is_masked=is_masked)
    members = mask_members(page.members) if is_masked else page.members
    return _put_together(asked, shown, members, wanted)


def _show_events(events: NewestEvents, *, is_masked: bool) -> dict[str, Any]:
    shown: Any = msgspec.Raw(events.shown)
    if is_masked:
        shown = [documents.mask_shown_event(one) for one in msgspec.json.decode(events.shown)]
    following = events.following
    return {"data": shown, "next": None if following is None else encode_cursor(following)}


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
    return _put_together(asked, shown, members, wanted)


def _put_together(
    asked: Identifier, shown: dict[str, Any], members: Mapping[str, Any], wanted: Fields | None
) -> dict[str, Any]:
    is_old_id = asked.type == PROFILE_ID and asked.value != shown["id"]
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
