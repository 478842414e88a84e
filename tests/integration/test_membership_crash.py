"""kill -9 between the ledger and its mirror: nothing is lost, nothing is told twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from cdp.analytics.engine import Engine
from cdp.segments import segments_store
from cdp.segments.membership_store import list_changes
from cdp.segments.refresh import Refresher
from cdp.storage.database import Database, driver
from tests.support.people import NOON, People


def refresh_and_die(database: Database, file: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.support.refresh_and_die",
            database.url, str(file), NOON.isoformat(),
        ],
        timeout=120, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_killed_refresh_is_finished_by_the_next(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "analytics.duckdb"
    engine = Engine(file)
    people = People(database, engine)
    numbers = [people.add(name) for name in ("ann", "bob", "eve")]
    for number in numbers:
        people.event(number, "Order Completed")
    people.publish()
    engine.close()
    with database.transaction() as connection:
        segments_store.create_segment(
            driver(connection), key="buyers", name="Buyers", description="",
            rule={"event": "Order Completed"}, consent=None, actor="test", now=NOON,
        )  # fmt: skip

    for _ in range(3):
        refresh_and_die(database, file)
    engine = Engine(file)
    Refresher(database, engine, timezone="UTC", time_seconds=15).refresh(NOON)

    with database.transaction() as connection:
        told = list_changes(driver(connection), "buyers", after=0, limit=100)
    assert [(row.profile_id, row.change) for row in told] == [
        (f"prf_user_id_{name}", "entered") for name in ("ann", "bob", "eve")
    ]
    mirrored = engine.read("SELECT profile_no FROM core.memberships ORDER BY profile_no")
    assert mirrored["profile_no"].to_pylist() == numbers
    engine.close()
