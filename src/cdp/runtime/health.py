"""Whether this process lives, and whether it can do its work: what is missing, in words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from cdp import __version__
from cdp.access.guard import public

Check = Callable[[], str | None]
"""Returns what is wrong, in one line, or ``None``. May block, and may raise."""

_PATIENCE_SECONDS = 3.0
_NO_ANSWER = f"no answer within {_PATIENCE_SECONDS:g} s"


@dataclass(frozen=True, slots=True)
class NamedCheck:
    """A check and whether the process is of use without it."""

    name: str
    check: Check
    is_needed: bool = True


def remember_success(check: Check, seconds: float) -> Check:
    """Return ``check``, asked again only ``seconds`` after it last found nothing wrong."""
    good_until = -1.0

    def remembered() -> str | None:
        nonlocal good_until
        if time.monotonic() < good_until:
            return None
        wrong = check()
        if wrong is None:
            good_until = time.monotonic() + seconds
        return wrong

    return remembered


async def run_checks(checks: list[NamedCheck]) -> dict[str, str | None]:
    """Run all checks side by side; what does not answer in time is wrong too."""
    found = await asyncio.gather(*(_run(named.check) for named in checks))
    return {named.name: wrong for named, wrong in zip(checks, found, strict=True)}


async def _run(check: Check) -> str | None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await run_in_threadpool(check)
    except TimeoutError:
        return _NO_ANSWER
    except Exception as error:
        return type(error).__name__


def describe_readiness(
    checks: list[NamedCheck], found: Mapping[str, str | None]
) -> tuple[int, dict[str, Any]]:
    """Return status and body: 503 when something is missing that is needed. Pure."""
    missing = [named.name for named in checks if found[named.name] is not None]
    needed = [named.name for named in checks if named.is_needed and named.name in missing]
    shown = {name: wrong or "ok" for name, wrong in found.items()}
    if not needed:
        return 200, {"ready": True, "missing": missing, "checks": shown}
    reasons = "; ".join(f"{name}: {found[name]}" for name in needed)
    return 503, {
        "code": "not_ready",
        "message": reasons,
        "details": {"ready": False, "missing": missing, "checks": shown},
    }


def create_router(checks: list[NamedCheck]) -> APIRouter:
    """Return the health routes; anybody may ask."""
    router = APIRouter(tags=["health"], dependencies=[Depends(public)])

    @router.get("/health/live")
    async def live() -> dict[str, Any]:
        """Answer as long as the process runs."""
        return {"live": True, "version": __version__}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        """Say whether the process can do its work, and what is missing."""
        status, body = describe_readiness(checks, await run_checks(checks))
        headers = {"Retry-After": "2"} if status == 503 else {}
        return JSONResponse(body, status, headers)

    return router
