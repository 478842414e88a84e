"""What waits for Postgres says so once, not every second of an outage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.ingest.source_directory import SourceDirectory
from cdp.storage import listening
from cdp.storage.database import Database


@pytest.fixture
def nowhere() -> Iterator[Database]:
    """A database that nobody serves."""
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    try:
        yield database
    finally:
        database.close()


def test_the_sources_say_once_that_they_are_not_followed(
    nowhere: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_RECONNECT_SECONDS", 0.01)
    directory = SourceDirectory(nowhere)
    with capture_logs() as said:
        directory.start()
        time.sleep(0.3)
        directory.close()

    assert [line["event"] for line in said].count("sources_not_followed") == 1


def test_the_feed_says_once_that_it_waits(nowhere: Database, tmp_path: Path) -> None:
    engine = Engine(tmp_path / "analytics.duckdb", "128MB", 1)
    feed = Feed(nowhere, engine)
    with capture_logs() as said:
        for _ in range(3):
            assert feed.step(0).batches == 0
    feed.close()
    engine.close()

    assert [line["event"] for line in said] == ["analytics_feed_waits"]
