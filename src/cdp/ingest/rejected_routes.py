"""What was refused, and judging it again, over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from cdp import receipts
from cdp.access import audit_store
from cdp.access.guard import require
from cdp.access.read_audit import note_nothing_personal, note_people
from cdp.access.scopes import Caller
from cdp.errors import Conflict, NotFound, Unavailable
from cdp.ingest import dead_letters_store as letters
from cdp.ingest.packing import ANSWER_SECONDS
from cdp.ingest.rejected_store import (
    RejectedFilter,
    count_rejected,
    find_rejected,
    list_rejected,
    show_rejected,
)
from cdp.ingest.replay_store import Replay, Replayer
from cdp.log.port import Log, LogUnavailable
from cdp.runtime.cursors import cut_page, decode_cursor, encode_cursor
from cdp.storage.database import Database, driver

May = Annotated[Caller, Depends(require("sources:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Since = Annotated[AwareDatetime | None, Query(alias="from")]
Until = Annotated[AwareDatetime | None, Query(alias="to")]
Status = Literal["open", "replayed"]
_RowId = Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]


class ReplayOrder(BaseModel):
    """Which refused events to judge again: by filter, or by id."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = None
    code: str | None = None
    since: AwareDatetime | None = Field(None, alias="from")
    until: AwareDatetime | None = Field(None, alias="to")
    ids: list[_RowId] | None = Field(None, min_length=1, max_length=1000)
    limit: int = Field(1000, ge=1, le=1000, description="Rows to look at in this call.")
    cursor: str | None = Field(None, description="Where the last call stopped: its `next`.")

    @model_validator(mode="after")
    def _names_one_way(self) -> ReplayOrder:
        filters = (self.source, self.code, self.since, self.until)
        if self.ids is not None and any(one is not None for one in filters):
            raise ValueError("give either `ids` or a filter")
        return self

    @property
    def wanted(self) -> RejectedFilter:
        """What is asked for."""
        ids = None if self.ids is None else [int(one) for one in self.ids]
        return RejectedFilter(self.source, self.code, self.since, self.until, ids)


def create_router(database: Database, log: Log, replayer: Replayer) -> APIRouter:
    """Return the routes of refused events and of dead letters."""
    router = APIRouter(tags=["rejected"])

    @router.get("/v1/rejected")
    def get_rejected(
        caller: May,
        source: str | None = None,
        code: str | None = None,
        since: Since = None,
        until: Until = None,
        status: Status | None = None,
        limit: Limit = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List refused events with reason and bytes, newest first."""
        before = decode_cursor(cursor, tuple[int])[0] if cursor else None
        wanted = RejectedFilter(source, code, since, until, replayed=_read_status(status))
        with database.transaction() as connection:
            rows = list_rejected(driver(connection), wanted, limit=limit + 1, before=before)
        page, following = cut_page(rows, limit, lambda row: (row.number,))
        note_people(len(page))
        shown = [show_rejected(row, sees_personal=caller.sees_personal) for row in page]
        return {"data": shown, "next": following}

    @router.get("/v1/rejected/counts")
    def get_counts(
        caller: May,
        source: str | None = None,
        code: str | None = None,
        since: Since = None,
        until: Until = None,
        status: Status | None = None,
    ) -> dict[str, Any]:
        """Count refused events by source and reason, most first."""
        wanted = RejectedFilter(source, code, since, until, replayed=_read_status(status))
        note_nothing_personal()
        with database.transaction() as connection:
            return {"data": count_rejected(driver(connection), wanted), "next": None}

    @router.post("/v1/rejected/replay")
    def replay(caller: May, body: ReplayOrder) -> dict[str, Any]:
        """Judge refused events again by today's rules; those that pass go to the log.

        One call looks at no more than `limit` rows; `next` says where the next one goes on.
        """
        with database.transaction() as connection:
            tx = driver(connection)
            if body.cursor:
                after, last = decode_cursor(body.cursor, tuple[int, int])
            else:
                after, last = 0, replayer.start(tx)
            result = replayer.replay(tx, body.wanted, after=after, until=last, limit=body.limit)
            if result.replayed:
                details = {"replayed": len(result.replayed), "filter": _describe(body)}
                audit_store.record(tx, caller.actor, "rejected_replayed", "rejected", details)
        reached = result.reached
        following = None if reached is None or reached >= last else encode_cursor((reached, last))
        receipt = receipts.encode(log.name, result.offsets) if result.offsets else None
        return _show_replay(result, receipt, following)

    @router.get("/v1/rejected/{rejected_id}")
    def get_one(caller: May, rejected_id: str) -> dict[str, Any]:
        """Show one refused event."""
        with database.transaction() as connection:
            row = find_rejected(driver(connection), _read_number(rejected_id))
        note_people(1)
        return show_rejected(row, sees_personal=caller.sees_personal)

    @router.get("/v1/dead-letters")
    def get_letters(
        caller: May, open: bool | None = None, limit: Limit = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """List records of the log that nobody could read, newest first."""
        before = decode_cursor(cursor, tuple[int])[0] if cursor else None
        with database.transaction() as connection:
            found = letters.list_dead_letters(
                driver(connection), limit=limit + 1, before=before, is_open=open
            )
        page, following = cut_page(found, limit, lambda letter: (letter.number,))
        return {"data": [letters.show_dead_letter(letter) for letter in page], "next": following}

    @router.post("/v1/dead-letters/{letter_id}/replay")
    def replay_letter(caller: May, letter_id: str) -> dict[str, Any]:
        """Append the record to the log once more, as it is: after a fix it is read."""
        with database.transaction() as connection:
            tx = driver(connection)
            letter = letters.lock_dead_letter(tx, _read_number(letter_id))
            if not letter.value:
                raise Conflict("nothing_left", "nothing is left of it; discard it")
            offset = _append(log, letter)
            letters.resolve(tx, letter.number, "replayed")
            audit_store.record(tx, caller.actor, "dead_letter_replayed", letter_id, {})
        return {
            "id": letter_id,
            "status": "replayed",
            "receipt": receipts.encode(log.name, {letter.partition % log.partitions: offset}),
        }

    @router.post("/v1/dead-letters/{letter_id}/discard")
    def discard_letter(caller: May, letter_id: str) -> dict[str, Any]:
        """Say that nothing is to be done about a record; it stays where it is."""
        with database.transaction() as connection:
            tx = driver(connection)
            letter = letters.lock_dead_letter(tx, _read_number(letter_id))
            letters.resolve(tx, letter.number, "discarded")
            audit_store.record(tx, caller.actor, "dead_letter_discarded", letter_id, {})
        return {"id": letter_id, "status": "discarded"}

    return router


def _read_status(status: Status | None) -> bool | None:
    return None if status is None else status == "replayed"


def _read_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotFound("not_found", "nothing has this id")
    return int(text)


def _describe(body: ReplayOrder) -> dict[str, Any]:
    filled = body.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in filled.items() if name not in ("cursor", "limit")}


def _show_replay(result: Replay, receipt: str | None, following: str | None) -> dict[str, Any]:
    return {
        "replayed": len(result.replayed),
        "still_rejected": len(result.refused),
        "already_replayed": result.already_replayed,
        "reasons": [{"code": c, "count": n} for c, n in result.reasons.most_common()],
        "data": [
            {"id": str(one.number), "code": one.code, "message": one.message}
            for one in result.refused
        ],
        "receipt": receipt,
        "next": following,
    }


def _append(log: Log, letter: letters.DeadLetter) -> int:
    record = letter.record
    if record.partition >= log.partitions:
        record = type(record)(record.partition % log.partitions, None, record.headers, record.value)
    try:
        return log.append([record]).result(ANSWER_SECONDS)[0]
    except (LogUnavailable, TimeoutError) as error:
        raise Unavailable(
            "log_unavailable", "the log does not acknowledge", retry_after=5
        ) from error
