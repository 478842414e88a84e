"""Built-in tags over real orders and events: values, summaries, and what moves them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from tests.support.cdnow import read_purchases
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


def test_a_touched_customer_is_scored_at_once_and_everybody_when_there_is_time(
    served: Served,
) -> None:
    nodes = [served.people.add(f"c{number}") for number in range(1, 6)]
    for number, node in enumerate(nodes, start=1):
        served.people.order(node, now() - number * DAY, 1000 * number)
    served.follow()
    create(served, "rfm", {"builtin": "rfm"})
    before = values(served, "rfm")
    assert (before["c1"]["m"], before["c5"]["m"]) == (1, 5)

    served.people.order(nodes[0], now(), 100_000)
    served.follow()

    after = values(served, "rfm")
    assert (after["c1"]["monetary"], after["c1"]["m"]) == (101_000, 5)
    assert after["c5"]["m"] == 4
    assert after["c1"]["recency"] == 0


def test_a_correction_a_refund_and_a_cancellation_move_the_figures(served: Served) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    first = served.people.order(ann, now() - DAY, 5000)
    second = served.people.order(ann, now() - 2 * DAY, 3000)
    served.people.order(bob, now() - 3 * DAY, 3000)
    served.follow()
    create(served, "rfm", {"builtin": "rfm"})

    served.people.order(ann, now() - DAY, 5000, refunded=1000, number=first)
    served.follow()
    assert values(served, "rfm")["ann"]["frequency"] == 2
    assert values(served, "rfm")["ann"]["monetary"] == 7000

    served.people.order(ann, now() - DAY, 5000, refunded=5000, number=first)
    served.follow()
    assert values(served, "rfm")["ann"]["frequency"] == 1
    assert values(served, "rfm")["ann"]["recency"] == 2

    served.people.order(ann, now() - 2 * DAY, 3000, status="cancelled", number=second)
    served.follow()
    assert set(values(served, "rfm")) == {"bob"}
    assert show(served, "rfm")["summary"]["excluded"]["cancelled"] == 1


def test_future_orders_and_those_in_other_currencies_are_left_out_and_told(
    served: Served,
) -> None:
    ann = served.people.add("ann")
    served.people.order(ann, now() - DAY, 5000)
    served.people.order(ann, now() + DAY, 5000)
    served.people.order(ann, now() - DAY, 700, currency="USD")
    served.people.order(ann, now() - DAY, 0)
    served.follow()

    tag = create(served, "rfm", {"builtin": "rfm"})

    assert values(served, "rfm")["ann"]["monetary"] == 5000
    assert values(served, "rfm")["ann"]["frequency"] == 1
    excluded = tag["summary"]["excluded"]
    assert (excluded["future"], excluded["other_currency"], excluded["zero_value"]) == (1, 1, 1)
    assert tag["summary"]["currency"] == "CNY"


def test_an_order_dated_ahead_counts_when_its_time_has_come(served: Served) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    served.people.order(ann, now() - DAY, 5000)
    served.people.order(ann, now() + timedelta(minutes=5), 5000)
    served.follow()
    create(served, "rfm", {"builtin": "rfm"})
    assert values(served, "rfm")["ann"]["frequency"] == 1

    served.people.event(bob, "page")
    served.people.publish(now())
    served.refresher.refresh(now() + timedelta(minutes=6))

    assert values(served, "rfm")["ann"]["frequency"] == 2


def test_orders_are_converted_at_their_days_rate(served: Served) -> None:
    with served.engine.write() as duck:
        duck.execute("INSERT INTO core.rates VALUES ('USD', 'CNY', '2020-01-01', 7, 7, 1)")
    ann = served.people.add("ann")
    served.people.order(ann, now() - DAY, 700, currency="USD")
    served.people.order(ann, now() - DAY, 100)
    served.follow()
    create(served, "rfm", {"builtin": "rfm"})
    assert values(served, "rfm")["ann"]["monetary"] == 5000


def test_orders_can_be_chosen_and_the_snapshot_fixed(served: Served) -> None:
    ann = served.people.add("ann")
    served.people.order(ann, datetime(2026, 1, 5, tzinfo=UTC), 1000, channel="web")
    served.people.order(ann, datetime(2026, 1, 8, tzinfo=UTC), 1000, channel="shop")
    served.people.order(ann, datetime(2026, 2, 8, tzinfo=UTC), 1000, channel="web")
    served.follow()
    where = [{"property": "channel", "op": "eq", "value": "web"}]

    create(served, "rfm", {"builtin": "rfm", "orders": {"where": where}, "as_of": "2026-01-10"})

    found = values(served, "rfm")["ann"]
    assert (found["recency"], found["frequency"], found["monetary"]) == (5, 1, 1000)


def test_a_merge_joins_two_histories_and_an_erased_person_has_no_value(served: Served) -> None:
    ann, device = served.people.add("ann"), served.people.add("d1", kind="anonymous_id")
    served.people.order(ann, now() - DAY, 1000)
    served.people.order(device, now() - 2 * DAY, 500)
    served.follow()
    create(served, "rfm", {"builtin": "rfm"})
    create(served, "stage", {"builtin": "lifecycle"})

    served.people.merge(device, ann)
    served.follow()
    assert {name: row["monetary"] for name, row in values(served, "rfm").items()} == {"ann": 1500}
    assert values(served, "stage")["ann"]["stage"] == "repeat"

    served.people.erase(ann)
    served.follow()
    assert values(served, "rfm") == {}
    assert show(served, "rfm")["status"] == "not_enough_data"


def test_a_tag_without_data_says_so(served: Served) -> None:
    served.people.add("ann")
    served.follow()
    names = (
        "rfm",
        "value_tier",
        "clv",
        "churn_risk",
        "nps",
        "preferred",
        "sentiment",
        "cross_sell",
    )
    for name in names:
        tag = create(served, name, {"builtin": name})
        assert (tag["status"], tag["count"]) == ("not_enough_data", 0), name
        assert tag["meaning"]
        assert tag["citation"]


def test_a_segment_on_a_group_follows_in_the_same_refresh(served: Served) -> None:
    ann = served.people.add("ann")
    served.people.order(ann, now() - DAY, 1000)
    served.follow()
    create(served, "value", {"builtin": "value_tier", "settings": {"tiers": [
        {"name": "high", "min": 2000}, {"name": "low"}]}})  # fmt: skip
    rule = {"tag": "value.tier", "op": "eq", "value": "high"}
    served.client.post("/v1/segments", json={"key": "rich", "rule": rule})
    assert served.changes("rich") == []

    served.people.order(ann, now(), 1000)
    served.follow()

    assert [row["change"] for row in served.changes("rich")] == ["entered"]
    members = served.client.get("/v1/segments/rich/members", params={"fields": "tags.value.tier"})
    assert members.json()["data"][0]["tags.value.tier"] == "high"


def test_nps_counts_one_answer_a_person_and_survey(served: Served) -> None:
    ann, bob, eve = (served.people.add(name) for name in ("ann", "bob", "eve"))

    def answer(node: int, score: Any, days: int, survey: str = "spring", at: str = "app") -> None:
        properties = {"score": score, "survey": survey, "touchpoint": at}
        served.people.event(node, "NPS Answered", now() - days * DAY, properties)

    answer(ann, 3, 9)
    answer(ann, 9, 8, at="mail")
    answer(ann, 7, 1, "summer")
    answer(bob, 10, 5)
    answer(bob, 11, 1)
    answer(eve, "9", 1)
    answer(eve, None, 1)
    served.follow()

    settings = {"survey": "survey", "touchpoint": "touchpoint"}
    tag = create(served, "nps", {"builtin": "nps", "settings": settings})

    summary = tag["summary"]
    assert (summary["responses"], summary["promoters"], summary["passives"]) == (3, 2, 1)
    assert (summary["rejected"], summary["unanswered"]) == (2, 1)
    assert summary["display"] == 67
    by_place = {row["touchpoint"]: row["responses"] for row in summary["by_touchpoint"]}
    assert by_place == {"app": 3, "mail": 1}
    assert values(served, "nps") == {
        "ann": {"score": 7, "group": "passive"},
        "bob": {"score": 10, "group": "promoter"},
    }


def test_health_takes_traits_tags_and_rules(served: Served) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    served.people.trait(ann, "usage", 60)
    served.people.trait(ann, "tickets", 2)
    served.people.trait(bob, "plan", "pro")
    served.people.event(ann, "NPS Answered", now() - DAY, {"score": 9})
    served.follow()
    create(served, "nps", {"builtin": "nps"})
    components = [
        {"trait": "usage", "weight": 40},
        {"trait": "tickets", "weight": 20, "range": [10, 0]},
        {"tag": "nps.score", "weight": 30},
        {"rule": {"trait": "plan", "op": "eq", "value": "pro"}, "weight": 10, "name": "pro"},
    ]
    tag = create(served, "health", {"builtin": "health", "settings": {"components": components}})

    assert values(served, "health") == {
        "ann": {"score": 70.0, "band": "green", "coverage": 1.0},
        "bob": {"score": None, "band": "unknown", "coverage": 0.1},
    }
    assert tag["summary"]["bands"] == {"green": 1, "unknown": 1}

    served.people.event(ann, "NPS Answered", now(), {"score": 2})
    served.follow()
    assert values(served, "health")["ann"]["score"] == 40.0
    assert served.client.delete("/v1/tags/nps").status_code == 409


def test_a_circle_through_a_health_score_is_refused(served: Served) -> None:
    definition = {"builtin": "health", "settings": {"components": [{"trait": "a", "weight": 1}]}}
    create(served, "h", definition)
    served.client.post(
        "/v1/segments", json={"key": "s", "rule": {"tag": "h.band", "op": "eq", "value": "red"}}
    )
    circle = {"components": [{"rule": {"segment": "s"}, "weight": 1}]}

    answer = served.client.put(
        "/v1/tags/h", json={"definition": {"builtin": "health", "settings": circle}}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "cycle")
    path = answer.json()["details"]["path"]
    assert path == "/definition/settings/components/0/rule/segment"


def test_stages_in_a_firms_own_words_take_everybody_once(served: Served) -> None:
    ann, bob, _ = (served.people.add(name) for name in ("ann", "bob", "eve"))
    served.people.trait(ann, "plan", "pro")
    served.people.trait(bob, "plan", "free")
    served.people.order(ann, now() - DAY, 1000)
    served.follow()
    stages = [
        {"name": "线索", "when": {"not": {"trait": "plan", "op": "exists"}}},
        {"name": "试用", "when": {"trait": "plan", "op": "eq", "value": "free"}},
        {"name": "付费", "when": {"trait": "plan", "op": "exists"}},
    ]
    tag = create(served, "funnel", {"builtin": "lifecycle", "settings": {"stages": stages}})
    create(served, "stage", {"builtin": "lifecycle"})

    assert {who: row["stage"] for who, row in values(served, "funnel").items()} == {
        "ann": "付费", "bob": "试用", "eve": "线索",
    }  # fmt: skip
    shown = tag["summary"]["stages"]
    assert [(row["people"], row["conversion"]) for row in shown[:2]] == [
        (1, pytest.approx(2 / 3)), (1, 0.5),
    ]  # fmt: skip
    assert (shown[2]["orders"], shown[2]["revenue"]) == (1, 1000)
    assert values(served, "stage")["ann"]["stage"] == "customer"

    served.people.trait(bob, "plan", "pro", now())
    served.follow()
    moves = show(served, "funnel")["summary"]["moves"]
    assert moves == [{"from": "试用", "to": "付费", "people": 1}]


def test_churn_risk_by_rhythm_and_by_contract(served: Served) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    for days in (50, 40, 30):
        served.people.order(ann, now() - days * DAY)
    served.people.order(bob, now() - 5 * DAY)
    for node, begun, ended in ((ann, 400, None), (bob, 400, 3)):
        served.people.trait(node, "since", (now() - begun * DAY).isoformat())
        if ended:
            served.people.trait(node, "until", (now() - ended * DAY).isoformat())
    served.follow()

    create(served, "risk", {"builtin": "churn_risk", "settings": {"k": 3}})
    found = values(served, "risk")
    assert (found["ann"]["risk"], found["ann"]["basis"]) == (1.0, "own_gap")
    assert (found["bob"]["risk"], found["bob"]["basis"]) == (0.5, "population_gap")
    assert (found["ann"]["band"], found["bob"]["band"]) == ("high", "medium")

    settings = {"method": "contractual", "started": "since", "ended": "until"}
    tag = create(served, "left", {"builtin": "churn_risk", "settings": settings})
    assert (tag["summary"]["churn_rate"], tag["summary"]["retention"]) == (0.5, 0.5)
    assert values(served, "left")["bob"]["churned"] is True
    assert values(served, "left")["ann"]["risk"] == 0.5


def test_preferences_are_the_most_frequent_and_of_equal_ones_the_latest(served: Served) -> None:
    ann = served.people.add("ann")
    tea, cup = [{"category": "tea", "sku": "t1"}], [{"category": "cup", "sku": "c1"}]
    at = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
    served.people.order(ann, at, channel="web", store="S1", lines=tea)
    served.people.order(ann, at + DAY, channel="web", store="S2", lines=tea + cup)
    served.people.order(ann, at + 2 * DAY, channel="shop", lines=tea)
    served.follow()

    create(served, "likes", {"builtin": "preferred"})

    assert values(served, "likes")["ann"] == {
        "channel": "web", "category": "tea", "store": "S2", "hour": 9, "orders": 3,
    }  # fmt: skip


def test_engagement_counts_days_and_kinds(served: Served) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    for days in range(8):
        for name in ("page", "a", "b", "c", "d"):
            served.people.event(ann, name, now() - days * DAY)
    served.people.event(bob, "page", now() - 200 * DAY)
    served.follow()

    create(served, "engaged", {"builtin": "engagement"})

    found = values(served, "engaged")
    assert (found["ann"]["score"], found["ann"]["band"], found["ann"]["events"]) == (
        100.0, "high", 40,
    )  # fmt: skip
    assert (found["bob"]["score"], found["bob"]["band"]) == (0.0, "low")


def test_sentiment_of_two_languages(served: Served) -> None:
    for name, text in (
        ("ann", "Wonderful tea, I love it!"),
        ("bob", "质量非常差，很失望，糟糕的服务"),
        ("eve", "这个产品很好，我非常喜欢，十分满意"),
        ("dan", 5),
    ):
        node = served.people.add(name)
        served.people.event(node, "Review Submitted", now() - DAY, {"text": text})
    served.follow()

    tag = create(served, "mood", {"builtin": "sentiment"})

    found = {who: row["label"] for who, row in values(served, "mood").items()}
    assert found == {"ann": "positive", "bob": "negative", "eve": "positive"}
    assert tag["summary"]["texts"] == 3


def test_what_others_bought_after_the_same_is_recommended(served: Served) -> None:
    pot, tea = [{"category": "pot"}], [{"category": "tea"}]
    for number in range(4):
        node = served.people.add(f"c{number}")
        served.people.order(node, now() - 200 * DAY, lines=pot)
        served.people.order(node, now() - 150 * DAY, lines=tea)
    ann = served.people.add("ann")
    served.people.order(ann, now() - 10 * DAY, lines=pot)
    for number in range(5):
        node = served.people.add(f"other{number}")
        served.people.order(node, now() - 300 * DAY, lines=[{"category": "cup"}])
    served.follow()

    settings = {"within": "3mo", "min_customers": 2}
    tag = create(served, "next", {"builtin": "cross_sell", "settings": settings})

    assert tag["type"] == "list"
    assert tag["model"]["rules"] == [
        {"a": "pot", "b": "tea", "customers": 4, "support": 0.4, "confidence": 1.0, "lift": 2.5}
    ]
    assert values(served, "next")["ann"] == [
        {"item": "tea", "confidence": 1.0, "lift": 2.5, "because": "pot"}
    ]
    rule = {"tag": "next.item", "op": "eq", "value": "tea"}
    shown = served.client.post("/v1/segments/preview", json={"rule": rule}).json()
    assert shown["count"] == 1


def test_a_changed_definition_drops_what_was_computed(served: Served) -> None:
    served.people.order(served.people.add("ann"), now() - DAY, 1000)
    served.follow()
    create(served, "v", {"builtin": "rfm"})
    answer = served.client.put(
        "/v1/tags/v", json={"type": "boolean", "definition": {"manual": True}}
    ).json()
    assert (answer["type"], answer["summary"], answer["count"]) == ("boolean", None, 0)


def test_simple_customer_value(served: Served) -> None:
    ann, bob = served.people.add("ann"), served.people.add("bob")
    served.people.order(ann, now() - 365 * DAY, 10_000)
    served.people.order(bob, now() - 10 * DAY, 10_000)
    served.follow()
    settings = {"model": "simple", "gross_margin": 0.5, "annual_churn": 0.25, "cac": 1000}

    create(served, "clv", {"builtin": "clv", "settings": settings})

    assert values(served, "clv") == {
        "ann": {
            "yearly_value": 10_000, "lifetime_years": 4.0, "gross": 20_000, "net": 19_000,
            "historic": 10_000, "flags": [],
        },
        "bob": {
            "yearly_value": None, "lifetime_years": 4.0, "gross": None, "net": None,
            "historic": 10_000, "flags": ["short_tenure"],
        },
    }  # fmt: skip


def test_cdnow_through_the_tables_gives_the_published_parameters(served: Served) -> None:
    purchases = list(read_purchases())
    nodes = list(range(1, 2358))
    with served.engine.write() as duck:
        duck.execute(
            """INSERT INTO core.node_profiles SELECT n, '-infinity', 'infinity', n
                 FROM (SELECT unnest($nodes) AS n)""",
            {"nodes": nodes},
        )
        duck.execute(
            """INSERT INTO core.profiles SELECT n, 'prf_' || n, NULL, 1
                 FROM (SELECT unnest($nodes) AS n)""",
            {"nodes": nodes},
        )
        duck.execute(
            """INSERT INTO core.orders (order_no, scope, order_id, node_id, status, currency,
                                        total, refunded, net, placed_at, updated_at, document)
               SELECT n, '', 'o' || n, node, 'completed', 'USD', cents, 0, cents, t, t, '{}'
                 FROM (SELECT unnest($numbers) AS n, unnest($nodes) AS node,
                              unnest($cents) AS cents, unnest($times) AS t)""",
            {
                "numbers": list(range(len(purchases))),
                "nodes": [each.customer for each in purchases],
                "cents": [each.cents for each in purchases],
                "times": [each.at for each in purchases],
            },
        )
    served.follow()
    settings = {"zero_value_orders": True, "horizon": "39w", "unit": "week"}
    definition = {"builtin": "clv", "settings": settings, "as_of": "1997-09-30"}

    tag = create(served, "clv", definition)

    model = tag["model"]
    assert (model["unit"], model["customers"], model["spend"]["customers"]) == ("week", 2357, 946)
    found = tuple(model["purchases"][name] for name in ("r", "alpha", "a", "b"))
    assert found == pytest.approx((0.2426, 4.4136, 0.7929, 2.4259), abs=5e-5)
    assert model["purchases"]["log_likelihood"] == pytest.approx(-9582.43, abs=0.005)
    spend = tuple(model["spend"][name] for name in ("p", "q", "v"))
    assert spend == pytest.approx((6.2496, 3.7442, 15.4435), abs=5e-5)
    first = served.engine.read(
        "SELECT value::VARCHAR AS value FROM core.tag_values WHERE key = 'clv' AND profile_no = 1"
    )
    value = json.loads(first["value"][0].as_py())
    assert (value["x"], value["expected_order_value"]) == (2, 2465)
    assert value["expected_purchases"] == pytest.approx(1.226, abs=1e-3)
    assert 0 < value["clv"] < value["expected_purchases"] * value["expected_order_value"]

    settings = {"method": "p_alive", "zero_value_orders": True}
    risk = create(served, "risk", {**definition, "builtin": "churn_risk", "settings": settings})
    assert risk["model"]["purchases"]["r"] == pytest.approx(model["purchases"]["r"])
    settings = {"method": "model", "horizon": "90d", "zero_value_orders": True}
    definition = {"builtin": "churn_risk", "settings": settings, "as_of": "1998-06-30"}
    trained = create(served, "trained", definition)["model"]
    assert 0.6 < trained["auc"] < 1
    assert trained["tried_on"] == 2357


def test_figures_equal_independent_sql(served: Served) -> None:
    chance = random.Random(7)
    for number in range(25):
        node = served.people.add(f"c{number}")
        for _ in range(chance.randrange(1, 5)):
            total = chance.randrange(1, 50) * 100
            refunded = chance.choice([0, 0, 0, total, total // 2])
            at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=chance.randrange(2000))
            served.people.order(node, at, total, refunded=refunded)
    served.follow()
    create(served, "rfm", {"builtin": "rfm", "as_of": "2026-04-30"})
    create(served, "tier", {"builtin": "value_tier", "as_of": "2026-04-30"})

    expected = served.engine.read(
        """WITH c AS (
               SELECT profile_id, count(*) AS frequency, sum(net)::BIGINT AS monetary,
                      date_diff('day', max(placed_at::DATE), DATE '2026-04-30') AS recency
                 FROM main.orders WHERE net > 0 GROUP BY profile_id),
           q AS (SELECT quantile_cont(monetary, [0.2, 0.4, 0.6, 0.8, 0.5, 0.95]) AS cut FROM c)
           SELECT c.*, 1 + (monetary > cut[1])::INT + (monetary > cut[2])::INT
                         + (monetary > cut[3])::INT + (monetary > cut[4])::INT AS m,
                  CASE WHEN monetary > cut[6] THEN 'platinum' WHEN monetary > cut[4] THEN 'gold'
                       WHEN monetary > cut[5] THEN 'silver' ELSE 'bronze' END AS tier
             FROM c, q"""
    ).to_pylist()

    scored, tiers = values(served, "rfm"), values(served, "tier")
    assert len(expected) == len(scored)
    for row in expected:
        name = row["profile_id"].removeprefix("prf_user_id_")
        own = {key: scored[name][key] for key in ("recency", "frequency", "monetary", "m")}
        assert own == {key: row[key] for key in own}
        assert tiers[name]["tier"] == row["tier"]
