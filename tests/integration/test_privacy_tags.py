"""What tags and segments said of a person: handed over when asked, gone when they are deleted."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.storage.database import Database, driver
from tests.support.privacy_desk import PrivacyWorld
from tests.support.wire import identify

LAST_WEEK = datetime.now(UTC) - timedelta(days=7)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[PrivacyWorld]:
    made = PrivacyWorld(database, tmp_path)
    yield made
    made.close()


def tag(world: PrivacyWorld, user: str, first_change: int) -> None:
    """Let a person have become silver, enter a segment, and wait to become gold."""
    world.send([identify(user, at=LAST_WEEK, userId=user, traits={"plan": "pro"})])
    person = world.find(f"user_id:{user}")
    who = {"no": person.profile_no, "id": person.profile_id, "at": LAST_WEEK}
    with world.database.transaction() as connection:
        tx = driver(connection)
        for number, value in enumerate(("bronze", "silver"), start=first_change):
            tx.execute(
                """INSERT INTO tag_changes (change_no, key, profile_no, profile_id, value, at,
                                            cause, version)
                   VALUES (%(n)s, 'tier', %(no)s, %(id)s, %(value)s::json, %(at)s, 'event', 1)""",
                {**who, "n": number, "value": json.dumps(f"{value} of {user}")},
            )
        tx.execute(
            """INSERT INTO membership_changes (change_no, segment, profile_no, profile_id, change,
                                               at, cause, version)
               VALUES (%(n)s, 'vip', %(no)s, %(id)s, 'entered', %(at)s, 'event', 1)""",
            {**who, "n": first_change + 2},
        )
        tx.execute(
            """INSERT INTO tag_moves (key, profile_no, level, rises, since, due_at)
               VALUES ('tier', %(no)s, '"gold"', true, %(at)s, now())""",
            who,
        )


def read_files(world: PrivacyWorld, name: str) -> dict[str, Any]:
    job = world.do("export", name)
    with zipfile.ZipFile(world.archives.path(job.job_id)) as archive:
        return {
            path.rpartition("/")[2]: json.loads(archive.read(path))
            for path in archive.namelist()
            if path.endswith(".json")
        }


def test_an_export_tells_every_value_that_a_person_had_and_what_waits(world: PrivacyWorld) -> None:
    tag(world, "ann", 1)
    tag(world, "bob", 4)

    files = read_files(world, "user_id:ann")

    said = [(row["key"], row["value"], row["cause"]) for row in files["tag_history.json"]]
    assert said == [("tier", "bronze of ann", "event"), ("tier", "silver of ann", "event")]
    assert [(row["segment"], row["change"]) for row in files["segment_history.json"]] == [
        ("vip", "entered")
    ]
    assert [(row["key"], row["value"]) for row in files["tags_to_come.json"]] == [("tier", "gold")]


def test_a_deletion_leaves_no_value_and_nobody_who_waits(world: PrivacyWorld) -> None:
    tag(world, "ann", 1)
    tag(world, "bob", 4)

    world.do("delete", "user_id:ann")

    assert world.query("SELECT count(*) FROM tag_changes WHERE value::text LIKE '%%ann%%'") == [
        (0,)
    ]
    bob = world.find("user_id:bob").profile_no
    assert world.query("SELECT profile_no FROM tag_moves") == [(bob,)]
    assert world.query("SELECT count(*) FROM tag_changes WHERE value IS NOT NULL") == [(2,)]
