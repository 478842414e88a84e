"""Within one refresh, units see what the units before them came to, whoever is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cdp.analytics.engine import Engine
from cdp.segments.refresh import Refresher
from cdp.storage.database import Database
from tests.integration.test_membership import define, members, mirrored
from tests.support.people import NOON, People


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "analytics.duckdb")
    yield opened
    opened.close()


def test_a_unit_that_looks_at_more_people_still_sees_what_the_one_before_it_changed(
    database: Database, engine: Engine
) -> None:
    people = People(database, engine)
    refresher = Refresher(database, engine, timezone="UTC", time_seconds=15)
    ann, bob = people.add("ann"), people.add("bob")
    people.event(bob, "page")
    people.event(ann, "signed up")
    people.publish()
    define(database, "a_everybody", {"event": "signed up"})
    define(database, "b_buyers", {"event": "Order Completed"})
    define(database, "c_both", {"all": [{"segment": "a_everybody"}, {"segment": "b_buyers"}]})
    refresher.refresh(NOON)

    people.event(ann, "Order Completed")
    people.publish()
    define(database, "a_everybody", {"any": [{"event": "signed up"}, {"event": "page"}]})
    refresher.refresh(NOON + timedelta(minutes=1))

    assert members(database, "a_everybody") == {"prf_user_id_ann", "prf_user_id_bob"}
    assert members(database, "c_both") == mirrored(engine, "c_both") == {"prf_user_id_ann"}
