"""Every route of segments and tags."""

from __future__ import annotations

from fastapi import APIRouter

from cdp.segments import members_routes, routes, tags_routes
from cdp.segments.service import Segments


def create_routers(services: Segments) -> list[APIRouter]:
    """Return the routers in the order in which their paths are to be matched."""
    return [
        routes.create_router(services),
        members_routes.create_router(services),
        tags_routes.create_router(services),
    ]
