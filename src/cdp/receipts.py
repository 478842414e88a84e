"""Receipts: what an accepted write answers with, and how a reader waits for it.

A receipt is opaque text that holds the log's name and, per partition, the offset of the last
record of the write. Nothing is stored: positions say how far everything has come, so receipts
survive restarts and cost nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.errors import NotFound, Unavailable, Unprocessable

Stage = Literal["profiles", "analytics"]
Positions = Mapping[int, int]
ReadPositions = Callable[[str], Positions]
"""From a log's name to the next offset of each of its partitions; a missing one is 0."""

LONGEST_WAIT = 30.0
_DEFAULT_WAIT = "5s"
_POLL_SECONDS = 0.025
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m)?")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where in the log a write lies."""

    log: str
    offsets: Positions

    def is_within(self, positions: Positions) -> bool:
        """Whether everything below ``positions`` includes this write."""
        return all(positions.get(part, 0) > offset for part, offset in self.offsets.items())


def encode(log: str, offsets: Positions) -> str:
    """Return the receipt for records of ``log`` up to ``offsets`` (partition → last offset)."""
    document = msgspec.json.encode([log, sorted(offsets.items())])
    return urlsafe_b64encode(document).decode().rstrip("=")


def decode(text: str) -> Receipt | None:
    """Read a receipt; ``None`` when ``encode`` did not make it."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        log, offsets = msgspec.json.decode(
            urlsafe_b64decode(padded), type=tuple[str, list[tuple[int, int]]]
        )
    except (ValueError, msgspec.MsgspecError):
        return None
    return Receipt(log, dict(offsets))


def parse_wait(text: str) -> float:
    """Read a duration such as ``5s``, ``500ms`` or ``1m`` in seconds, at most 30.

    Raises ``Unprocessable`` for anything else.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Unprocessable(
            "invalid_parameter", "wait: write a duration such as 5s or 500ms", path="/wait"
        )
    return min(LONGEST_WAIT, float(match[1]) * _UNIT_SECONDS[match[2]])


class Progress:
    """How far the stages have come. Any number of waiting requests share one look per 25 ms."""

    def __init__(
        self,
        read_profiles: ReadPositions,
        read_analytics: ReadPositions,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """The readers may block; they are called in a thread."""
        self._readers: dict[Stage, ReadPositions] = {
            "profiles": read_profiles,
            "analytics": read_analytics,
        }
        self._monotonic = monotonic
        self._sleep = sleep
        self._seen: dict[tuple[Stage, str], tuple[float, Positions]] = {}
        self._locks: dict[Stage, asyncio.Lock] = {stage: asyncio.Lock() for stage in self._readers}

    async def reached(self, receipt: Receipt, stage: Stage) -> bool:
        """Whether ``stage`` has worked off the write, as of at most 25 ms ago."""
        async with self._locks[stage]:
            at, positions = self._seen.get((stage, receipt.log), (-1.0, {}))
            if self._monotonic() - at > _POLL_SECONDS:
                at = self._monotonic()
                positions = await run_in_threadpool(self._readers[stage], receipt.log)
                self._seen = {**self._seen, (stage, receipt.log): (at, positions)}
                if len(self._seen) > 16:  # names of logs come from outside
                    self._seen = {(stage, receipt.log): (at, positions)}
        return receipt.is_within(positions)

    async def wait(self, receipt: Receipt, stage: Stage, seconds: float) -> bool:
        """Wait until ``stage`` has worked off the write; return whether it has."""
        end = self._monotonic() + seconds
        while not await self.reached(receipt, stage):
            left = end - self._monotonic()
            if left <= 0:
                return False
            await self._sleep(min(left, _POLL_SECONDS))
        return True


def _wait_for(stage: Stage) -> Callable[..., Awaitable[None]]:
    async def wait_for_write(
        request: Request,
        after: Annotated[
            str | None, Query(description="A receipt: answer with that write in it.")
        ] = None,
        wait: Annotated[
            str, Query(description="How long to wait for it at most, such as 5s.")
        ] = _DEFAULT_WAIT,
    ) -> None:
        if after is None:
            return
        receipt = decode(after)
        if receipt is None:
            raise Unprocessable("bad_receipt", "after: this is not a receipt", path="/after")
        progress: Progress = request.app.state.progress
        if not await progress.wait(receipt, stage, parse_wait(wait)):
            raise Unavailable(
                "not_yet", f"the write is not in {stage} yet; wait longer", retry_after=1
            )

    return wait_for_write


after_profiles = _wait_for("profiles")
"""FastAPI dependency: ``after=<receipt>&wait=5s`` for reads of Postgres; 503 when in vain."""
after_analytics = _wait_for("analytics")
"""The same for reads of DuckDB."""


def create_router(progress: Progress) -> APIRouter:
    """Return the route that tells how far a write has come."""
    router = APIRouter(tags=["receipts"])

    @router.get("/v1/receipts/{receipt}")
    async def get_receipt(
        caller: Annotated[Caller, Depends(require())], receipt: str, wait: str = "0s"
    ) -> dict[str, Any]:
        """Say where the write has arrived, as soon as everywhere, or when ``wait`` is over."""
        seconds = parse_wait(wait)
        found = decode(receipt)
        if found is None:
            raise NotFound("receipt_not_found", "this is not a receipt of this installation")
        end = time.monotonic() + seconds
        profiles = await progress.wait(found, "profiles", seconds)
        left = max(0.0, end - time.monotonic())
        analytics = await progress.wait(found, "analytics", left)
        # A receipt is only given once the log has acknowledged.
        return {"logged": True, "profiles": profiles, "analytics": analytics}

    return router
