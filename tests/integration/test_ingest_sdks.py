"""The SDKs of both families, unmodified, against the door: all they say arrives, and means it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.rules import default_rules
from cdp.ingest.read_line import read_line
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.log.postgres_log import PostgresLog
from cdp.model import Event, Identifier, Source
from cdp.storage.database import Database, driver
from tests.support.ingest_server import IngestServer, run_ingest, wait_until
from tests.support.postgres import PostgresServer
from tests.support.sdks import BROWSER_SDKS, SERVER_SDKS, TYPES, Story, Tell, new_story


async def nothing_else(scope: object, receive: object, send: object) -> None:
    """Stands behind the door; no SDK may need it."""
    raise AssertionError(f"an SDK asked for something unknown: {scope}")


@pytest.fixture(scope="module")
def server(postgres_server: PostgresServer) -> Iterator[IngestServer]:
    with postgres_server.fresh_url() as url:
        database = Database(url)
        with database.transaction() as connection:
            source, key = create_source(driver(connection), "shop", "web", {})
        directory, log = SourceDirectory(database), PostgresLog(database, 4)
        directory.refresh()
        with run_ingest(directory, log, nothing_else) as address:  # type: ignore[arg-type]
            yield IngestServer(address, key, source.source_id, log)
        log.close()
        database.close()


def read_story(server: IngestServer, story: Story) -> list[Event]:
    """What the worker will read of this story, whatever else is in the log."""
    identify = partial(identify_claims, rules=default_rules("CN"))
    source = Source(server.source_id, 1, "shop", "web")
    read = [read_line(line, source, identify) for line in server.read_lines()]
    own = {
        Identifier("anonymous_id", story.anonymousId),
        Identifier("user_id", story.userId),
    }
    events = [one for one in read if isinstance(one, Event) and own & set(one.identifiers)]
    return list({event.message_id: event for event in events}.values())


def check_story(server: IngestServer, tell: Tell, types: Counter[str]) -> None:
    story = new_story()
    tell(server.url, server.write_key, story)
    wait_until(lambda: len(read_story(server, story)) >= types.total(), 30)
    events = read_story(server, story)
    assert Counter(event.type for event in events) == types
    (identified,) = (event for event in events if event.type == "identify")
    assert set(identified.identifiers) >= {
        Identifier("user_id", story.userId),
        Identifier("anonymous_id", story.anonymousId),
        Identifier("email", story.email),
    }
    assert identified.traits["name"] == "安妮"
    (grouped,) = (event for event in events if event.type == "group")
    assert grouped.group_id == "acme"
    (aliased,) = (event for event in events if event.type == "alias")
    assert Identifier("anonymous_id", f"{story.anonymousId}-before") in aliased.identifiers
    assert {event.name for event in events if event.type == "track"} == {
        "Product Viewed",
        "Order Completed",
    }
    for event in events:
        assert abs((event.received_at - event.at).total_seconds()) < 60
    assert server.read_lines("rejected") == []


@pytest.mark.parametrize("name", SERVER_SDKS)
def test_what_a_server_sdk_says_arrives_and_means_it(server: IngestServer, name: str) -> None:
    check_story(server, SERVER_SDKS[name], Counter(TYPES))


@pytest.mark.browser
@pytest.mark.parametrize("name", BROWSER_SDKS)
def test_what_a_browser_sdk_says_arrives_and_means_it(server: IngestServer, name: str) -> None:
    types = Counter(TYPES)
    if name.startswith("rudder"):
        del types["screen"]
    check_story(server, BROWSER_SDKS[name], types)
