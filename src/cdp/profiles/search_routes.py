"""Many people over HTTP: search by traits or by the beginning of a value, and look-up in bulk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import masking
from cdp.access.guard import require
from cdp.access.scopes import PII_READ, Caller
from cdp.errors import Forbidden
from cdp.model import Identifier
from cdp.profiles import profile_document as documents
from cdp.profiles.consent_store import find_reachable
from cdp.profiles.profile_names import Normalise, read_identifier
from cdp.profiles.profile_store import Found, Person, find_people, read_people, read_sources
from cdp.profiles.search_store import search_people
from cdp.profiles.traits import join_traits
from cdp.reach import name_statement
from cdp.receipts import after_profiles
from cdp.runtime.clock import now
from cdp.runtime.cursors import decode_cursor, encode_cursor
from cdp.storage.database import Database, Driver, driver

MOST_LOOKED_UP = 500
_TRAIT_PREFIX = "trait."
_NONE_HIDDEN: tuple[str, ...] = ()

Reader = Annotated[Caller, Depends(require("profiles:read"))]
TraitFilters = Mapping[str, tuple[Sequence[str], str]]


class AskedIdentifier(BaseModel):
    """An identifier as the caller writes it."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(min_length=1, max_length=200)
    value: str = Field(max_length=1000)


class Lookup(BaseModel):
    """The identifiers of a bulk look-up."""

    model_config = ConfigDict(extra="forbid")

    identifiers: list[AskedIdentifier] = Field(max_length=MOST_LOOKED_UP)
    consent: str | None = Field(
        None, min_length=1, max_length=200, description="Say who may be reached for this purpose."
    )
    channel: Literal["email", "sms", "wechat", "push", "phone"] | None = None


def create_router(database: Database, normalise: Normalise) -> APIRouter:
    """Return the routes of many people. ``normalise`` is identity's, with its rules."""
    router = APIRouter(tags=["profiles"], dependencies=[Depends(after_profiles)])

    @router.get("/v1/profiles")
    def search_profiles(
        caller: Reader,
        request: Request,
        q: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: str | None = None,
    ) -> Response:
        """Find people by `trait.<name>=<value>`, and by `q`, the beginning of a word or value."""
        filters = read_filters(request.query_params.multi_items())
        _refuse_personal(filters, caller)
        after = decode_cursor(cursor, tuple[int])[0] if cursor else 0
        moment = now()
        with database.snapshot() as connection:
            tx = driver(connection)
            people, following = _search(tx, filters, q, caller, after, limit, moment)
            sources = read_sources(tx)
        is_masked = not caller.sees_personal
        rows = [documents.show_person(p, sources, moment, is_masked=is_masked) for p in people]
        return Response(
            msgspec.json.encode({"data": rows, "next": following}), media_type="application/json"
        )

    @router.post("/v1/profiles/lookup")
    def look_up(caller: Reader, body: Lookup) -> dict[str, Any]:
        """Say which profile each identifier leads to, in the order asked; never makes one."""
        asked = [read_identifier(a.type, a.value, normalise) for a in body.identifiers]
        known = [identifier for identifier in asked if identifier is not None]
        with database.snapshot() as connection:
            tx = driver(connection)
            found = dict(zip(known, find_people(tx, known), strict=True))
            reachable = _find_reachable(tx, found.values(), body)
        return {
            "data": [
                {
                    "type": written.type,
                    "value": written.value,
                    "profile_id": _name_profile(found, identifier),
                    **_say_reachable(reachable, identifier and found.get(identifier)),
                }
                for written, identifier in zip(body.identifiers, asked, strict=True)
            ],
            "next": None,
        }

    return router


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


def _name_profile(found: Mapping[Identifier, Any], identifier: Identifier | None) -> str | None:
    person = None if identifier is None else found[identifier]
    return None if person is None else person.profile_id


def read_filters(parameters: Sequence[tuple[str, str]]) -> dict[str, tuple[tuple[str, ...], str]]:
    r"""Return, per trait, the path into its value and the text wanted there.

    ``trait.address.city`` reaches into an object; a dot in a name is written ``\.``.
    """
    filters = {}
    for key, value in parameters:
        if key.startswith(_TRAIT_PREFIX):
            name, *path = split_path(key.removeprefix(_TRAIT_PREFIX))
            filters[name] = (tuple(path), value.replace("\0", "\ufffd"))
    return filters


def split_path(path: str) -> list[str]:
    r"""Split at the dots that no backslash stands before; ``\.`` is a dot, ``\\`` a backslash."""
    steps = re.findall(r"(?:\\[\\.]|[^.])+|(?<=\.)(?=\.|$)|^(?=\.|$)", path) or [""]
    return [re.sub(r"\\([\\.])", r"\1", step).replace("\0", "\ufffd") for step in steps]


def _refuse_personal(filters: TraitFilters, caller: Caller) -> None:
    """A filter on a masked value would tell whether a guess is right."""
    personal = [name for name, (path, _) in filters.items() if _is_personal(name, path)]
    if personal and not caller.sees_personal:
        raise Forbidden(
            "missing_scope",
            f"searching by {personal[0]} needs a token with the scope {PII_READ}",
            details={"missing": [PII_READ]},
        )


def _is_personal(name: str, path: Sequence[str]) -> bool:
    return any(masking.is_personal(step) for step in (name, *path))


def _search(
    tx: Driver,
    filters: TraitFilters,
    prefix: str | None,
    caller: Caller,
    after: int,
    limit: int,
    moment: datetime,
) -> tuple[list[Person], str | None]:
    hidden = _NONE_HIDDEN if caller.sees_personal else tuple(masking.PERSONAL_IDENTIFIERS)
    found: list[Person] = []
    while True:
        numbers = search_people(
            tx,
            traits=filters,
            prefix=prefix,
            hidden_types=hidden,
            after=after,
            limit=limit + 1,
        )
        people = read_people(tx, numbers)
        for number in numbers:
            if len(found) == limit:
                return found, encode_cursor((after,))
            after = number
            if number in people and _has_traits(people[number], filters, moment):
                found.append(people[number])
        if len(numbers) <= limit:
            return found, None


def _has_traits(person: Person, filters: TraitFilters, moment: datetime) -> bool:
    """Whether the person's joined traits match; one of their nodes may hold an older value."""
    traits = join_traits(person.registers, moment)
    return all(
        name in traits and _as_text(traits[name].value, path) == wanted
        for name, (path, wanted) in filters.items()
    )


def _as_text(value: Any, path: Sequence[str]) -> str | None:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, str) or value is None:
        return value
    return msgspec.json.encode(value).decode()
