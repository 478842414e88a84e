"""The SDKs of both families, unmodified, each telling one small story to a URL and a write key.

The story: a visitor looks at a product, signs in, buys, belongs to a company. Whoever runs the
program looks for its end: one person with these identifiers.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from tests.support.parts import miss

SCRIPTS = Path(__file__).parent.parent / "sdk"
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TYPES = ("page", "track", "identify", "track", "group", "screen", "alias")
"""The calls of the story; RudderStack's browser SDK has no screen."""


@dataclass(frozen=True)
class Story:
    """Whom the story is about."""

    anonymousId: str  # noqa: N815
    userId: str  # noqa: N815
    email: str


def new_story() -> Story:
    """A story about somebody nobody has heard of."""
    name = uuid4().hex[:12]
    return Story(f"anon-{name}", f"user-{name}", f"{name}@example.com")


Tell = Callable[[str, str, Story], None]
"""Tells a story to a URL with a write key; returns when the SDK believes it is delivered."""


def tell_with_segment_python(url: str, key: str, story: Story) -> None:
    """segment-analytics-python."""
    from segment.analytics.client import Client

    errors: list[Any] = []
    client = Client(key, host=url, on_error=lambda *problem: errors.append(problem))
    client.page(anonymous_id=story.anonymousId, name="Home", properties={"path": "/"})
    client.track(
        anonymous_id=story.anonymousId, event="Product Viewed", properties={"odd": float("nan")}
    )
    client.identify(
        user_id=story.userId,
        anonymous_id=story.anonymousId,
        traits={"email": story.email, "name": "安妮"},
    )
    client.track(story.userId, "Order Completed", {"order_id": "1", "total": 12.5})
    client.group(story.userId, "acme", {"name": "Acme"})
    client.screen(story.userId, name="Cart")
    client.alias(f"{story.anonymousId}-before", story.userId)
    client.flush()
    client.shutdown()
    assert errors == []


def tell_with_rudder_python(url: str, key: str, story: Story) -> None:
    """rudder-sdk-python, which packs with gzip."""
    from rudderstack.analytics.client import Client

    errors: list[Any] = []
    client = Client(key, host=url, on_error=lambda *problem: errors.append(problem))
    client.page(anonymous_id=story.anonymousId, name="Home", properties={"path": "/"})
    client.track(
        anonymous_id=story.anonymousId, event="Product Viewed", properties={"odd": float("nan")}
    )
    client.identify(
        user_id=story.userId,
        anonymous_id=story.anonymousId,
        traits={"email": story.email, "name": "安妮"},
    )
    client.track(story.userId, "Order Completed", {"order_id": "1", "total": 12.5})
    client.group(story.userId, "acme", {"name": "Acme"})
    client.screen(story.userId, name="Cart")
    client.alias(f"{story.anonymousId}-before", story.userId)
    client.flush()
    client.shutdown()
    assert errors == []


def tell_with_segment_node(url: str, key: str, story: Story) -> None:
    """@segment/analytics-node."""
    _run_node("segment_node.mjs", url, key, story)


def tell_with_rudder_node(url: str, key: str, story: Story) -> None:
    """@rudderstack/rudder-sdk-node, which packs with gzip."""
    _run_node("rudder_node.mjs", url, key, story)


def _run_node(script: str, url: str, key: str, story: Story) -> None:
    folder = install_node_sdks()
    told = subprocess.run(
        [
            find_program("node"),
            script,
            json.dumps({"url": url, "key": key, "story": asdict(story)}),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-3000:]


def tell_with_browser(page: str, url: str, key: str, story: Story, **options: Any) -> None:
    """Open a page of ``tests/sdk`` in Chromium and let it tell the story.

    The page comes from another origin, so that all of CORS is in play.
    """
    from playwright.sync_api import sync_playwright

    folder = install_node_sdks()
    chromium = find_program("chromium")
    wanted = quote(json.dumps({"url": url, "key": key, "story": asdict(story), **options}))
    with _serve_files(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        try:
            tab = browser.new_page()
            said: list[str] = []
            tab.on("console", lambda message: said.append(message.text))
            tab.goto(f"{address}/{page}#{wanted}")
            tab.wait_for_function("window.told || window.failed", timeout=30_000)
            assert tab.evaluate("window.failed") is None, (tab.evaluate("window.failed"), said)
            # What is still queued leaves within the intervals that the page sets.
            tab.wait_for_timeout(2_500)
        finally:
            browser.close()


@functools.cache
def install_node_sdks() -> Path:
    """Return a folder with the scripts and their packages; npm installs them once per version."""
    npm = find_program("npm")
    lock = (SCRIPTS / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cdp-tests"
    packages = cache / f"sdks-{blake2b(lock, digest_size=8).hexdigest()}"
    if not (packages / "node_modules").is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="sdks-", dir=cache))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SCRIPTS / name, fresh)
        installed = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=fresh,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if installed.returncode != 0:
            shutil.rmtree(fresh)
            miss("npm packages", f"npm ci failed: {installed.stderr.strip()[:300]}")
        try:
            fresh.rename(packages)
        except OSError:  # Another run was faster.
            shutil.rmtree(fresh)
    for script in (*SCRIPTS.glob("*.mjs"), *SCRIPTS.glob("*.html")):
        shutil.copy(script, packages)
    return packages


_OTHER_NAMES = {"chromium": ("chromium-browser", "google-chrome")}
_REMEDIES = {"chromium": "install Debian's package chromium"}


def find_program(program: str) -> str:
    """Return the path of node, npm or chromium; skip or fail the test without it."""
    # Node and npm may come from a wheel, beside the interpreter.
    places = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))
    for name in (program, *_OTHER_NAMES.get(program, ())):
        found = shutil.which(name, path=places)
        if found is not None:
            break
    else:
        miss(program, _REMEDIES.get(program, "install Node.js 20 or newer"))
    return found


@contextmanager
def _serve_files(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of 127.0.0.1."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = {  # noqa: RUF012
            **http.server.SimpleHTTPRequestHandler.extensions_map,
            ".mjs": "text/javascript",
        }

        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _browser(page: str, **options: Any) -> Tell:
    return functools.partial(tell_with_browser, page, **options)


SERVER_SDKS: dict[str, Tell] = {
    "segment-python": tell_with_segment_python,
    "rudder-python": tell_with_rudder_python,
    "segment-node": tell_with_segment_node,
    "rudder-node": tell_with_rudder_node,
}
_NEXT = "segment_browser.html?package=@segment/analytics-next"
_OLDER_NEXT = "segment_browser.html?package=analytics-next-before-authorization"
BROWSER_SDKS: dict[str, Tell] = {
    "segment-browser": _browser(_NEXT),
    "segment-browser-batching": _browser(_NEXT, batching=True),
    "segment-browser-before-authorization": _browser(_OLDER_NEXT),
    "rudder-browser": _browser("rudder_browser.html"),
    "rudder-browser-batching": _browser("rudder_browser.html", batching=True),
    "rudder-browser-beacon": _browser("rudder_browser.html", beacon=True),
}
