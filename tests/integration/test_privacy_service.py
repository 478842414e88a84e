"""What a person told the service desk goes with them, and stands in what they are given."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cdp.storage.database import Database
from tests.support.privacy_desk import PrivacyWorld
from tests.support.wire import track

LAST_WEEK = datetime.now(UTC) - timedelta(days=7)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[PrivacyWorld]:
    made = PrivacyWorld(database, tmp_path)
    yield made
    made.close()


def test_a_deletion_takes_the_tickets_and_an_export_holds_them(world: PrivacyWorld) -> None:
    said = {"ticket_id": "MARK-1", "subject": "MARK is late"}
    for user in ("mark-ann", "bob"):
        told = said if user == "mark-ann" else {"ticket_id": "B-1"}
        event = track("Ticket Created", f"t-{user}", at=LAST_WEEK, userId=user, properties=told)
        world.send([event])
    exported = world.do("export", "user_id:mark-ann")
    with zipfile.ZipFile(world.archives.path(exported.job_id)) as archive:
        name = next(one for one in archive.namelist() if one.endswith("service.json"))
        tickets = json.loads(archive.read(name))["tickets"]
    assert [ticket["subject"] for ticket in tickets] == ["MARK is late"]

    job = world.do("delete", "user_id:mark-ann")

    assert job.receipt["removed"]["service_events"]["count"] == 1
    assert world.list_tables_with("mark") == set()
    assert world.query("SELECT record_id FROM service_events") == [("B-1",)]
