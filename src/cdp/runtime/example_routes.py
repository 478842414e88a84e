"""The example page and the browser SDK that it loads, unmodified, from this host.

The same paths serve any page that uses the SDK's usual HTML snippet with this host as its CDN.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, HTMLResponse

from cdp.access.guard import public
from cdp.errors import NotFound
from cdp.runtime.credentials import read_credentials
from cdp.settings import Settings

_BUNDLES = Path("node_modules/@segment/analytics-next/dist/umd")
_BUNDLE_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.js(\.map)?")
_MISSING = (
    "the browser SDK is not installed here; run `make setup` in the project's folder, "
    "or `npm ci` in examples/web"
)
# Long enough to spare most loads, short enough that an upgrade arrives the same day.
_CACHE = {"Cache-Control": "public, max-age=3600"}


def find_example() -> Path | None:
    """Return the page's folder: beside ``src`` in a checkout, in the package once installed."""
    here = Path(__file__).resolve()
    for candidate in (here.parents[1] / "example_web", here.parents[3] / "examples" / "web"):
        if (candidate / "index.html").exists():
            return candidate
    return None


def create_router(settings: Settings, folder: Path | None = None) -> APIRouter:
    """Return the routes of the page in ``folder`` (default: where this program keeps it)."""
    router = APIRouter(tags=["example"], dependencies=[Depends(public)])
    home = folder or find_example()

    @router.get("/example", response_class=HTMLResponse)
    def show_page() -> HTMLResponse:
        """Show a small shop that sends what visitors do, with this workspace's web key in it."""
        if home is None:
            raise NotFound("not_found", "the example page is not part of this installation")
        kept = read_credentials(settings.data_dir)
        key = html.escape(kept.web_write_key if kept is not None else "")
        page = (home / "index.html").read_text(encoding="utf-8").replace("{{write_key}}", key)
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    @router.get("/example/analytics.js", response_class=FileResponse)
    @router.get("/analytics.js/v1/{write_key}/analytics.min.js", response_class=FileResponse)
    def send_sdk(write_key: str = "") -> FileResponse:
        """Send the unmodified browser SDK of Segment, as installed from npm."""
        return _send(home, "standalone.js")

    @router.get("/analytics-next/bundles/{name}", response_class=FileResponse)
    def send_bundle(name: Annotated[str, PathParameter(max_length=200)]) -> FileResponse:
        """Send a part that the SDK loads later."""
        return _send(home, name)

    return router


def _send(home: Path | None, name: str) -> FileResponse:
    path = home / _BUNDLES / name if home is not None else None
    if path is None or not _BUNDLE_NAME.fullmatch(name) or not path.is_file():
        raise NotFound("not_found", _MISSING)
    kind = "application/json" if name.endswith(".map") else "text/javascript; charset=utf-8"
    return FileResponse(path, media_type=kind, headers=_CACHE)
