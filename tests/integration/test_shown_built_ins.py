"""What a built-in tag tells of itself: what it reads, the settings that hold, what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.runtime.clock import now
from cdp.segments.standard_tags import STANDARD_TAGS
from cdp.storage.database import Database
from tests.support.postgres import PostgresServer
from tests.support.segments import Served, serve_segments

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def served(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """One customer who bought twice, and everybody's standard tags."""
    folder: Path = tmp_path_factory.mktemp("shown")
    with postgres_server.fresh_url() as url:
        database = Database(url, application_name="cdp-test")
        with serve_segments(database, folder) as found:
            ann = found.people.add("ann")
            found.people.order(ann, now() - 9 * DAY, 5000, lines=[{"category": "tea"}])
            found.people.order(ann, now() - DAY, 5000, lines=[{"category": "pot"}])
            found.follow()
            assert found.client.post("/v1/tags/standard").status_code == 200
            yield found
        database.close()


def create(served: Served, key: str, builtin: str, **settings: Any) -> dict[str, Any]:
    definition = {"builtin": builtin, "settings": settings}
    body = {"key": key, "category": "value", "definition": definition}
    answer = served.client.post("/v1/tags", json=body)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def show(served: Served, key: str) -> dict[str, Any]:
    shown: dict[str, Any] = served.client.get(f"/v1/tags/{key}").json()
    return shown


def test_every_built_in_tells_inputs_settings_meaning_and_citation(served: Served) -> None:
    for each in STANDARD_TAGS:
        shown = show(served, each.key)

        assert shown["inputs"], each.key
        assert shown["settings"], each.key
        assert shown["meaning"], each.key
        assert shown["citation"], each.key
        assert (shown["missing"] is not None) == (shown["status"] == "not_enough_data"), each.key


def test_the_list_shows_the_same_as_the_tag(served: Served) -> None:
    listed = {row["key"]: row for row in served.client.get("/v1/tags").json()["data"]}

    for name in ("inputs", "settings", "missing"):
        assert listed["clv"][name] == show(served, "clv")[name]


def test_settings_that_were_left_out_are_filled_in(served: Served) -> None:
    assert show(served, "rfm")["settings"] == {
        "bins": 5,
        "cuts": "quantile",
        "groups": "ten",
        "zero_value_orders": False,
        "currency": "CNY",
    }
    assert show(served, "clv")["settings"]["gate"] == {
        "buyers": 500, "history_days": 180, "recent_days": 30, "repeat_orders": 3,
    }  # fmt: skip
    assert show(served, "value_tier")["settings"]["tiers"][0] == {"name": "platinum", "share": 0.05}
    assert show(served, "churn_risk")["settings"]["bands"] == {"medium": 0.33, "high": 0.66}
    assert show(served, "engagement")["settings"]["target"] == {"active_days": 8, "kinds": 5}


def test_given_settings_are_shown_beside_those_filled_in(served: Served) -> None:
    shown = create(
        served, "own_rfm", "rfm", groups="four", cuts={"recency": [1, 2, 3, 4]}, currency="USD"
    )

    assert shown["settings"]["groups"] == "four"
    assert shown["settings"]["cuts"] == {"recency": [1, 2, 3, 4]}
    assert shown["settings"]["currency"] == "USD"
    assert shown["settings"]["zero_value_orders"] is False


def test_shown_settings_can_be_posted_and_mean_the_same(served: Served) -> None:
    for each in STANDARD_TAGS:
        if each.key == "lifecycle":  # Its own stages are functions of orders, not rules.
            continue
        settings = show(served, each.key)["settings"]

        again = create(served, f"again_{each.key}", each.definition["builtin"], **settings)

        assert again["settings"] == settings


def test_inputs_name_what_is_read(served: Served) -> None:
    assert show(served, "rfm")["inputs"] == [{"from": "orders", "fields": ["placed_at", "net"]}]
    assert show(served, "nps")["inputs"] == [
        {"from": "events", "event": "NPS Answered", "fields": ["score"]}
    ]
    assert show(served, "preferred")["inputs"] == [
        {"from": "orders", "fields": ["placed_at", "channel", "lines.category", "store"]}
    ]
    assert [each["event"] for each in show(served, "sentiment")["inputs"]] == [
        "Product Reviewed", "Review Submitted", "Ticket Created",
    ]  # fmt: skip
    assert show(served, "health")["inputs"][2] == {"from": "tags", "fields": ["nps.score"]}
    contracts = create(
        served, "contracts", "churn_risk", method="contractual", started="since", ended="until"
    )
    assert contracts["inputs"] == [{"from": "traits", "fields": ["since", "until"]}]
    rule = {"trait": "plan", "op": "eq", "value": "free"}
    stages = create(served, "stages", "lifecycle", stages=[{"name": "trial", "when": rule}])
    assert stages["inputs"][0] == {"from": "rules", "rule": rule}


def test_a_tag_without_enough_data_tells_what_how_much_and_how_much_is_needed(
    served: Served,
) -> None:
    missing = {each.key: show(served, each.key)["missing"] for each in STANDARD_TAGS}

    assert missing["rfm"] is None
    assert missing["clv"] == [
        {"what": "buyers", "have": 1, "needed": 500, "message": "1 of 500 buyers"},
        {
            "what": "days of orders", "have": 9, "needed": 180,
            "message": "9 of 180 days of orders",
        },
        {
            "what": "orders of one customer", "have": 2, "needed": 3,
            "message": "nobody with 3 orders",
        },
    ]  # fmt: skip
    assert missing["nps"][0]["message"] == "0 of 1 answers from 0 to 10"
    assert missing["sentiment"][0]["message"] == "0 of 1 texts"
    assert (missing["cross_sell"][0]["have"], missing["cross_sell"][0]["needed"]) == (0, 5)
    trained = create(served, "trained", "churn_risk", method="model")
    assert trained["missing"][0] == {
        "what": "customers 180 days ago", "have": 0, "needed": 200,
        "message": "0 of 200 customers 180 days ago",
    }  # fmt: skip


def test_a_tag_of_ones_own_reads_no_built_in_inputs(served: Served) -> None:
    body = {"key": "note", "category": "basic", "definition": {"manual": True}}

    shown = served.client.post("/v1/tags", json=body).json()

    assert (shown["inputs"], shown["settings"], shown["missing"]) == (None, None, None)


def test_reviews_and_tickets_are_read_under_the_names_that_service_uses(served: Served) -> None:
    for name, event, said in (
        ("eve", "Product Reviewed", {"review_body": "Wonderful tea, I love it!"}),
        ("bob", "Ticket Created", {"subject": "Terrible, awful service, I hate it"}),
        ("dan", "Ticket Created", {"description": "", "subject": "非常失望，质量很差"}),
    ):
        served.people.event(served.people.add(name), event, now() - DAY, said)
    served.follow()
    shown = create(served, "mood", "sentiment")

    assert (shown["status"], shown["count"]) == ("ready", 3)
    assert shown["summary"]["labels"] == {"negative": 2, "positive": 1}


def test_several_kinds_of_text_may_be_chosen_but_not_beside_one(served: Served) -> None:
    texts = [{"event": "Complaint Filed", "property": "subject"}]
    assert create(served, "complaints", "sentiment", texts=texts)["status"] == "not_enough_data"

    body = {"key": "both", "definition": {"builtin": "sentiment", "settings": {
        "texts": texts, "event": "Product Reviewed"}}}  # fmt: skip
    answer = served.client.post("/v1/tags", json=body)

    assert (answer.status_code, answer.json()["details"]["path"]) == (
        422,
        "/definition/settings/texts",
    )
