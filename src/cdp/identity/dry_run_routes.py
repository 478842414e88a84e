"""What other rules, or blocks by hand, would change, over HTTP: at once, or told as it goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Self

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from cdp.access.guard import require
from cdp.access.masking import mask_identifier
from cdp.access.read_audit import note_people
from cdp.access.scopes import Caller
from cdp.errors import CdpError, Unprocessable
from cdp.identity.by_hand_routes import Named
from cdp.identity.change_rules_store import read_document
from cdp.identity.dry_run_store import DryRun, Example, dry_run
from cdp.identity.identifiers import normalise
from cdp.identity.rules import Rules
from cdp.identity.rules_store import read_rules as read_newest
from cdp.model import Identifier
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, driver

Steward = Annotated[Caller, Depends(require("identity:write"))]

_NDJSON, _EVENTS = "application/x-ndjson", "text/event-stream"
_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}

_log = get_logger(__name__)


class DryRunBody(BaseModel):
    """What is to be tried: rules, identifiers blocked or blocked no more, or both."""

    model_config = ConfigDict(extra="forbid")

    rules: dict[str, Any] | None = None
    block: list[Named] = Field([], max_length=1000)
    unblock: list[Named] = Field([], max_length=1000)
    _rules_path: str = PrivateAttr("/rules")

    @property
    def rules_path(self) -> str:
        """Where in the body the rules stand, as a JSON pointer."""
        return self._rules_path

    @model_validator(mode="wrap")
    @classmethod
    def _take_rules_alone(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Take the document of the rules too, as it is read and put."""
        if isinstance(data, dict) and "types" in data and "rules" not in data:
            body = handler({"rules": data})
            body._rules_path = ""
            return body
        return handler(data)


class _Trial(NamedTuple):
    rules: dict[str, Any] | None
    block: frozenset[Identifier]
    unblock: frozenset[Identifier]


def add_routes(router: APIRouter, database: Database, read_rules: Callable[[], Rules]) -> None:
    """Add the route."""

    @router.post(
        "/v1/identity/dry-run",
        response_model=None,
        responses={200: {"content": {"application/json": {}, _NDJSON: {}, _EVENTS: {}}}},
    )
    async def post_dry_run(
        request: Request,
        caller: Steward,
        body: DryRunBody,
        stream: Annotated[
            bool, Query(description="Tell the progress too, one JSON object a line.")
        ] = False,
    ) -> Response:
        """Count who would part and who would join under other rules; changes nothing.

        The body may also be the document of the rules alone.
        With `stream=true` or `Accept: application/x-ndjson`, lines `{"progress": …}` and at last
        `{"result": …}` or `{"error": …}`; with `Accept: text/event-stream` the same as
        server-sent events.
        """
        trial = await run_in_threadpool(_read_trial, body, read_rules)
        states = _run(database, trial, read_rules)
        accepted = request.headers.get("accept", "")
        if _EVENTS in accepted:
            frames = (f"data: {line}\n\n" for line in _tell(states, caller))
            return StreamingResponse(frames, media_type=_EVENTS, headers=_HEADERS)
        if stream or _NDJSON in accepted:
            lines = (f"{line}\n" for line in _tell(states, caller))
            return StreamingResponse(lines, media_type=_NDJSON, headers=_HEADERS)
        return JSONResponse(await run_in_threadpool(_finish, states, caller))


def _read_trial(body: DryRunBody, read_rules: Callable[[], Rules]) -> _Trial:
    """Raises ``Unprocessable`` with the place of a mistake, before anything is answered."""
    if body.rules is None and not body.block and not body.unblock:
        raise Unprocessable("missing", "send rules, block or unblock", path="/rules")
    rules = read_rules() if body.rules is None else read_document(body.rules, body.rules_path)
    plain = rules.with_blocks(frozenset())
    return _Trial(
        body.rules,
        _read_names(body.block, plain, "/block"),
        _read_names(body.unblock, plain, "/unblock"),
    )


def _read_names(named: Sequence[Named], rules: Rules, where: str) -> frozenset[Identifier]:
    names = set()
    for position, one in enumerate(named):
        value = normalise(one.type, one.value, rules)
        if value is None:
            path = f"{where}/{position}/value"
            raise Unprocessable("names_nobody", "no identifier has such a value", path=path)
        names.add(Identifier(one.type, value))
    return frozenset(names)


def _run(database: Database, trial: _Trial, read_rules: Callable[[], Rules]) -> Iterator[DryRun]:
    with database.snapshot() as connection:
        tx = driver(connection)
        newest = read_newest(tx, read_rules().country)
        rules = newest if trial.rules is None else read_document(trial.rules, "/rules")
        about: Collection[Identifier] | None = None
        if trial.rules is None:
            about = trial.block | trial.unblock
        blocks = (newest.blocks | trial.block) - trial.unblock
        yield from dry_run(tx, rules.with_blocks(blocks), about)


def _finish(states: Iterator[DryRun], caller: Caller) -> dict[str, Any]:
    found = DryRun()
    for state in states:
        found = state
    return _show_result(found, caller)


def _tell(states: Iterator[DryRun], caller: Caller) -> Iterator[str]:
    """Give the progress after every piece, then the result: one JSON text each."""
    found = DryRun()
    try:
        for state in states:
            found = state
            yield _write({"progress": _show_progress(state)})
    except CdpError as error:
        yield _write({"error": error.body()})
        return
    except Exception as error:
        # The status is sent already.
        _log.error("dry_run_failed", exc_info=error)
        message = "the dry-run broke off; try again"
        yield _write({"error": {"code": "internal", "message": message, "details": {}}})
        return
    yield _write({"result": _show_result(found, caller)})


def _write(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _show_progress(found: DryRun) -> dict[str, Any]:
    return {
        "components": found.components,
        "share": round(found.share, 4),
        "would_part": found.parting,
        "would_join": found.joining,
    }


def _show_result(found: DryRun, caller: Caller) -> dict[str, Any]:
    note_people(len(found.device_examples) + len(found.parts) + len(found.joins))
    return {
        "components": found.components,
        "would_part": found.parting,
        "would_join": found.joining,
        "devices_would_change": found.devices,
        "too_large": found.too_large,
        "examples": {
            "devices": [
                {
                    **show_identifier(one.device, caller),
                    "pieces_now": one.pieces_now,
                    "pieces_then": one.pieces_then,
                }
                for one in found.device_examples
            ],
            "part": [_show_example(one, caller) for one in found.parts],
            "join": [_show_example(one, caller) for one in found.joins],
        },
    }


def show_identifier(name: Identifier, caller: Caller) -> dict[str, str]:
    """Return an identifier as a JSON object, masked when the caller may not see it."""
    value = name.value if caller.sees_personal else mask_identifier(name.type, name.value)
    return {"type": name.type, "value": value}


def _show_example(one: Example, caller: Caller) -> dict[str, Any]:
    return {
        "profiles": list(one.profile_ids),
        "people": [[show_identifier(name, caller) for name in person] for person in one.people],
    }
