"""What analytics-next, unmodified, makes of ``plan.track``.

What the settings answer says of it reaches classic destinations only. A page that gives the same
to ``load`` as its option ``plan`` keeps what is not planned from its own destinations, too. Either
way the event itself still comes: the door refuses it, and keeps it.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import msgspec
import pytest
from playwright.sync_api import Route

from cdp.ingest.asgi import IngestApp
from cdp.ingest.packing import PackingWriter
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.postgres_log import PostgresLog
from cdp.plan.plan_book import PlanBook
from cdp.plan.plan_store import change_plan
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.chromium import check_page, run_chromium
from tests.support.ingest_server import IngestServer, serve, wait_until
from tests.support.sdk_packages import install_node_sdks

PLAN = {
    "version": 0,
    "events": {"Product Viewed": {"properties": {}}, "Old": {"enabled": False}},
}
PACKAGE = "@segment/analytics-next"
PAGE = f"segment_browser.html?package={PACKAGE}"
TRACK = """async () => {
  const own = []
  await analytics.register({
    name: 'Own', type: 'destination', version: '1', isLoaded: () => true, load: async () => {},
    track: async (ctx) => { own.push(ctx.event.event); return ctx },
  })
  for (const name of ['Unheard of', 'Old', 'Product Viewed']) await analytics.track(name)
  return own
}"""


def serve_chunk(route: Route) -> None:
    name = route.request.url.rpartition("/")[2]
    route.fulfill(path=install_node_sdks() / "node_modules" / PACKAGE / "dist" / "umd" / name)


@pytest.mark.browser
@pytest.mark.parametrize("page_is_told", [False, True])
def test_what_is_not_planned_comes_is_refused_and_is_not_sent_again(
    database: Database, page_is_told: bool
) -> None:
    with database.transaction() as connection:
        source, key = create_source(driver(connection), "shop", "web", {"plan_mode": "block"})
        change_plan(driver(connection), PLAN, "test")
    directory, log, book = SourceDirectory(database), PostgresLog(database, 4), PlanBook(database)
    directory.refresh()
    book.refresh()
    settings = Settings()
    writer = PackingWriter(log, settings.linger_ms)

    async def nothing_else(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(f"the page asked for something unknown: {scope}")

    door = IngestApp(
        directory, writer, settings, nothing_else, (), book.find_check, book.list_tracked
    )
    with serve(door) as url, run_chromium() as chromium:
        server = IngestServer(url, key, source.source_id, log)
        told = httpx.get(f"{url}/v1/projects/{key}/settings").json()["plan"]
        job = {"url": url, "key": key, "options": {"plan": told} if page_is_told else {}}
        tab = chromium.open("package.json", {})
        # Chunks of the library come from its maker's CDN; here, the same files from its package.
        tab.route("https://cdn.segment.com/analytics-next/bundles/*", serve_chunk)
        chromium.show(tab, PAGE, {**job, "calls": []})
        check_page(tab)
        passed_on = tab.evaluate(TRACK)
        wait_until(lambda: door.counts.accepted + door.counts.rejected >= 3)
        tab.wait_for_timeout(1_500)
        counts = (door.counts.accepted, door.counts.rejected)
        (taken,) = server.read_events()
        refused = [msgspec.json.decode(one.line) for one in server.read_lines("rejected")]
    log.close()
    assert counts == (1, 2)
    assert taken["event"] == "Product Viewed"
    assert "All" not in taken["integrations"]
    assert [one["code"] for one in refused] == ["unplanned_event"] * 2
    for one in refused:
        sent = json.loads(base64.b64decode(one["raw"]))
        assert sent["integrations"].get("All", True) is not page_is_told
    everything = ["Unheard of", "Old", "Product Viewed"]
    assert passed_on == (["Product Viewed"] if page_is_told else everything)
