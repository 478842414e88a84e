"""Many people over HTTP: search by what is known of them, and look-up in bulk."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import masking
from cdp.access.guard import require
from cdp.access.read_audit import note_nothing_personal, note_people
from cdp.access.scopes import PII_READ, Caller
from cdp.errors import Forbidden
from cdp.model import Identifier
from cdp.profiles import profile_document as documents
from cdp.profiles.consent_store import find_reachable
from cdp.profiles.profile_examples import LOOKUP_EXAMPLE, SEARCH_EXAMPLE
from cdp.profiles.profile_names import Normalise, read_identifier
from cdp.profiles.profile_parts import (
    Fields,
    PartQuery,
    list_needed,
    parse_fields,
    read_members,
)
from cdp.profiles.profile_store import Found, Person, find_people, read_people, read_sources
from cdp.profiles.search_store import IdentifierFilter, TraitFilter, search_people
from cdp.profiles.trait_names_store import list_spellings
from cdp.profiles.traits import join_traits
from cdp.reach import name_statement
from cdp.receipts import after_profiles
from cdp.runtime.clock import now
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.storage.database import Database, Driver, driver

MOST_LOOKED_UP = 500
_TRAIT, _IDENTIFIER, _PREFIX = "trait.", "identifier.", "^"
_NONE_HIDDEN: tuple[str, ...] = ()

Reader = Annotated[Caller, Depends(require("profiles:read"))]


class AskedIdentifier(BaseModel):
    """An identifier as the caller writes it."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(min_length=1, max_length=200)
    value: str = Field(max_length=1000)


class Lookup(BaseModel):
    """The identifiers of a bulk look-up."""

    model_config = ConfigDict(extra="forbid")

    identifiers: list[AskedIdentifier] = Field(max_length=MOST_LOOKED_UP)
    fields: list[str] | None = Field(
        None, max_length=100, description="Members of the profile to show, such as `traits.city`."
    )
    consent: str | None = Field(
        None, min_length=1, max_length=200, description="Say who may be reached for this purpose."
    )
    channel: Literal["email", "sms", "wechat", "push", "phone"] | None = None


def create_router(database: Database, normalise: Normalise) -> APIRouter:
    """Return the routes of many people. ``normalise`` is identity's, with its rules."""
    router = APIRouter(tags=["profiles"], dependencies=[Depends(after_profiles)])

    @router.get(
        "/v1/profiles",
        responses={200: {"content": {"application/json": {"example": SEARCH_EXAMPLE}}}},
    )
    def search_profiles(
        caller: Reader,
        request: Request,
        q: Annotated[
            str | None,
            Query(
                max_length=200,
                description="Anything in a text, such as a name; or how an identifier begins.",
            ),
        ] = None,
        fields: Annotated[
            str | None, Query(description="Only these members, such as `traits.city`.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> Response:
        r"""Find people by their traits, their identifiers, and by `q`; all must hold.

        `trait.city=上海` is the value, `trait.city^=上` how it begins, `trait.address.zip=200000`
        reaches into an object (a dot in a name is `\.`). `identifier.user_id=42` and
        `identifier.user_id^=4` likewise. A standard trait is found under each of its usual names:
        `trait.first_name` also finds who has `firstName`.
        """  # fmt: skip
        search = read_search(request.query_params.multi_items(), normalise, q)
        _refuse_personal(search, caller)
        wanted = parse_fields(fields)
        after = decode_cursor(cursor, tuple[int])[0] if cursor else 0
        moment = now()
        with database.snapshot() as connection:
            tx = driver(connection)
            search = _spell_out(tx, search, caller)
            people, following = _search(tx, search, caller, after, limit, moment)
            sources = read_sources(tx)
        note_people(len(people))
        is_masked = not caller.sees_personal
        rows = [documents.show_person(p, sources, moment, is_masked=is_masked) for p in people]
        rows = rows if wanted is None else [wanted.cut(row) for row in rows]
        return Response(
            msgspec.json.encode({"data": rows, "next": following}), media_type="application/json"
        )

    @router.post(
        "/v1/profiles/lookup",
        responses={200: {"content": {"application/json": {"example": LOOKUP_EXAMPLE}}}},
    )
    def look_up(caller: Reader, body: Lookup) -> Response:
        """Say which profile each identifier leads to, in the order asked; never makes one.

        With `fields` each row also has these members of the profile, such as `traits.city`.
        """
        fields = parse_fields(body.fields)
        asked = [read_identifier(a.type, a.value, normalise) for a in body.identifiers]
        known = [identifier for identifier in asked if identifier is not None]
        shown: Mapping[int, dict[str, Any]] = {}
        reachable: frozenset[int] | None = None
        if fields is None and body.consent is None:
            note_nothing_personal()
            people = database.read(lambda connection: _find_all(connection, known))
            found = [people.get(one) for one in asked]
        else:
            with database.snapshot() as connection:
                tx = driver(connection)
                people = _find_all(tx, known)
                found = [people.get(one) for one in asked]
                reachable = _find_reachable(tx, found, body)
                if fields is None:
                    note_nothing_personal()
                else:
                    numbers = {one.profile_no for one in found if one is not None}
                    note_people(len(numbers))
                    shown = _show_fields(tx, numbers, caller, fields)
        rows = [
            {
                "type": written.type,
                "value": written.value,
                "profile_id": None if one is None else one.profile_id,
                **_say_reachable(reachable, one),
                **({} if fields is None else {"profile": one and shown.get(one.profile_no)}),
            }
            for written, one in zip(body.identifiers, found, strict=True)
        ]
        return Response(
            msgspec.json.encode({"data": rows, "next": None}), media_type="application/json"
        )

    return router


def _find_all(tx: Driver, known: Sequence[Identifier]) -> dict[Identifier | None, Found | None]:
    return dict(zip(known, find_people(tx, known), strict=True))


def _find_reachable(
    tx: Driver, found: Iterable[Found | None], body: Lookup
) -> frozenset[int] | None:
    """Return who may be reached as was asked; ``None`` when it was not."""
    if body.consent is None:
        return None
    numbers = {one.profile_no for one in found if one is not None}
    return find_reachable(tx, numbers, name_statement(body.consent, body.channel), now())


def _say_reachable(reachable: frozenset[int] | None, found: Found | None) -> dict[str, Any]:
    if reachable is None:
        return {}
    return {"may_be_reached": found is not None and found.profile_no in reachable}


def _show_fields(
    tx: Driver, numbers: Collection[int], caller: Caller, fields: Fields
) -> dict[int, dict[str, Any]]:
    """Return the wanted members of people by their number: few statements for all of them."""
    moment, sources = now(), read_sources(tx)
    is_masked = not caller.sees_personal
    people = read_people(tx, numbers, list_needed(fields))
    shown = {}
    for number, person in people.items():
        document = documents.show_person(person, sources, moment, is_masked=is_masked)
        query = PartQuery(tx, number, person.profile_id, moment, sources, caller)
        shown[number] = fields.cut({**document, **read_members(query, fields)})
    return shown


class Search(NamedTuple):
    """What is looked for; all of it must hold."""

    traits: tuple[TraitFilter, ...]
    identifiers: tuple[IdentifierFilter, ...]
    words: str | None
    is_hopeless: bool = False
    """An identifier is asked for that nobody can have."""


def read_search(
    parameters: Sequence[tuple[str, str]], normalise: Normalise, words: str | None = None
) -> Search:
    """Read the filters of a search; parameters that are none are passed over."""
    traits, identifiers, is_hopeless = [], [], False
    for key, value in parameters:
        is_prefix = key.endswith(_PREFIX)
        text = value.replace("\0", "\ufffd")
        if key.startswith(_TRAIT):
            name, *path = split_path(key.removeprefix(_TRAIT).removesuffix(_PREFIX))
            traits.append(TraitFilter(name, tuple(path), text, is_prefix))
        elif key.startswith(_IDENTIFIER):
            kind = key.removeprefix(_IDENTIFIER).removesuffix(_PREFIX)
            # The beginning of a value need not be a value.
            found = Identifier(kind, text) if is_prefix else read_identifier(kind, text, normalise)
            if found is None:
                is_hopeless = True
            else:
                identifiers.append(IdentifierFilter(found, is_prefix))
    return Search(tuple(traits), tuple(identifiers), words, is_hopeless)


def split_path(path: str) -> list[str]:
    r"""Split at the dots that no backslash stands before; ``\.`` is a dot, ``\\`` a backslash."""
    steps = re.findall(r"(?:\\[\\.]|[^.])+|(?<=\.)(?=\.|$)|^(?=\.|$)", path) or [""]
    return [re.sub(r"\\([\\.])", r"\1", step).replace("\0", "\ufffd") for step in steps]


def _refuse_personal(search: Search, caller: Caller) -> None:
    """A filter on a masked value would tell whether a guess is right."""
    if caller.sees_personal:
        return
    personal = [one.name for one in search.traits if _is_personal(one.name, one.path)]
    personal += [
        asked.type
        for asked, _ in search.identifiers
        if masking.mask_identifier(asked.type, asked.value) != asked.value or "@" in asked.value
    ]
    if personal:
        raise Forbidden(
            "missing_scope",
            f"searching by {personal[0]} needs a token with the scope {PII_READ}",
            details={"missing": [PII_READ]},
        )


def _spell_out(tx: Driver, search: Search, caller: Caller) -> Search:
    """Let each filter on a standard trait look under its other names, hidden ones excepted."""
    traits = []
    for one in search.traits:
        others = [
            name
            for name in list_spellings(tx, one.name)
            if name != one.name and (caller.sees_personal or not masking.is_personal(name))
        ]
        traits.append(one._replace(others=tuple(others)))
    return search._replace(traits=tuple(traits))


def _is_personal(name: str, path: Sequence[str]) -> bool:
    return any(masking.is_personal(step) for step in (name, *path))


def _search(
    tx: Driver, search: Search, caller: Caller, after: int, limit: int, moment: datetime
) -> tuple[list[Person], str | None]:
    hidden = _NONE_HIDDEN if caller.sees_personal else tuple(masking.PERSONAL_IDENTIFIERS)
    found: list[Person] = []
    while not search.is_hopeless:
        numbers = search_people(
            tx,
            traits=search.traits,
            identifiers=search.identifiers,
            words=search.words,
            hidden_types=hidden,
            after=after,
            limit=limit + 1,
        )
        people = read_people(tx, numbers)
        for number in numbers:
            if len(found) == limit:
                return found, encode_cursor((after,))
            after = number
            if number in people and _has_traits(people[number], search.traits, moment):
                found.append(people[number])
        if len(numbers) <= limit:
            break
    return found, None


def _has_traits(person: Person, wanted: Iterable[TraitFilter], moment: datetime) -> bool:
    """Whether the person's joined traits match; one of their nodes may hold an older value."""
    traits = join_traits(person.registers, moment)
    return all(
        any(
            name in traits and one.accepts(_as_text(traits[name].value, one.path))
            for name in one.names
        )
        for one in wanted
    )


def _as_text(value: Any, path: Sequence[str]) -> str | None:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, str) or value is None:
        return value
    return msgspec.json.encode(value).decode()
