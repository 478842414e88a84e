"""The demo's history is believable and always the same; its poster is patient."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import chain

import httpx
import pytest

from cdp.demo.history import DEFAULT_DAYS, Call, SourceName, count_lives, generate
from cdp.demo.wire_post import BATCH_CALLS, WirePoster, read_retry_after
from cdp.errors import SetupError
from cdp.runtime.clock import format_time

END = datetime(2026, 3, 1, tzinfo=UTC)
KEYS: dict[SourceName, str] = {
    name: f"key-{name}" for name in ("web", "app", "store", "crm", "service", "server")
}


def tell(seed: int = 1, people: int = 120, days: int = 180) -> list[Call]:
    return list(chain.from_iterable(generate(seed, people, days, END)))


def test_the_same_seed_tells_the_same_history_byte_for_byte() -> None:
    first, second = (json.dumps(tell(), ensure_ascii=False) for _ in range(2))

    assert first.encode() == second.encode()


def test_another_seed_tells_of_other_people() -> None:
    ours = {call.document.get("userId") for call in tell(seed=1)} - {None}
    theirs = {call.document.get("userId") for call in tell(seed=2)} - {None}

    assert ours
    assert theirs
    assert ours.isdisjoint(theirs)


def test_more_people_do_not_change_the_first_ones() -> None:
    few, many = tell(people=10), tell(people=20)

    assert many[: len(few)] == few


def test_every_message_id_is_unique() -> None:
    ids = Counter(call.document["messageId"] for call in tell())

    assert ids.most_common(1)[0][1] == 1


def test_everything_happens_in_the_days_before_the_end() -> None:
    times = [call.document["timestamp"] for call in tell(days=30)]

    assert min(times) >= format_time(datetime(2026, 1, 30, tzinfo=UTC))
    assert max(times) < format_time(END)


def test_nobody_is_known_to_the_shop_before_they_sign_up() -> None:
    for life in generate(1, 60, 180, END):
        seen_on: dict[str, bool] = defaultdict(bool)
        for call in life:
            if call.source not in ("web", "app"):
                continue
            browser = call.document["anonymousId"]
            if call.document["type"] == "identify":
                seen_on[browser] = True
            assert ("userId" in call.document) == seen_on[browser]


def test_every_refund_names_an_order_that_was_paid_before() -> None:
    calls = tell(people=400)
    paid = {
        call.document["properties"]["order_id"]: call.document["timestamp"]
        for call in calls
        if call.document.get("event") == "Order Completed"
    }
    refunds = [call for call in calls if call.document.get("event") == "Order Refunded"]

    assert refunds
    for refund in refunds:
        order_id = refund.document["properties"]["order_id"]
        assert paid[order_id] < refund.document["timestamp"]


def test_tablets_in_stores_are_shared_by_many() -> None:
    users: dict[str, set[str]] = defaultdict(set)
    for call in tell(people=400):
        if call.source == "store" and "anonymousId" in call.document:
            users[call.document["anonymousId"]].add(call.document["userId"])

    assert len(users) == 4
    assert min(len(people) for people in users.values()) > 3


def test_the_history_holds_what_a_shop_needs() -> None:
    calls = tell(people=400)
    identifies = [call.document for call in calls if call.document["type"] == "identify"]

    assert {call.source for call in calls} == set(KEYS)
    assert any(traits["traits"].get("phone", "").startswith("+86") for traits in identifies)
    assert any("一" <= traits["traits"].get("name", "")[:1] <= "鿿" for traits in identifies)
    assert any("Ann" in traits["traits"].get("name", "") for traits in identifies)
    consents = {
        document["context"]["consent"]["categoryPreferences"]["marketing"]
        for document in identifies
        if "consent" in document["context"]
    }
    assert consents == {True, False}
    external = {one["type"] for d in identifies for one in d["context"].get("externalIds", ())}
    assert external == {"wechat_unionid", "wechat_openid", "crm_id", "member_card"}


def test_orders_go_back_as_far_as_a_forecast_of_value_needs() -> None:
    calls = tell(people=2000, days=DEFAULT_DAYS)
    first = min(
        call.document["timestamp"]
        for call in calls
        if call.document.get("event") == "Order Completed"
    )

    assert first < format_time(END - timedelta(days=185))


def test_reviews_are_of_bought_things_and_in_two_languages() -> None:
    bought: dict[str, set[str]] = defaultdict(set)
    reviews = []
    for call in tell(people=400):
        said = call.document.get("properties", {})
        if call.document.get("event") == "Order Completed":
            bought[said["order_id"]] = {line["product_id"] for line in said["products"]}
        if call.document.get("event") == "Product Reviewed":
            reviews.append(said)

    assert all(review["product_id"] in bought[review["review_id"][1:]] for review in reviews)
    assert {review["review_body"].isascii() for review in reviews} == {True, False}
    assert {review["rating"] for review in reviews} == {1, 2, 3, 4, 5}


def test_there_are_answers_to_two_surveys_at_several_touchpoints() -> None:
    answers = [
        (call.document["properties"]["survey_id"], call.document["properties"]["touchpoint"])
        for call in tell(people=400)
        if call.document.get("event") == "NPS Answered"
    ]

    assert {survey for survey, _ in answers} == {"relationship", "after_ticket"}
    assert {place for _, place in answers} == {"email", "phone", "chat"}


def test_the_number_of_lives_is_known_beforehand() -> None:
    for people in (1, 2, 3, 7, 120):
        assert len(list(generate(1, people, 30, END))) == count_lives(people)


class Server:
    """Answers ``/v1/batch`` from a list of prepared statuses, then with success."""

    def __init__(self, *refusals: httpx.Response | Exception) -> None:
        self._refusals = list(refusals)
        self.batches: list[tuple[str, list[dict[str, object]]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self._refusals:
            refusal = self._refusals.pop(0)
            if isinstance(refusal, Exception):
                raise refusal
            return refusal
        batch = json.loads(request.content)["batch"]
        self.batches.append((request.headers["Authorization"], batch))
        body = {"success": True, "accepted": len(batch), "rejected": [], "receipt": "r1"}
        return httpx.Response(200, json=body)


def post(
    server: Server, calls: list[Call], said: list[str] | None = None
) -> tuple[WirePoster, list[float]]:
    waits: list[float] = []
    say = None if said is None else said.append
    transport = httpx.MockTransport(server)
    with httpx.Client(base_url="http://cdp.test", transport=transport) as http:
        poster = WirePoster(http, KEYS, sleep=waits.append, say=say)
        poster.post(calls)
        poster.finish()
    return poster, waits


def test_every_call_is_posted_once_with_its_sources_key() -> None:
    server = Server()
    calls = tell(people=20)

    poster, waits = post(server, calls)

    assert waits == []
    assert sum(poster.accepted.values()) == len(calls)
    posted = [item["messageId"] for _, batch in server.batches for item in batch]
    assert sorted(posted) == sorted(call.document["messageId"] for call in calls)
    assert max(len(batch) for _, batch in server.batches) <= BATCH_CALLS
    by_key = Counter(key for key, _ in server.batches)
    assert len(by_key) == len({call.source for call in calls})


def test_a_busy_server_is_waited_for_as_long_as_it_asks() -> None:
    server = Server(
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503, headers={"Retry-After": "2"}),
        httpx.Response(503),
        httpx.ConnectError("refused"),
    )

    said: list[str] = []

    poster, waits = post(server, tell(people=1), said)

    assert waits[:2] == [7.0, 2.0]
    assert len(waits) == 4
    assert said == ["waiting for the server (429: )"]
    assert sum(poster.accepted.values()) > 0


def test_a_refused_batch_is_told_not_tried_again() -> None:
    server = Server(httpx.Response(401, json={"code": "unknown_write_key", "message": "no"}))

    with pytest.raises(SetupError, match="401"):
        post(server, tell(people=1))


def test_a_server_that_stays_away_is_given_up() -> None:
    server = Server(*(httpx.ConnectError("refused") for _ in range(100)))

    with pytest.raises(SetupError, match="gave up"):
        post(server, tell(people=1))


def test_retry_after_is_read_in_seconds() -> None:
    assert read_retry_after("30") == 30.0
    assert read_retry_after("Wed, 21 Oct 2026 07:28:00 GMT") is None
    assert read_retry_after(None) is None
