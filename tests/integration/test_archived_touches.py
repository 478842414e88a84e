"""What brought people stays known when their days lie in the archive alone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cdp.archive import archive_store
from cdp.archive.keep_time import let_go, read_cutoffs
from cdp.archive.retention import Rule
from cdp.archive.retention_store import replace_rules
from cdp.identity.repair_store import rebuild_profiles
from cdp.model import Identifier
from cdp.profiles.page_store import read_page
from cdp.profiles.profile_store import find_people
from cdp.profiles.touches_store import Touches, read_touches
from cdp.storage.database import Database, driver
from tests.support.archive_world import TODAY, ArchiveWorld, days_ago
from tests.support.wire import identify, track


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[ArchiveWorld]:
    made = ArchiveWorld(database, tmp_path)
    yield made
    made.close()


VISITS: list[dict[str, Any]] = [
    {"context": {"campaign": {"source": "春季", "name": "s\u2028pring", "medium": "cpc", "x": 1}}},
    {"context": {"page": {"url": "https://shop.cn/?gclid=x&utm_term=boots", "title": "PRIVATE"}}},
    {
        "type": "page",
        "context": {"page": {}, "campaign": {"source": "mail", "content": {"a": 1}}},
        "properties": {
            "url": "https://shop.cn/a?utm_medium=email",
            "store": "Bund",
            "y": "PRIVATE",
        },
    },
    {
        "type": "page",
        "properties": {"url": "https://shop.cn/b", "referrer": "https://www.baidu.com/s?wd=x"},
    },
    {"context": {"campaign": {"source": 7}}, "properties": {"store": 9}},
    {"context": {"page": {"url": "https://shop.cn/", "referrer": "https://shop.cn/a"}}},
]


def visit(message_id: str, day: float, kind: int = 0, **who: str) -> dict[str, Any]:
    """A visit of some kind that somebody made some days ago."""
    return track("Seen", message_id, at=days_ago(day), **who) | VISITS[kind]


def tell(world: ArchiveWorld, name: str, at: datetime | None = None) -> Touches:
    """Read somebody's first and last touch."""
    with world.database.transaction() as connection:
        [found] = find_people(driver(connection), [Identifier(*name.split(":"))])
        assert found is not None
        return read_touches(driver(connection), found.profile_no, at)


def name_ends(touches: Touches) -> list[str | None]:
    return [one and one["message_id"] for one in touches]


def count_kept(world: ArchiveWorld) -> int:
    return int(world.query("SELECT count(*) FROM touch_facts")[0][0])


def test_touches_are_told_alike_before_and_after_their_days_are_dropped(
    world: ArchiveWorld,
) -> None:
    for day in range(12, 0, -1):
        world.receive(
            [
                *(visit(f"v-{day}-{n}", day + n / 24, n, userId="ann") for n in range(len(VISITS))),
                visit(f"b-{day}", day, day % len(VISITS), userId="bob"),
            ],
            days=day,
        )
    moments = [None, *(days_ago(n / 4) for n in range(52))]
    asked = [(name, at) for name in ("user_id:ann", "user_id:bob") for at in moments]
    before = [tell(world, *one) for one in asked]
    assert name_ends(before[0]) == ["v-12-4", "v-1-0"]
    assert world.archive(keep_days=5).dropped
    assert world.query("SELECT count(*) FROM events") == [(5 * 7,)]
    assert [tell(world, *one) for one in asked] == before
    assert "PRIVATE" not in str(world.query("SELECT * FROM touch_facts"))
    page = world.database.read(
        lambda tx: read_page(tx, Identifier("user_id", "ann"), {"touches"}, TODAY)
    )
    assert page is not None
    assert tuple(page.members.values()) == before[0]


def test_what_comes_late_for_a_dropped_day_may_be_the_first_touch(world: ArchiveWorld) -> None:
    world.receive([visit("m-8", 8, userId="ann")], days=8)
    world.archive(keep_days=5)
    world.receive([visit("m-9", 9, userId="ann")], days=8)
    assert name_ends(tell(world, "user_id:ann")) == ["m-9", "m-8"]
    world.archive(keep_days=5)
    assert world.query("SELECT count(*) FROM events") == [(0,)]
    assert name_ends(tell(world, "user_id:ann")) == ["m-9", "m-8"]


def test_touches_follow_who_is_who_after_their_days_were_dropped(world: ArchiveWorld) -> None:
    world.receive([visit("phone", 9, anonymousId="phone")], days=9)
    world.receive([visit("ann", 8, userId="ann")], days=8)
    world.archive(keep_days=5)
    assert name_ends(tell(world, "user_id:ann")) == ["ann", "ann"]
    world.receive([identify("i", at=days_ago(1), userId="ann", anonymousId="phone")], days=1)
    assert name_ends(tell(world, "user_id:ann")) == ["phone", "ann"]
    rebuild_profiles(world.database, "CN", TODAY)
    assert name_ends(tell(world, "user_id:ann")) == ["phone", "ann"]


def share_a_tablet(world: ArchiveWorld) -> None:
    """Three people are seen on it one after the other, so it is nobody's from then on."""
    for day, user in ((9, "ann"), (8, "bob"), (7, "cleo")):
        seen = [
            identify(f"i-{user}", at=days_ago(day + 0.1), userId=user, anonymousId="tablet"),
            visit(f"t-{day}", day, anonymousId="tablet"),
        ]
        world.receive(seen, days=day)


def test_touches_of_a_device_that_becomes_shared_are_given_to_whose_time_it_was(
    world: ArchiveWorld,
) -> None:
    for day in (9.5, 8.5):
        world.receive([visit(f"t-{day}", day, anonymousId="tablet")], days=day)
    world.archive(keep_days=5)
    kept = count_kept(world)
    share_a_tablet(world)
    before = [tell(world, f"user_id:{user}") for user in ("ann", "bob", "cleo")]
    assert len({str(name_ends(one)) for one in before}) > 1
    world.archive(keep_days=5)
    assert count_kept(world) > kept
    assert [tell(world, f"user_id:{user}") for user in ("ann", "bob", "cleo")] == before


def read_tablet(world: ArchiveWorld) -> list[Any]:
    """What each of three people has of a tablet: events, and when the first and the last was."""
    people = [world.find(f"user_id:{user}") for user in ("ann", "bob", "cleo")]
    return [
        sorted(
            (one.events, one.first_seen, one.last_seen)
            for one in person.nodes
            if one.type == "anonymous_id"
        )
        for person in people
        if person is not None
    ]


def test_counters_of_a_shared_device_stay_when_its_days_are_dropped(world: ArchiveWorld) -> None:
    share_a_tablet(world)
    world.receive([track("Seen", "late", at=days_ago(9.05), anonymousId="tablet")], days=7)
    before = read_tablet(world)
    assert any(events > 1 for person in before for events, *_ in person)
    world.archive(keep_days=5)
    assert world.query("SELECT count(*) FROM events") == [(0,)]
    assert read_tablet(world) == before
    world.do("delete", "user_id:ann")
    left = {row[0] for row in world.query("SELECT message_id FROM shared_device_facts")}
    assert {"t-8", "t-7"} <= left
    assert not left & {"t-9", "late"}


def test_nothing_is_left_of_the_touches_of_who_is_deleted(world: ArchiveWorld) -> None:
    for user in ("mark-ann", "bob"):
        world.receive(
            [visit(f"{user}-9", 9, userId=user), visit(f"{user}-8", 8, userId=user)], days=9
        )
    world.archive(keep_days=5)
    job = world.do("delete", "user_id:mark-ann")
    assert world.list_tables_with("mark") == set()
    assert job.receipt["removed"]["touch_facts"]["count"] == 2
    assert count_kept(world) == 2
    assert name_ends(tell(world, "user_id:bob")) == ["bob-9", "bob-8"]


def test_of_a_shared_device_only_the_touches_of_the_deleted_go(world: ArchiveWorld) -> None:
    share_a_tablet(world)
    world.archive(keep_days=5)
    ends = name_ends(tell(world, "user_id:ann"))
    assert count_kept(world) == 3
    world.do("delete", "user_id:ann")
    left = {row[0] for row in world.query("SELECT message_id FROM touch_facts")}
    assert left == {"t-9", "t-8", "t-7"} - set(ends)
    assert len(left) == 2


def test_a_touch_whose_time_is_over_is_kept_nowhere(world: ArchiveWorld) -> None:
    for day in (9, 8):
        world.receive([visit(f"m-{day}", day, userId="ann")], days=day)
        world.receive([visit(f"p-{day}", day, 3, userId="ann")], days=day)
    world.archive(keep_days=5)
    with world.database.transaction() as connection:
        replace_rules(driver(connection), [Rule(None, "Seen", 8), Rule(None, "page", 9)])
    cutoffs = read_cutoffs(world.database, TODAY)
    let_go(world.database, world.folder_of_archive, cutoffs, TODAY)
    assert name_ends(tell(world, "user_id:ann")) == ["p-9", "p-8"]


def test_an_export_tells_the_first_touch_of_an_archived_day(world: ArchiveWorld) -> None:
    world.receive([visit("m-9", 9, userId="ann")], days=9)
    world.archive(keep_days=5)
    job = world.do("export", "user_id:ann")
    with zipfile.ZipFile(world.archives.path(job.job_id)) as archive:
        [name] = [one for one in archive.namelist() if one.endswith("/profile.json")]
        profile = json.loads(archive.read(name))
    assert profile["first_touch"]["message_id"] == "m-9"


def test_nothing_is_kept_of_a_day_to_which_others_came_meanwhile(
    world: ArchiveWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.receive([visit("m-9", 9, userId="ann")], days=9)
    with monkeypatch.context() as patched:
        patched.setattr(archive_store, "drop_table", lambda *_, **__: False)
        assert world.archive(keep_days=5).dropped == []
    assert count_kept(world) == 0
    assert name_ends(tell(world, "user_id:ann")) == ["m-9", "m-9"]
