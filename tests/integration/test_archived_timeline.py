"""Reading people across Postgres and the archive: nobody notices where an event lies."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.archive.archived_events import ArchivedEvents
from cdp.model import Identifier
from cdp.profiles.channels_store import read_channels
from cdp.profiles.profile_store import find_people
from cdp.profiles.said import list_registers
from cdp.profiles.sessions_store import Sessions, read_sessions
from cdp.profiles.timeline_store import TimelineEvent, read_said, read_timeline
from cdp.profiles.traits import join_traits, list_history
from cdp.storage.database import Database, driver
from tests.support.archive_world import TODAY, ArchiveWorld, days_ago
from tests.support.wire import identify, track

ANN = "user_id:ann"


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[ArchiveWorld]:
    made = ArchiveWorld(database, tmp_path)
    fill(made)
    yield made
    made.close()


def fill(world: ArchiveWorld) -> None:
    """Twelve days on which Ann, on two devices, and Bob did things of about that time."""
    chance = random.Random(7)
    for day in range(12, 0, -1):
        events: list[dict[str, Any]] = [
            identify(
                f"i-{day}",
                at=days_ago(day),
                userId="ann",
                anonymousId=f"device-{day % 2}",
                traits={"city": f"city-{day % 3}"},
            )
        ]
        for number in range(6):
            # Several at one moment; and what was done days before it was received.
            at = days_ago(day + chance.choice([0, 0, 0, 3, 40])) - timedelta(hours=number // 3)
            who = {"userId": "ann"} if number % 2 else {"anonymousId": f"device-{day % 2}"}
            name = "Bought" if number % 3 else "Seen"
            message = f"{'aB'[number % 2]}-{day}-{number}"
            events.append(track(name, message, at=at, **who, properties={"n": number}))
        events.append(track("Seen", f"bob-{day}", at=days_ago(day), userId="bob"))
        world.receive(events, days=day)


def read(world: ArchiveWorld, **asked: Any) -> list[TimelineEvent]:
    with world.database.snapshot() as connection:
        tx = driver(connection)
        [found] = find_people(tx, [Identifier("user_id", "ann")])
        assert found is not None
        return read_timeline(
            tx, found.profile_no, archived=ArchivedEvents(world.folder_of_archive), **asked
        )


def read_pages(world: ArchiveWorld, size: int, **asked: Any) -> list[TimelineEvent]:
    pages: list[TimelineEvent] = []
    while True:
        page = read(world, limit=size, past=pages[-1].key if pages else None, **asked)
        pages += page
        if len(page) < size:
            return pages


ASKED: list[dict[str, Any]] = [
    {"order": "desc"},
    {"order": "asc"},
    {"order": "desc", "event": "Bought"},
    {"order": "asc", "since": days_ago(9), "until": days_ago(4)},
    {"order": "desc", "since": days_ago(60), "until": days_ago(6)},
]


def test_a_timeline_is_the_same_in_any_pages_when_most_of_it_is_archived(
    world: ArchiveWorld,
) -> None:
    before = [read(world, limit=1000, **asked) for asked in ASKED]
    assert len(before[0]) == 12 * 7
    world.archive(keep_days=5)
    assert world.query("SELECT count(*) FROM events") == [(5 * 8,)]
    for asked, events in zip(ASKED, before, strict=True):
        assert read(world, limit=1000, **asked) == events
        assert read_pages(world, 5, **asked) == events


def test_what_comes_late_for_an_archived_day_is_in_its_place_at_once(world: ArchiveWorld) -> None:
    world.archive(keep_days=5)
    world.receive([track("Late", "late-1", at=days_ago(9), userId="ann")], days=9)
    late = [event.message_id for event in read(world, limit=1000, event="Late")]
    assert late == ["late-1"]
    world.archive(keep_days=5)
    assert [event.message_id for event in read(world, limit=1000, event="Late")] == late


def said(world: ArchiveWorld) -> list[Any]:
    with world.database.snapshot() as connection:
        tx = driver(connection)
        [found] = find_people(tx, [Identifier("user_id", "ann")])
        assert found is not None
        events = read_said(tx, found.profile_no, ArchivedEvents(world.folder_of_archive))
        return list_history(list_registers(events), TODAY)


def test_the_history_of_traits_and_a_past_moment_are_told_from_the_archive(
    world: ArchiveWorld,
) -> None:
    before = said(world)
    assert len(before) >= 12
    world.archive(keep_days=5)
    after = said(world)
    assert after == before

    def city(moment: datetime) -> Any:
        return join_traits(after, moment)["city"].value

    assert [city(days_ago(11.5)), city(days_ago(10.5))] == ["city-0", "city-2"]


def test_a_recent_page_opens_no_file(world: ArchiveWorld) -> None:
    world.archive(keep_days=5)
    for file in world.list_files():
        file.unlink()
    assert len(read(world, limit=5)) == 5


def read_visits(world: ArchiveWorld, limit: int) -> tuple[Sessions, list[dict[str, Any]]]:
    with world.database.snapshot() as connection:
        tx = driver(connection)
        [found] = find_people(tx, [Identifier("user_id", "ann")])
        assert found is not None
        archived = ArchivedEvents(world.folder_of_archive)
        return (
            read_sessions(tx, found.profile_no, TODAY, limit=limit, archived=archived),
            read_channels(tx, found.profile_no, TODAY, archived),
        )


def test_sessions_and_channels_are_the_same_when_most_of_it_is_archived(
    world: ArchiveWorld,
) -> None:
    for day, minutes in ((11, 0), (11, 10), (1, 0)):
        at = days_ago(day) + timedelta(hours=5, minutes=minutes)
        page = {
            "type": "page",
            "userId": "ann",
            "messageId": f"page-{day}-{minutes}",
            "timestamp": at.isoformat(),
            "properties": {"url": f"https://shop.cn/{day}/{minutes}?utm_source=baidu"},
        }
        world.receive([page], days=day)
    before = read_visits(world, 1000)
    newest = read_visits(world, 3)
    assert len(before[0].page) > 12
    landings = [one.landing.url for one in before[0].page if one.landing.url]
    assert landings == [f"https://shop.cn/{day}/0?utm_source=baidu" for day in (1, 11)]
    world.archive(keep_days=5)
    assert read_visits(world, 1000) == before
    assert read_visits(world, 3) == newest
