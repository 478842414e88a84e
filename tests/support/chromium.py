"""A real Chromium, and the pages of ``tests/sdk`` in it, served from an origin of their own."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.sdk_packages import find_program, install_node_sdks

CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Chromium:
    """A running browser. Used by the thread that started it."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser = browser
        self._address = address

    def open(self, page: str, job: dict[str, Any]) -> Page:
        """Open a page in a profile of its own, which knows neither cookies nor stored events."""
        context = self._browser.new_context(ignore_https_errors=True)
        tab = context.new_page()
        self.show(tab, page, job)
        return tab

    def show(self, tab: Page, page: str, job: dict[str, Any]) -> None:
        """Go to a page in an open tab, which leaves the one that is there."""
        tab.goto(f"{self._address}/{page}#{quote(json.dumps(job))}", wait_until="commit")


def check_page(tab: Page) -> None:
    """Wait until a page has made its calls; fail with its own words when it cannot."""
    tab.wait_for_function("window.told || window.failed", timeout=40_000)
    failed = tab.evaluate("window.failed")
    assert failed is None, failed


@contextlib.contextmanager
def run_chromium() -> Iterator[Chromium]:
    """A browser for one block."""
    folder = install_node_sdks()
    chromium = find_program("chromium")
    with _serve_files(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        try:
            yield Chromium(browser, address)
        finally:
            browser.close()


@contextlib.contextmanager
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
