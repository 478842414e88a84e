"""Consent over HTTP: what a person agreed to, as of any time and with its history; stating it.

A statement goes through the log: the answer is a receipt, as for everything that is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.errors import Conflict, Unprocessable
from cdp.ingest.consent_call import write_event
from cdp.ingest.door import Door
from cdp.ingest.lenient import encode
from cdp.ingest.packing import Offsets
from cdp.ingest.parse import Rejection
from cdp.ingest.sources_store import ensure_api_source
from cdp.model import Source
from cdp.posted_record import Refusal
from cdp.profiles.consent import Statement, join_consents, list_consent_history
from cdp.profiles.consent_document import show_answer, show_statements
from cdp.profiles.consent_history_store import read_statements
from cdp.profiles.default_consent_store import read_defaults
from cdp.profiles.profile_names import parse_profile_name, profile_not_found
from cdp.profiles.profile_store import PROFILE_ID, Found, find_people, read_sources
from cdp.profiles.routes import People, answer_rows, read_person
from cdp.reach import CHANNELS, decide_consent, name_statement
from cdp.receipts import after_profiles
from cdp.runtime.clock import format_time, now
from cdp.runtime.query_time import read_query_time
from cdp.storage.database import Driver, driver

MOST_STATEMENTS = 1_000
# Whose statement it is, when a profile has several identifiers.
_STRONGEST = ("user_id", "email", "phone")

Reader = Annotated[Caller, Depends(require("profiles:read"))]
Writer = Annotated[Caller, Depends(require("profiles:write"))]


class Consent(BaseModel):
    """A statement about a purpose, for every channel or for one of it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    purpose: str = Field(examples=["marketing"])
    channel: str | None = Field(None, description=f"One of {', '.join(CHANNELS)}.")
    granted: bool
    at: str | int | float | None = Field(None, description="When it was stated; default now.")
    source: str | None = Field(None, description="Where it was stated, in your own words.")
    evidence: Any = Field(None, description="What proves it: any JSON of up to 16 KB.")
    message_id: str | None = Field(None, description="A statement counts once under its id.")


class Consents(BaseModel):
    """Statements of many people: each as for one, with `identifier`: `{"type", "value"}`."""

    model_config = ConfigDict(extra="forbid")

    consents: list[Any] = Field(min_length=1, max_length=MOST_STATEMENTS)


@dataclass(frozen=True, slots=True)
class ConsentDesk:
    """Takes statements and puts them into the log."""

    people: People
    door: Door
    find_source: Callable[[str], Source | None]
    encode_receipt: Callable[[Offsets], str]

    def state(self, documents: Sequence[Any]) -> dict[str, Any]:
        """Log what is right of ``documents``; answer as the ingest routes do.

        What is refused is kept with its reason. Raises ``Unavailable`` when the log is away.
        """
        received_at, request_id = now(), f"consent_{uuid4().hex}"
        source = self._find_own_source()
        lines: list[bytes] = []
        rejected: list[Rejection] = []
        for index, document in enumerate(documents):
            event = write_event(document, received_at, f"{request_id} {index}")
            if isinstance(event, Refusal):
                raw = b"" if event.code == "invalid_text" else encode(document)
                rejected.append(Rejection(index, None, event.code, event.message, raw))
            else:
                lines.append(encode(event))
        judged = self.door.judge(source, "events", lines)
        judged.rejected += rejected
        request = self.door.write(
            source, judged, request_id=request_id, received_at=format_time(received_at)
        )
        offsets = self.door.append([request])
        return {
            "success": True,
            "accepted": judged.accepted,
            "rejected": [
                {"index": one.index, "code": one.code, "message": one.message} for one in rejected
            ],
            "receipt": self.encode_receipt(offsets),
        }

    def _find_own_source(self) -> Source:
        with self.people.database.transaction() as connection:
            source_id = ensure_api_source(driver(connection))
        source = self.find_source(source_id)
        assert source is not None
        return source


def create_router(desk: ConsentDesk) -> APIRouter:
    """Return the routes of consent."""
    router = APIRouter(tags=["profiles"], dependencies=[Depends(after_profiles)])
    _add_reading(router, desk.people)
    _add_stating(router, desk)
    return router


def _add_reading(router: APIRouter, people: People) -> None:
    @router.get("/v1/profiles/{p}/consent")
    def list_consents(
        caller: Reader,
        p: str,
        at: str | None = None,
        history: bool = False,
        purpose: str | None = None,
        channel: str | None = None,
    ) -> Any:
        """Show what counts for each purpose and channel, as of `at`, and what proves it.

        With `history` every statement until then, the newest first. With `purpose` (and `channel`)
        only what counts for it, and in `may_be_reached` the answer.
        """
        moment = now() if at is None else read_query_time("at", at)
        _require_channel(channel, purpose)
        with people.find(p) as (tx, _, found):
            person = read_person(tx, found)
            kept = read_statements(tx, found.profile_no, people.archived)
            said = [*kept, *person.statements]
            if at is not None and not history:
                said += read_defaults(tx, found.profile_no, moment)
            sources = read_sources(tx)
        is_masked = not caller.sees_personal
        if purpose is not None and not history:
            name = name_statement(purpose, channel)
            counted = decide_consent(_once(said), person.joined_at, name, moment)
            return show_answer(name, counted, sources, moment, is_masked=is_masked)
        if history:
            listed = [(one.purpose, one) for one in list_consent_history(said, moment)]
        else:
            listed = list(join_consents(_once(said), person.joined_at, moment).items())
        return answer_rows(show_statements(listed, sources, is_masked=is_masked), None)


def _once(said: Sequence[Statement]) -> list[Statement]:
    """Let the copy with evidence stand for all copies of a statement."""
    return list_consent_history(said, max((one.at for one in said), default=now()))


def _require_channel(channel: str | None, purpose: str | None) -> None:
    if channel is not None and channel not in CHANNELS:
        known = ", ".join(CHANNELS)
        raise Unprocessable("unknown_channel", f"a channel is one of {known}", path="/channel")
    if channel is not None and purpose is None:
        raise Unprocessable("missing_part", "a channel needs a purpose", path="/channel")


def _add_stating(router: APIRouter, desk: ConsentDesk) -> None:
    @router.post("/v1/profiles/{p}/consent")
    def state_consent(caller: Writer, p: str, body: Consent) -> dict[str, Any]:
        """State a person's consent, or its withdrawal; it counts as soon as the receipt says so.

        An identifier that nobody has yet makes a profile, as every event does.
        """
        document = body.model_dump(exclude_none=True)
        identifier, profile_id = _find_identifier(desk.people, p)
        answer = desk.state([{**document, "identifier": identifier}])
        if answer["rejected"]:
            _raise_refusal({**document, "identifier": identifier})
        details = {name: document.get(name) for name in ("purpose", "channel", "granted")}
        _record(desk, caller, profile_id or "newcomer", details)
        return answer

    @router.post("/v1/consents")
    def state_consents(caller: Writer, body: Consents) -> dict[str, Any]:
        """State the consent of up to 1,000 people; each gets its own verdict."""
        answer = desk.state(body.consents)
        _record(desk, caller, "bulk", {"accepted": answer["accepted"]})
        return answer


def _raise_refusal(document: Mapping[str, Any]) -> None:
    refusal = write_event(document, now(), "")
    assert isinstance(refusal, Refusal)
    path = "/" + refusal.field.replace(".", "/") if refusal.field else ""
    raise Unprocessable(refusal.code, refusal.message, path=path)


def _record(desk: ConsentDesk, caller: Caller, subject: str, details: Mapping[str, Any]) -> None:
    with desk.people.database.transaction() as connection:
        audit_store.record(driver(connection), caller.actor, "consent_stated", subject, details)


def _find_identifier(people: People, name: str) -> tuple[dict[str, str], str | None]:
    """Return the identifier by which a statement is made, and the profile it leads to."""
    asked = parse_profile_name(name, people.normalise)
    with people.database.snapshot() as connection:
        tx = driver(connection)
        found = find_people(tx, [asked])[0]
        if asked.type != PROFILE_ID:
            said = {"type": asked.type, "value": asked.value}
            return said, None if found is None else found.profile_id
        if found is None:
            raise profile_not_found()
        return _choose_identifier(tx, found), found.profile_id


def _choose_identifier(tx: Driver, found: Found) -> dict[str, str]:
    nodes = [node for node in read_person(tx, found).nodes if node.is_visible]
    if not nodes:
        raise Conflict("no_identifier", "this profile has no identifier of its own any more")
    kinds = {kind: place for place, kind in enumerate(_STRONGEST)}
    best = min(nodes, key=lambda node: (kinds.get(node.type, len(kinds)), node.type, node.value))
    return {"type": best.type, "value": best.value}
