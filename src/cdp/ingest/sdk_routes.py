"""Every path that an SDK of either family calls, in one table. Pure.

Users forget the ``/v1`` in ``apiHost``, so what Segment's libraries post below it is served without
it as well.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from cdp.model import EventType

RouteKind = Literal["single", "batch", "metrics", "pixel", "source_config", "project_settings"]


class SdkRoute(NamedTuple):
    """What a path is for."""

    kind: RouteKind
    methods: frozenset[str]
    template: str
    """What the route is called in metrics."""
    type: EventType | None = None
    """The type that the path says, for single events."""
    takes_events: bool = False


_POST = frozenset({"POST"})
_GET = frozenset({"GET", "HEAD"})

_TYPES: tuple[EventType, ...] = ("track", "identify", "page", "screen", "group", "alias")
_LETTERS: dict[str, EventType] = {
    "t": "track", "i": "identify", "p": "page", "s": "screen", "g": "group", "a": "alias",
    "merge": "alias",
}  # fmt: skip


def _list_routes() -> dict[str, SdkRoute]:
    routes: dict[str, SdkRoute] = {}
    for prefix in ("/v1", ""):
        for name, kind in (*((t, t) for t in _TYPES), *_LETTERS.items()):
            routes[f"{prefix}/{name}"] = SdkRoute("single", _POST, f"/v1/{kind}", kind, True)
        for name in ("batch", "import", "b"):
            routes[f"{prefix}/{name}"] = SdkRoute("batch", _POST, "/v1/batch", None, True)
        routes[f"{prefix}/m"] = SdkRoute("metrics", _POST, "/v1/m")
    routes["/beacon/v1/batch"] = SdkRoute("batch", _POST, "/v1/batch", None, True)
    for kind in _TYPES:
        for path in (f"/pixel/v1/{kind}", f"/v1/pixel/{kind}"):
            routes[path] = SdkRoute("pixel", _GET, f"/pixel/v1/{kind}", kind)
    routes["/sourceConfig"] = SdkRoute("source_config", _GET, "/sourceConfig")
    return routes


SDK_ROUTES: dict[str, SdkRoute] = _list_routes()
EVENT_PATHS = frozenset(path for path, route in SDK_ROUTES.items() if route.takes_events)
"""Paths to which events are posted."""

_PROJECT_SETTINGS = SdkRoute("project_settings", _GET, "/v1/projects/{key}/settings")
_SETTINGS_PREFIXES = ("/v1/projects/", "/projects/")
_SETTINGS_SUFFIX = "/settings"


def find_route(path: str) -> tuple[SdkRoute, str] | None:
    """Return the route of ``path`` and the write key in it, if it names one.

    Forgives a slash at the end and doubled ones, as base addresses with a slash make them.
    """
    route = SDK_ROUTES.get(path)
    if route is not None:
        return route, ""
    if "//" in path or path.endswith("/"):
        path = "/" + "/".join(filter(None, path.split("/")))
        route = SDK_ROUTES.get(path)
        if route is not None:
            return route, ""
    for prefix in _SETTINGS_PREFIXES:
        if path.startswith(prefix) and path.endswith(_SETTINGS_SUFFIX):
            key = path[len(prefix) : -len(_SETTINGS_SUFFIX)]
            if key and "/" not in key:
                return _PROJECT_SETTINGS, key
    return None
