"""``segment check`` compares what is kept with a full evaluation, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from tests.support.segments import Served, serve_segments

CASES = {"cases": [{"when": {"segment": "buyers"}, "then": "yes"}], "else": "no"}


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        found.client.post("/v1/segments", json={"key": "buyers", "rule": {"event": "Bought"}})
        tag = {"key": "bought", "name": "Bought", "category": "basic", "type": "text"}
        found.client.post("/v1/tags", json=tag | {"definition": CASES})
        for name in ("ann", "bob"):
            number = found.people.add(name)
            found.people.event(number, "Bought", now() - timedelta(hours=1))
        found.people.add("eve")
        found.follow()
        yield found


def test_what_was_evaluated_step_by_step_is_what_a_full_evaluation_says(served: Served) -> None:
    answer = served.client.post("/v1/segments/check").json()

    assert answer["ok"]
    assert [(row["kind"], row["key"], row["size"], row["ok"]) for row in answer["data"]] == [
        ("segment", "buyers", 2, True),
        ("tag", "bought", 3, True),
    ]


def test_a_difference_is_told_and_not_mended(served: Served) -> None:
    with served.engine.write() as duck:
        duck.execute("DELETE FROM core.memberships WHERE profile_id = 'prf_user_id_ann'")
    with served.database.transaction() as connection:
        driver(connection).execute("DELETE FROM memberships WHERE profile_id = 'prf_user_id_ann'")
    changes = served.changes("buyers")
    answer = served.client.post("/v1/segments/check").json()

    assert not answer["ok"]
    by_key = {row["key"]: row for row in answer["data"]}
    assert (by_key["buyers"]["missing"], by_key["buyers"]["extra"]) == (1, 0)
    assert by_key["bought"]["ok"]
    assert served.changes("buyers") == changes
    assert not served.client.post("/v1/segments/check").json()["ok"]
