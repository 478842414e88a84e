"""What waits in the outbox, and what a receiver was told, say nothing of whoever was deleted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cdp.activation.deliveries_store import note_sent, queue_delivery, read_sent
from cdp.activation.delivery import Delivery
from cdp.activation.destination import Stream
from cdp.activation.destinations_store import create_destination
from cdp.activation.difference import Change
from cdp.activation.drop_folder import drop_file
from cdp.activation.send import find_folder
from cdp.storage.database import Database, driver
from tests.support.privacy_desk import PrivacyWorld
from tests.support.wire import identify

LAST_WEEK = datetime.now(UTC) - timedelta(days=7)
BUYERS = Stream("segment", "buyers")


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[PrivacyWorld]:
    made = PrivacyWorld(database, tmp_path)
    yield made
    made.close()


def send_two(world: PrivacyWorld) -> dict[str, Any]:
    """Ann and Bob are known; return their profiles by name."""
    for user in ("mark-ann", "bob"):
        email = f"{user}@example.com"
        world.send([identify(user, at=LAST_WEEK, userId=user, traits={"email": email})])
    return {user: world.find(f"user_id:{user}") for user in ("mark-ann", "bob")}


def add_destination(world: PrivacyWorld) -> str:
    with world.database.transaction() as connection:
        made = create_destination(
            driver(connection), name="crm", type="webhook",
            settings={"url": "https://crm.example.com"}, segments=["buyers"], tags=[],
            fields=["email"], consent=[], is_masked=False, secret="whsec_x",
        )  # fmt: skip
    return made.destination_id


def tell(world: PrivacyWorld, destination_id: str, number: int, people: dict[str, Any]) -> None:
    """Queue that both entered, as a look at the destination does."""
    rows = [
        {
            "key": f"segment:buyers:{person.profile_id}",
            "change": "entered",
            "profile_id": person.profile_id,
            "fields": {"email": f"{user}@example.com"},
        }
        for user, person in people.items()
    ]
    changes = [
        Change(BUYERS, person.profile_no, person.profile_id, "entered", user.encode(), None)
        for user, person in people.items()
    ]
    with world.database.transaction() as connection:
        queue_delivery(driver(connection), destination_id, number, rows)
        note_sent(driver(connection), destination_id, changes)


@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_dropped_files_say_nothing_more_of_who_was_deleted(
    world: PrivacyWorld, tmp_path: Path, format: str
) -> None:
    people = send_two(world)
    gone = people["mark-ann"].profile_id
    root = find_folder(world.desk.settings.data_dir, None)
    rows = [
        {
            "change": change,
            "profile_id": person.profile_id,
            "fields": {"email": f"{user}@example.com"} if change == "entered" else {},
        }
        for user, person in people.items()
        for change in ("entered", "left")
    ]
    delivery = Delivery("msg_1", "dst_1", 1, rows, 0, LAST_WEEK, None)
    drop_file(root, {"path": "crm", "format": format}, ["email"], delivery)
    world.ask("delete", "user_id:mark-ann")
    world.desk.work()

    (file,) = (root / "crm").iterdir()
    if format == "parquet":
        left = [(row["change"], row["profile_id"]) for row in pq.read_table(file).to_pylist()]
        assert left == [
            ("left", gone),
            ("entered", people["bob"].profile_id),
            ("left", people["bob"].profile_id),
        ]
    else:
        text = file.read_text()
        assert "mark-ann@example.com" not in text
        assert "bob@example.com" in text
        assert text.count(gone) == 1, "that they left may be known"


def list_waiting(world: PrivacyWorld) -> list[tuple[Any, ...]]:
    return world.query("SELECT row_count, rows->0->'fields'->>'email' FROM deliveries ORDER BY 1")


def test_a_deletion_takes_the_person_out_of_deliveries_at_once(world: PrivacyWorld) -> None:
    people = send_two(world)
    tell(world, add_destination(world), 1, people)
    world.analytics.is_ready = False  # Only the first step is done.
    world.ask("delete", "user_id:mark-ann")
    world.desk.work()
    assert list_waiting(world) == [(1, "bob@example.com")]

    world.analytics.is_ready = True
    world.carry_out()
    (job,) = world.query("SELECT receipt->'removed'->'deliveries'->'count' FROM privacy_jobs")
    assert job == (1,)
    assert world.list_tables_with("mark") == set()


def test_what_was_planned_while_the_person_was_deleted_goes_too(world: PrivacyWorld) -> None:
    people = send_two(world)
    destination_id = add_destination(world)
    world.analytics.is_ready = False
    world.ask("delete", "user_id:mark-ann")
    world.desk.work()
    tell(world, destination_id, 1, people)
    world.analytics.is_ready = True
    world.carry_out()
    assert list_waiting(world) == [(1, "bob@example.com")]


def test_that_they_are_gone_can_still_be_told_and_a_digest_tells_nothing(
    world: PrivacyWorld,
) -> None:
    people = send_two(world)
    destination_id = add_destination(world)
    tell(world, destination_id, 1, people)
    world.do("delete", "user_id:mark-ann")
    numbers = [person.profile_no for person in people.values()]
    with world.database.transaction() as connection:
        sent = read_sent(driver(connection), destination_id, BUYERS.name, numbers)
    assert {one.profile_id: one.digest for one in sent} == {
        people["mark-ann"].profile_id: b"",
        people["bob"].profile_id: b"bob",
    }


def test_a_delivery_that_says_that_they_are_gone_stays(world: PrivacyWorld) -> None:
    people = send_two(world)
    left = {"change": "left", "profile_id": people["mark-ann"].profile_id}
    with world.database.transaction() as connection:
        queue_delivery(driver(connection), add_destination(world), 1, [left])
    world.do("delete", "user_id:mark-ann")
    assert world.query("SELECT rows->0->>'change' FROM deliveries") == [("left",)]
