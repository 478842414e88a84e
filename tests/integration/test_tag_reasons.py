"""Revenue falls: its customer moves to a warning when it has held, and the reason says how far."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.runtime.clock import now
from cdp.segments.tag_moves import describe_move
from cdp.storage.database import Database
from tests.support.segments import Served, serve_segments

DOCUMENT = Path(__file__).parents[2] / "docs" / "tags.md"


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


def read_example(start: datetime) -> dict[str, Any]:
    """Return the definition that the page shows, reading ``start`` for now."""
    (example,) = re.findall(
        r'```json\n(\{"key": "revenue_trend".*?)```', DOCUMENT.read_text(), re.S
    )
    body: dict[str, Any] = json.loads(example)
    sql = body["definition"]["sql"].replace("now()", "'{}'::timestamptz")
    body["definition"]["sql"] = sql.replace("{}", start.isoformat())
    return body


def test_a_fall_over_two_quarters_becomes_a_warning_that_says_by_how_much(served: Served) -> None:
    start = now()
    ann, bob = served.people.add("ann"), served.people.add("bob")
    for node, late in ((ann, 8200), (bob, 12_000)):
        for months_ago, total in ((11, 4000), (8, 6000), (2, late)):
            served.people.order(node, start - timedelta(days=30 * months_ago), total)
    # Until the day of the fall she had bought as much as before.
    returned = served.people.order(ann, start - timedelta(days=30), 1800)
    served.people.publish(start)
    served.refresher.refresh(start)
    body = read_example(start)
    assert served.client.post("/v1/tags", json=body).status_code == 201, body
    moment = start + timedelta(days=1)

    served.people.order(ann, start - timedelta(days=30), 1800, refunded=1800, number=returned)
    served.people.publish(moment)
    served.refresher.refresh(moment)
    path = "/v1/tags/revenue_trend"
    for days in (13, 15):
        shown = served.client.get(path).json()
        assert [row["people"] for row in shown["waiting"]] == [1], days
        served.refresher.refresh(moment + timedelta(days=days))

    last = served.client.get(f"{path}/changes").json()["data"][-1]
    assert last["profile_id"] == "prf_user_id_ann"
    assert (last["from"]["stage"], last["to"]["stage"]) == ("regular", "churn warning")
    assert (last["cause"], last["reason"]) == (
        "time", "regular → churn warning, revenue −18 %",
    )  # fmt: skip
    assert served.client.get(path).json()["waiting"] == []


def test_figures_are_told_against_what_stands_beside_them_else_against_the_value_before() -> None:
    before = {"stage": "a", "revenue": 82, "revenue_before": 90, "orders": 4}
    after = {"stage": "b", "revenue": 82, "revenue_before": 100, "orders": 5}
    assert describe_move(before, after, "stage") == "a → b, revenue −18 %, orders +25 %"
