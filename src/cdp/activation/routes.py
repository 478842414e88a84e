"""All routes of destinations."""

from __future__ import annotations

from fastapi import APIRouter

from cdp.activation.deliveries_routes import add_deliveries
from cdp.activation.destination_trials_routes import add_trying
from cdp.activation.destinations_routes import add_making, add_reading
from cdp.activation.service import Destinations


def create_router(services: Destinations) -> APIRouter:
    """Return the routes of destinations."""
    router = APIRouter(tags=["destinations"])
    add_making(router, services)
    add_reading(router, services)
    add_trying(router, services)
    add_deliveries(router, services)
    return router
