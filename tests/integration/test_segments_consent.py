"""Whoever withdraws consent is in no pull, no count and no segment that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.runtime.clock import now
from cdp.storage.database import Database
from tests.support.segments import Served, serve_segments

BOUGHT = {"event": "Order Completed"}
HOUR = timedelta(hours=1)


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        yield found


def add_buyer(served: Served, name: str) -> int:
    number = served.people.add(name)
    served.people.event(number, "Order Completed", now() - 5 * HOUR)
    return number


def pull(served: Served, key: str, **params: Any) -> list[str]:
    answer = served.client.get(f"/v1/segments/{key}/members", params=params)
    assert answer.status_code == 200, answer.text
    return [row["profile_id"] for row in answer.json()["data"]]


def make_segment(served: Served, key: str, consent: str | None = "marketing") -> None:
    body = {"key": key, "rule": BOUGHT, "consent": consent}
    assert served.client.post("/v1/segments", json=body).status_code == 201


def test_a_withdrawal_takes_somebody_out_of_pulls_counts_and_changes(served: Served) -> None:
    ann = add_buyer(served, "ann")
    served.people.consent(ann, "marketing", True, now() - 4 * HOUR)
    served.follow()
    make_segment(served, "mailing")
    assert pull(served, "mailing") == ["prf_user_id_ann"]
    with served.engine.write() as cursor:
        cursor.execute("DELETE FROM core.node_consents")
    served.people.consent(ann, "marketing", False, now() - HOUR)
    served.follow()
    assert pull(served, "mailing") == []
    assert served.client.get("/v1/segments/mailing").json()["count"] == 0
    assert [(one["change"], one["cause"]) for one in served.changes("mailing")] == [
        ("entered", "definition"), ("left", "event"),
    ]  # fmt: skip
    one = served.client.get("/v1/segments/mailing/members/user_id:ann").json()
    assert (one["member"], one["why"]["holds"], one["consent"]["holds"]) == (False, True, False)


def test_a_refusal_that_a_merge_brings_takes_them_out_too(served: Served) -> None:
    ann, other = add_buyer(served, "ann"), served.people.add("other")
    served.people.consent(ann, "marketing", True, now() - 2 * HOUR)
    served.people.consent(other, "marketing", False, now() - 3 * HOUR)
    served.follow()
    make_segment(served, "mailing")
    make_segment(served, "buyers", None)
    assert pull(served, "mailing") == ["prf_user_id_ann"]
    served.people.merge(other, ann)
    with served.engine.write() as cursor:
        cursor.execute("UPDATE core.profiles SET joined_at = ?", [now() - HOUR])
    served.follow()
    assert pull(served, "mailing") == []
    assert pull(served, "buyers", consent="marketing") == []
    assert pull(served, "buyers") == ["prf_user_id_ann"]
    served.people.consent(ann, "marketing.email", True, now() - HOUR / 2)
    served.follow()
    assert pull(served, "buyers", consent="marketing", channel="email") == ["prf_user_id_ann"]
    assert pull(served, "buyers", consent="marketing", channel="sms") == []


def test_a_channel_of_a_rule_asks_for_that_channel(served: Served) -> None:
    ann, bob = add_buyer(served, "ann"), add_buyer(served, "bob")
    for number in (ann, bob):
        served.people.consent(number, "marketing", True, now() - 3 * HOUR)
    served.people.consent(bob, "marketing.sms", False, now() - 2 * HOUR)
    served.follow()

    def count(**rule: str) -> int:
        body = {"rule": {"consent": "marketing", "op": "granted", **rule}}
        return int(served.client.post("/v1/segments/preview", json=body).json()["count"])

    assert (count(), count(channel="email"), count(channel="sms")) == (2, 2, 1)
    assert count(channel="sms", op="denied") == 1


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"consent": "marketing", "channel": "fax", "op": "granted"}, "/rule/channel"),
        ({"consent": "marketing.email", "channel": "sms", "op": "granted"}, "/rule/consent"),
    ],
)
def test_a_channel_that_there_is_not_is_said_with_its_place(
    served: Served, rule: dict[str, str], path: str
) -> None:
    answer = served.client.post("/v1/segments/preview", json={"rule": rule})
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, path)


@pytest.mark.parametrize(
    "params", [{"consent": "marketing", "channel": "fax"}, {"channel": "email"}]
)
def test_a_pull_by_a_channel_needs_a_known_one_and_a_purpose(
    served: Served, params: dict[str, str]
) -> None:
    make_segment(served, "buyers", None)
    answer = served.client.get("/v1/segments/buyers/members", params=params)
    assert (answer.status_code, answer.json()["details"]["path"]) == (422, "/channel")
