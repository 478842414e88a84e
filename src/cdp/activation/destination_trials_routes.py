"""Destinations tried over HTTP: a row sent now, and what would be sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter

from cdp.access.read_audit import note_people
from cdp.activation.delivery import make_test
from cdp.activation.dry_run import Dry, run_dry
from cdp.activation.service import Destinations, DestinationWriter
from cdp.runtime.clock import now
from cdp.storage.database import driver


def add_trying(router: APIRouter, services: Destinations) -> None:
    """Add the routes that try a destination to ``router``."""

    @router.post("/v1/destinations/{destination_id}/test")
    def test_destination(caller: DestinationWriter, destination_id: str) -> dict[str, Any]:
        """Send one made-up row, now, and say what came of it."""
        with services.database.transaction() as connection:
            found = services.find(driver(connection), destination_id)
        started = now()
        attempt = services.send(found, make_test(destination_id, started))
        took = now() - started
        return {
            "ok": attempt.is_delivered,
            "status": attempt.status,
            "error": attempt.error,
            "took_ms": round(took.total_seconds() * 1000),
        }

    @router.post("/v1/destinations/{destination_id}/dry-run")
    def dry_run(caller: DestinationWriter, destination_id: str) -> dict[str, Any]:
        """Say what would be sent now, set by set, with examples; nothing is sent."""
        with services.database.transaction() as connection:
            tx = driver(connection)
            found = services.find(tx, destination_id)
            masked = replace(found, is_masked=found.is_masked or not caller.sees_personal)
            results: list[Dry] = run_dry(tx, masked, services.people, now())
        note_people(sum(len(result.examples) for result in results))
        return {"data": [result.show() for result in results]}
