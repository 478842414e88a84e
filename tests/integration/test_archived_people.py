"""Privacy of people of whom most lies in the archive: deletion, export, shared devices."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cdp.archive import archive_store
from cdp.archive.archive_store import hold_archive
from cdp.storage.database import Database
from tests.support.archive_world import ArchiveWorld, days_ago
from tests.support.wire import identify, track

TRAITS = {"email": "ann@mark.example"}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[ArchiveWorld]:
    made = ArchiveWorld(database, tmp_path)
    yield made
    made.close()


def fill(world: ArchiveWorld) -> None:
    """Ann and Bob on five days each; three of them are in the archive alone, one is a copy."""
    for day in (9, 8, 7, 4, 1):
        at = days_ago(day)
        world.receive(
            [
                identify(f"i-{day}", at=at, userId="mark-ann", traits=TRAITS),
                track("Seen", f"s-{day}", at=at, userId="mark-ann", properties={"x": "MARK"}),
                track("Seen", f"bob-{day}", at=at, userId="bob"),
            ],
            days=day,
        )
    world.archive(keep_days=5)


def list_ids(world: ArchiveWorld) -> list[str]:
    """The messages whose events are in the files."""
    files = world.list_files()
    return sorted(one for file in files for one in pq.read_table(file)["message_id"].to_pylist())


def list_archived(world: ArchiveWorld) -> list[str]:
    """All that the files say, as text."""
    files = (world.folder / "archive").rglob("*.parquet*")
    return [json.dumps(pq.read_table(file).to_pylist(), default=str) for file in files]


def test_nothing_of_a_deleted_person_is_in_the_archive_and_the_receipt_counts_it(
    world: ArchiveWorld,
) -> None:
    fill(world)
    assert any("MARK" in text for text in list_archived(world))
    job = world.do("delete", "email:ann@mark.example")
    assert not any("mark" in text.lower() for text in list_archived(world))
    assert world.list_tables_with("mark") == set()
    removed = job.receipt["removed"]
    assert (removed["events"]["count"], removed["archive"]["count"]) == (4, 8)
    ids = list_ids(world)
    assert ids == ["bob-4", "bob-7", "bob-8", "bob-9"]
    assert world.archive(keep_days=5).archived == []


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("place", ["exchange_part", "list_days"])
def test_a_deletion_killed_among_the_files_goes_on_and_counts_each_event_once(
    world: ArchiveWorld, place: str, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world)
    calls: list[str] = []
    original = getattr(archive_store, place)

    def fail(*args: Any, **named: Any) -> Any:
        calls.append(place)
        if len(calls) == nth:
            raise ZeroDivisionError
        return original(*args, **named)

    job_id = world.ask("delete", "user_id:mark-ann")
    with monkeypatch.context() as patched:
        patched.setattr(archive_store, place, fail)
        with pytest.raises(ZeroDivisionError):
            world.carry_out()
    world.desk = world.make_desk()
    world.carry_out()
    assert world.find_job(job_id).receipt["removed"]["archive"]["count"] == 8
    assert not any("mark" in text.lower() for text in list_archived(world))


def test_a_deletion_waits_for_whoever_is_at_the_archive(world: ArchiveWorld) -> None:
    fill(world)
    job_id = world.ask("delete", "user_id:mark-ann")
    with hold_archive(world.database.libpq_url):
        for _ in range(3):
            world.desk.work()
        assert "archive" in str(world.find_job(job_id).waiting)
    world.carry_out()
    assert world.find_job(job_id).status == "done"


def test_of_a_shared_device_only_the_slice_of_the_deleted_goes(world: ArchiveWorld) -> None:
    def use(day: float, user: str) -> list[dict[str, Any]]:
        at = days_ago(day)
        return [
            track("Seen", f"{user}-{day}", at=at, userId=user, anonymousId="tablet"),
            track("Seen", f"tablet-{day}", at=at, anonymousId="tablet"),
        ]

    for day, user in ((9, "ann"), (8, "bob"), (7, "cleo")):
        world.receive(use(day, user), days=day)
    world.archive(keep_days=5)
    world.do("delete", "user_id:ann")
    ids = set(list_ids(world))
    assert ids & {"bob-8", "cleo-7", "ann-9"} == {"bob-8", "cleo-7"}
    assert {"tablet-8", "tablet-7"} <= ids


def test_an_export_holds_what_is_archived_too(world: ArchiveWorld) -> None:
    fill(world)
    job = world.do("export", "user_id:mark-ann")
    with zipfile.ZipFile(world.archives.path(job.job_id)) as archive:
        [name] = [one for one in archive.namelist() if one.endswith("/events.json")]
        events = json.loads(archive.read(name))
    assert len(events) == 10
    assert [one["timestamp"] for one in events] == sorted(one["timestamp"] for one in events)
