"""Built-in tags over real orders and events: values, summaries, and what moves them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from tests.support.segments import Served, serve_segments

DAY = timedelta(days=1)


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


def create(served: Served, key: str, definition: Any) -> dict[str, Any]:
    answer = served.client.post(
        "/v1/tags", json={"key": key, "category": "value", "definition": definition}
    )
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def show(served: Served, key: str) -> dict[str, Any]:
    document: dict[str, Any] = served.client.get(f"/v1/tags/{key}").json()
    return document


def values(served: Served, key: str) -> dict[str, Any]:
    """Return the values in Postgres, having checked that DuckDB has the same."""
    with served.database.transaction() as connection:
        rows = driver(connection).execute(
            "SELECT profile_id, value FROM tag_values WHERE key = %s", (key,)
        )
        stored = {name.removeprefix("prf_user_id_"): value for name, value in rows.fetchall()}
    mirrored = served.engine.read("SELECT profile_id FROM core.tag_values WHERE key = ?", [key])
    assert mirrored.num_rows == len(stored)
    return stored


def test_rfm_scores_customers_by_value_cuts(served: Served) -> None:
    for number in range(1, 11):
        node = served.people.add(f"c{number}")
        for _ in range(number):
            served.people.order(node, now() - number * DAY, 1000)
    served.follow()

    tag = create(served, "rfm", {"builtin": "rfm", "settings": {"groups": "ten"}})

    assert (tag["status"], tag["type"], tag["count"]) == ("ready", "object", 10)
    found = values(served, "rfm")
    assert found["c1"] == {
        "recency": 1, "frequency": 1, "monetary": 1000, "r": 5, "f": 1, "m": 1, "group": "new",
    }  # fmt: skip
    assert (found["c10"]["r"], found["c10"]["f"], found["c10"]["m"]) == (1, 5, 5)
    assert tag["summary"]["small_population"] is True
    assert tag["summary"]["sizes"]["f"] == {"1": 2, "2": 2, "3": 2, "4": 2, "5": 2}
    shown = served.client.get("/v1/tags/rfm/distribution", params={"field": "group"}).json()
    assert sum(row["count"] for row in shown["data"]) == 10
