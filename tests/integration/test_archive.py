"""Closed days as files: what is written, when rows are dropped, and what a crash leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cdp.archive.archive_store import ArchiveBusy, hold_archive
from cdp.archive.layout import SCHEMA
from cdp.archive.maps_folder import read_manifest
from cdp.storage.database import Database
from tests.support.archive_world import ArchiveWorld, days_ago
from tests.support.wire import identify, track


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[ArchiveWorld]:
    made = ArchiveWorld(database, tmp_path)
    yield made
    made.close()


def visit(number: int, days: float, user: str = "ann") -> dict[str, object]:
    return track("Visited", f"m-{number}", at=days_ago(days), userId=user, properties={"n": number})


def read_ids(world: ArchiveWorld) -> list[str]:
    return sorted(
        one for file in world.list_files() for one in pq.read_table(file)["message_id"].to_pylist()
    )


def test_closed_days_become_files_that_the_manifest_names_with_count_and_digest(
    world: ArchiveWorld,
) -> None:
    for days in (5, 4, 1):
        world.receive([visit(days, days), visit(days + 100, days, "bob")], days=days)
    ran = world.archive()
    assert [day.isoformat() for day in ran.archived] == [
        f"{days_ago(5):%Y-%m-%d}", f"{days_ago(4):%Y-%m-%d}"
    ]  # fmt: skip
    manifest = read_manifest(world.folder_of_archive)
    assert manifest is not None
    named = [file for day in manifest["days"] for file in day["files"]]
    root = world.folder / "archive"
    assert [root / file["path"] for file in named] == world.list_files()
    for file in named:
        raw = (root / file["path"]).read_bytes()
        assert hashlib.sha256(raw).hexdigest() == file["sha256"]
        assert pq.read_metadata(root / file["path"]).num_rows == file["rows"] == 2
        assert pq.read_schema(root / file["path"]).equals(SCHEMA)


def test_a_second_run_writes_nothing_and_a_late_event_is_archived_with_its_day(
    world: ArchiveWorld,
) -> None:
    world.receive([visit(1, 5)], days=5)
    world.archive()
    assert world.archive().archived == []
    world.receive([visit(2, 5)], days=5)
    assert len(world.archive().archived) == 1
    assert read_ids(world) == ["m-1", "m-2"]


def test_rows_leave_postgres_only_when_their_time_is_over_and_files_hold_them(
    world: ArchiveWorld,
) -> None:
    world.receive([visit(1, 9)], days=9)
    world.receive([visit(2, 4)], days=4)
    assert len(world.archive(keep_days=7).dropped) == 1
    assert world.query("SELECT message_id FROM events") == [("m-2",)]
    assert read_ids(world) == ["m-1", "m-2"]


def test_a_file_that_was_changed_keeps_its_day_in_postgres_until_it_is_written_anew(
    world: ArchiveWorld,
) -> None:
    world.receive([visit(1, 9), visit(2, 9)], days=9)
    world.archive()
    [file] = world.list_files()
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)
    ran = world.archive(keep_days=7)
    assert (len(ran.failed), ran.dropped) == (1, [])
    assert len(world.archive(keep_days=7).dropped) == 1
    assert read_ids(world) == ["m-1", "m-2"]


def test_what_comes_after_the_drop_is_added_to_the_day(world: ArchiveWorld) -> None:
    world.receive([visit(1, 9)], days=9)
    world.archive(keep_days=7)
    world.receive([visit(2, 9)], days=9)
    world.archive(keep_days=7)
    assert world.query("SELECT count(*) FROM events") == [(0,)]
    assert read_ids(world) == ["m-1", "m-2"]
    assert world.query("SELECT rows FROM archive_days") == [(2,)]


CRASHES = [
    "ArchiveFolder.create",
    "ArchiveFolder.remove",
    "put_day",
    "drop_table",
    "note_dropped",
    "write_maps",
]


@pytest.mark.parametrize("place", CRASHES)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_run_that_ends_anywhere_leaves_each_day_whole(
    world: ArchiveWorld, place: str, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.receive([visit(1, 9), visit(2, 9, "bob")], days=9)
    world.receive([visit(3, 8)], days=8)
    world.archive()
    world.receive([visit(4, 9)], days=9)
    with monkeypatch.context() as patched:
        break_at(patched, place, nth)
        with suppress(ZeroDivisionError):
            world.archive(keep_days=5)
    assert held_once(world)
    world.archive(keep_days=5)
    assert held_once(world)
    assert read_ids(world) == ["m-1", "m-2", "m-3", "m-4"]
    assert world.query("SELECT count(*) FROM events") == [(0,)]


def break_at(patched: pytest.MonkeyPatch, place: str, nth: int) -> None:
    """Let the nth call of something be the last that this process does."""
    from cdp.archive import archive_store, archiver

    owner, name = archiver, place
    if place.startswith("ArchiveFolder."):
        owner, name = archiver.ArchiveFolder, place.partition(".")[2]
    elif hasattr(archive_store, place):
        owner = archive_store
    original, calls = getattr(owner, name), []

    def fail(*args: object, **named: object) -> object:
        calls.append(name)
        if len(calls) == nth:
            raise ZeroDivisionError
        return original(*args, **named)

    patched.setattr(owner, name, fail)


def held_once(world: ArchiveWorld) -> bool:
    """Whether every message is in Postgres, or in the files of a dropped day; each once."""
    found = [row[0] for row in world.query("SELECT message_id FROM events")]
    for (path,) in world.query(
        "SELECT path FROM archive_parts p JOIN archive_days d USING (day)"
        " WHERE d.dropped_at IS NOT NULL"
    ):
        found += pq.read_table(world.folder / "archive" / path)["message_id"].to_pylist()
    return sorted(found) == ["m-1", "m-2", "m-3", "m-4"]


def test_only_one_is_at_the_archive_at_a_time(world: ArchiveWorld) -> None:
    world.receive([visit(1, 9)], days=9)
    with hold_archive(world.database.libpq_url), pytest.raises(ArchiveBusy):
        world.archive()
    assert len(world.archive().archived) == 1


def test_beside_the_days_stands_whose_each_node_is(world: ArchiveWorld) -> None:
    world.receive([visit(1, 9)], days=9)
    world.receive([identify("i-1", at=days_ago(3), userId="ann", anonymousId="browser")], days=3)
    world.archive()
    table = pq.read_table(world.folder / "archive" / "node_profiles.parquet").to_pylist()
    ann = world.find("user_id:ann")
    assert ann is not None
    assert {row["profile_id"] for row in table} == {ann.profile_id}
    assert len(table) == 2
