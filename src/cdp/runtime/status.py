"""``GET /v1/status``: version, roles, how far every stage lags, how much there is, what failed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from cdp import __version__
from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.log.port import Log, LogUnavailable
from cdp.runtime.clock import format_time, now
from cdp.runtime.metrics import Follows
from cdp.runtime.progress_store import (
    read_counts,
    read_dead_letters,
    read_sizes,
    read_workers,
)
from cdp.runtime.recent_errors import RecentErrors
from cdp.storage.database import Database, driver


def create_router(
    database: Database,
    log: Log,
    engine: Follows | None,
    roles: frozenset[str],
    errors: RecentErrors,
    *,
    data_dir: Path,
    describe_follower: Callable[[], dict[str, Any]] | None = None,
) -> APIRouter:
    """Return the status route; any valid token may ask.

    ``describe_follower`` tells how feeding and refreshing go.
    """
    router = APIRouter(tags=["state"])
    started_at = now()

    @router.get("/v1/status")
    def get_status(caller: Annotated[Caller, Depends(require())]) -> dict[str, Any]:
        """Show what runs here, how far behind each stage is, and what failed last."""
        with database.transaction() as connection:
            tx = driver(connection)
            counts = read_counts(tx, log.name)
            workers = read_workers(tx, log.name)
            sizes = read_sizes(tx)
            dead = read_dead_letters(tx)
        return {
            "version": __version__,
            "roles": sorted(roles),
            "started_at": format_time(started_at),
            "log": log.name,
            "lag": {
                "worker": describe_lag(_read_ends(log), counts.positions),
                "analytics": _describe_feed(engine, log.name, counts.positions, now()),
            },
            "follower": None if describe_follower is None else describe_follower(),
            "workers": [
                {"id": name, "seen_at": format_time(seen_at), "partitions": held}
                for name, seen_at, held in workers
            ],
            "sizes": {**sizes, "events": counts.stored, "data_dir_bytes": _measure(data_dir)},
            "batches": counts.batches,
            "last_errors": errors.list(),
            "accounting": {
                "balanced": not counts.unbalanced,
                "unbalanced_minutes": counts.unbalanced,
            },
            "dead_letters": {
                "count": counts.dead_letters,
                "last": [{**letter, "at": format_time(letter["at"])} for letter in dead],
            },
        }

    return router


def describe_lag(ends: dict[int, int] | None, positions: dict[int, int]) -> dict[str, Any]:
    """Return how many records wait, in all and per partition. Pure.

    ``ends`` is ``None`` when the log does not answer; nothing is known then.
    """
    if ends is None:
        return {"records": None, "partitions": {}}
    waiting = {str(p): max(0, end - positions.get(p, 0)) for p, end in sorted(ends.items())}
    return {"records": sum(waiting.values()), "partitions": waiting}


def _read_ends(log: Log) -> dict[int, int] | None:
    try:
        return log.end_positions()
    except LogUnavailable:
        return None


def _describe_feed(
    engine: Follows | None, log: str, positions: dict[int, int], at: datetime
) -> dict[str, Any] | None:
    if engine is None:
        return None
    as_of = engine.as_of()
    return {
        **describe_lag(positions, engine.applied_positions(log)),
        "as_of": None if as_of is None else format_time(as_of),
        "lag_ms": engine.lag_ms(at),
    }


def _measure(folder: Path) -> int:
    """Return the bytes of all files under ``folder``; files that vanish meanwhile do not count."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                size += path.stat().st_size
    return size
