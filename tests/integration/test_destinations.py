"""Destinations end to end: whoever is in a segment, and every change, reaches a receiver once."""

from __future__ import annotations

import csv
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi.testclient import TestClient
from kafka import KafkaConsumer
from standardwebhooks import Webhook

from cdp.access.guard import Guard, read_requirements
from cdp.access.token_directory import TokenDirectory
from cdp.activate import DestinationPeople, check_references
from cdp.activation import deliveries_store, plan_deliveries
from cdp.activation import routes as destination_routes
from cdp.activation.runner import DestinationRunner
from cdp.activation.send import make_send
from cdp.activation.service import Destinations
from cdp.log.kafka_topic import ensure_topic, open_admin
from cdp.runtime.clock import now
from cdp.runtime.error_answers import install_error_answers
from cdp.segments.tag_retention_store import drop_tag_history_before
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.receiver import Receiver, receive_webhooks
from tests.support.segments import Served, make_token, serve_segments

BOUGHT = {"event": "Order Completed"}
HOUR = timedelta(hours=1)


@dataclass
class Desk:
    """The routes of destinations beside those of segments, and what delivers, step by step."""

    served: Served
    client: TestClient
    runner: DestinationRunner
    folder: Path
    ahead: timedelta = field(default_factory=timedelta)

    def create(self, type: str, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
        body = {"type": type, "settings": settings, **({"segments": ["buyers"]} | more)}
        answer = self.client.post("/v1/destinations", json=body)
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def show(self, one: dict[str, Any]) -> dict[str, Any]:
        document: dict[str, Any] = self.client.get(f"/v1/destinations/{one['id']}").json()
        return document

    def deliveries(self, one: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
        answer = self.client.get(f"/v1/destinations/{one['id']}/deliveries", params=params)
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows

    def buyer(self, name: str) -> int:
        number = self.served.people.add(name)
        self.served.people.event(number, "Order Completed", now() - HOUR)
        return number

    def follow(self) -> None:
        """Let what happened become true, be planned and be delivered."""
        self.served.follow()
        self.deliver()

    def deliver(self) -> None:
        while self.runner.step():
            pass
        self.wait_until(lambda: not self.runner.is_delivering)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.01)


@contextmanager
def open_desk(served: Served, folder: Path, *, allows_private: bool = True) -> Iterator[Desk]:
    people = DestinationPeople(served.database, served.engine, "UTC")
    send = make_send(folder, seconds=3, allows_private=allows_private)
    desk: Desk
    runner = DestinationRunner(
        served.database,
        people,
        send,
        retention=timedelta(days=7),
        now=lambda: now() + desk.ahead,
    )
    services = Destinations(
        served.database, people, send, check_references, runner.wake, allows_private
    )
    router = destination_routes.create_router(services)
    served.app.include_router(router)
    inner = served.app
    app = Guard(inner, routes=read_requirements([router]), tokens=TokenDirectory(served.database))
    install_error_answers(inner)
    headers = make_token(served.database, "destinations:write", "pii:read")
    desk = Desk(served, TestClient(app, headers=headers), runner, folder)
    try:
        yield desk
    finally:
        runner.close()


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        found.client.post("/v1/segments", json={"key": "buyers", "rule": BOUGHT})
        yield found


@pytest.fixture
def desk(served: Served, tmp_path: Path) -> Iterator[Desk]:
    with open_desk(served, tmp_path / "drops") as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receive_webhooks() as found:
        yield found


def test_everybody_is_sent_first_and_then_every_change_signed(
    desk: Desk, receiver: Receiver
) -> None:
    desk.buyer("ann")
    desk.served.follow()
    made = desk.create("webhook", {"url": receiver.url, "headers": {"X-Shop": "1"}})
    desk.deliver()
    bob = desk.buyer("bob")
    desk.follow()
    desk.served.people.erase(bob)
    desk.follow()

    told = [(row["change"], row["profile_id"]) for one in receiver.received for row in one.rows]
    assert told == [
        ("entered", "prf_user_id_ann"),
        ("entered", "prf_user_id_bob"),
        ("left", "prf_user_id_bob"),
    ]
    assert [row["cause"] for one in receiver.received for row in one.rows][1:] == [
        "event",
        "privacy",
    ]
    for one in receiver.received:
        assert Webhook(made["secret"]).verify(one.body.decode(), one.headers)
        assert one.headers["x-shop"] == "1"
    assert len({one.id for one in receiver.received}) == 3
    assert desk.show(made)["told"] == {"segment:buyers": 1}
    assert "secret" not in desk.show(made)


def test_nothing_is_sent_while_nothing_changes(desk: Desk, receiver: Receiver) -> None:
    ann = desk.buyer("ann")
    desk.create("webhook", {"url": receiver.url})
    desk.follow()
    desk.served.people.event(ann, "Order Completed", now() - HOUR / 2)
    desk.follow()
    desk.deliver()

    assert len(receiver.received) == 1


def test_a_field_that_changes_is_sent_again_and_only_for_members(
    desk: Desk, receiver: Receiver
) -> None:
    ann, eve = desk.buyer("ann"), desk.served.people.add("eve")
    desk.served.people.identify(ann, "email", "ann@example.com")
    desk.served.people.trait(ann, "city", "上海")
    desk.create("webhook", {"url": receiver.url}, fields=["email", "traits.city"])
    desk.follow()
    desk.served.people.trait(ann, "city", "北京", at=now() - HOUR)
    desk.served.people.trait(eve, "city", "北京")
    desk.follow()

    first, second = (row for one in receiver.received for row in one.rows)
    assert first["fields"] == {"email": "ann@example.com", "traits.city": "上海"}
    assert (second["change"], second["fields"]["traits.city"]) == ("updated", "北京")


def test_after_a_merge_the_receiver_holds_who_is_left(desk: Desk, receiver: Receiver) -> None:
    ann, twin = desk.buyer("ann"), desk.buyer("twin")
    desk.create("webhook", {"url": receiver.url})
    desk.follow()
    desk.served.people.merge(twin, ann)
    desk.follow()

    assert list(receiver.held()) == ["segment:buyers:prf_user_id_ann"]
    assert receiver.received[-1].rows[-1]["cause"] == "merge"


def test_who_withdraws_consent_leaves_the_receiver(desk: Desk, receiver: Receiver) -> None:
    ann = desk.buyer("ann")
    desk.served.people.consent(ann, "marketing", True)
    desk.create("webhook", {"url": receiver.url}, consent=["marketing"])
    desk.follow()
    assert len(receiver.held()) == 1
    desk.served.people.consent(ann, "marketing", False, at=now() - HOUR)
    desk.follow()

    assert receiver.held() == {}


def test_values_of_tags_are_sent_and_taken_back(desk: Desk, receiver: Receiver) -> None:
    ann = desk.buyer("ann")
    desk.served.people.trait(ann, "plan", "pro")
    cases = [{"when": {"trait": "plan", "op": "eq", "value": "pro"}, "then": "gold"}]
    desk.served.client.post(
        "/v1/tags",
        json={
            "key": "tier",
            "name": "Tier",
            "category": "value",
            "type": "text",
            "definition": {"cases": cases},
        },
    )
    desk.create("webhook", {"url": receiver.url}, segments=[], tags=["tier"])
    desk.follow()
    desk.served.people.trait(ann, "plan", "free", at=now() - HOUR)
    desk.follow()

    told = [(row["change"], row.get("value")) for one in receiver.received for row in one.rows]
    assert told == [("set", "gold"), ("removed", None)]


def test_a_receiver_that_fails_gets_the_same_delivery_again_in_order(
    desk: Desk, receiver: Receiver
) -> None:
    receiver.answer(500)
    receiver.answer(429, retry_after="120")
    desk.buyer("ann")
    made = desk.create("webhook", {"url": receiver.url})
    desk.follow()
    desk.buyer("bob")
    desk.follow()
    assert len(receiver.received) == 1, "it is too early to try again, and bob comes after ann"

    desk.ahead = timedelta(seconds=10)
    desk.deliver()
    desk.ahead = timedelta(seconds=100)
    desk.deliver()
    assert len(receiver.received) == 2, "it asked for two minutes"
    desk.ahead = timedelta(seconds=140)
    desk.deliver()

    ids = [one.id for one in receiver.received]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert [row["status"] for row in desk.deliveries(made)] == ["delivered", "delivered"]
    assert desk.deliveries(made)[1]["attempts"] == 3


@pytest.mark.parametrize(
    ("status", "headers"), [(302, {"location": "http://127.0.0.1:9/"}), (410, {}), (404, {})]
)
def test_what_is_no_success_is_a_failure_that_is_shown(
    desk: Desk, receiver: Receiver, status: int, headers: dict[str, str]
) -> None:
    receiver.answer(status, **headers)
    desk.buyer("ann")
    made = desk.create("webhook", {"url": receiver.url})
    desk.follow()

    (delivery,) = desk.deliveries(made)
    assert delivery["last_status"] == status
    shown = desk.show(made)
    if status == 410:
        assert (shown["status"], delivery["status"]) == ("paused", "failed")
        assert "410" in shown["status_reason"]
    else:
        assert (shown["status"], delivery["status"]) == ("active", "queued")


def test_a_destination_that_was_given_up_goes_on_when_asked(desk: Desk, receiver: Receiver) -> None:
    receiver.answer(410)
    desk.buyer("ann")
    made = desk.create("webhook", {"url": receiver.url})
    desk.follow()
    desk.buyer("bob")
    desk.follow()
    assert len(receiver.received) == 1, "a paused destination is left alone"
    answer = desk.client.post(f"/v1/destinations/{made['id']}/deliveries/retry")
    assert (answer.status_code, answer.json()) == (202, {"queued": 1})
    desk.deliver()

    assert sorted(row["profile_id"] for row in receiver.held().values()) == [
        "prf_user_id_ann",
        "prf_user_id_bob",
    ]
    assert desk.show(made)["status"] == "active"


def test_a_delivery_can_be_sent_again_under_its_id(desk: Desk, receiver: Receiver) -> None:
    desk.buyer("ann")
    made = desk.create("webhook", {"url": receiver.url})
    desk.follow()
    (delivery,) = desk.deliveries(made)
    desk.client.post(
        f"/v1/destinations/{made['id']}/deliveries/retry", json={"ids": [delivery["id"]]}
    )
    desk.deliver()

    assert [one.id for one in receiver.received] == [delivery["id"]] * 2
    assert receiver.received[0].body == receiver.received[1].body


def test_a_receiver_that_hangs_holds_up_nobody_else(desk: Desk, receiver: Receiver) -> None:
    desk.buyer("ann")
    with receive_webhooks() as silent:
        silent.is_silent = True
        hanging = desk.create("webhook", {"url": silent.url})
        desk.create("webhook", {"url": receiver.url})
        desk.served.follow()
        while desk.runner.step():
            pass
        desk.wait_until(lambda: len(receiver.received) == 1)
        assert desk.deliveries(hanging)[0]["status"] == "queued"
        desk.wait_until(lambda: desk.deliveries(hanging)[0]["attempts"] == 1)

    assert "within 3 s" in desk.deliveries(hanging)[0]["last_error"]


@pytest.mark.parametrize(("status", "outcome"), [(200, "delivered"), (500, "queued")])
def test_of_an_answer_of_a_gigabyte_only_the_beginning_is_read(
    desk: Desk, receiver: Receiver, status: int, outcome: str
) -> None:
    receiver.answer(status, b"x" * 1_000_000, times=1_000)
    desk.buyer("ann")
    made = desk.create("webhook", {"url": receiver.url})
    desk.follow()

    (delivery,) = desk.deliveries(made)
    assert (delivery["status"], delivery["last_status"]) == (outcome, status)
    # Some megabytes fit into the sockets of both.
    assert receiver.answered_bytes < 100_000_000


def test_a_redirect_is_not_followed(desk: Desk, receiver: Receiver) -> None:
    desk.buyer("ann")
    with receive_webhooks() as elsewhere:
        receiver.answer(307, location=elsewhere.url)
        made = desk.create("webhook", {"url": receiver.url})
        desk.follow()

        (delivery,) = desk.deliveries(made)
        assert "redirects are not followed" in delivery["last_error"]
        assert (len(receiver.received), len(elsewhere.received)) == (1, 0)


def test_who_lost_a_value_longer_ago_than_that_is_known_leaves_a_receiver_all_the_same(
    desk: Desk, receiver: Receiver
) -> None:
    ann = desk.buyer("ann")
    desk.served.people.trait(ann, "plan", "pro", at=now() - 2 * HOUR)
    cases = [{"when": {"trait": "plan", "op": "eq", "value": "pro"}, "then": "gold"}]
    tier = {"key": "tier", "category": "value", "type": "text", "definition": {"cases": cases}}
    desk.served.client.post("/v1/tags", json=tier)
    desk.create("webhook", {"url": receiver.url}, segments=[], tags=["tier"])
    desk.follow()
    # Who tells receivers is away meanwhile, the evaluation is not.
    desk.served.people.trait(ann, "plan", "free", at=now() - HOUR)
    desk.served.follow()
    assert sum(drop_tag_history_before(desk.served.database, now() + HOUR)) == 2
    with desk.served.database.transaction() as connection:
        # Nobody knows any more whom the batches touched.
        driver(connection).execute("UPDATE batches SET profiles = '{}'")

    desk.follow()

    told = [(row["change"], row.get("value")) for one in receiver.received for row in one.rows]
    assert told == [("set", "gold"), ("removed", None)]


def test_private_addresses_are_refused_when_made_and_when_a_name_leads_there(
    served: Served, tmp_path: Path
) -> None:
    with open_desk(served, tmp_path / "drops", allows_private=False) as desk:
        desk.buyer("ann")
        body = {"type": "webhook", "segments": ["buyers"]}
        refused = desk.client.post(
            "/v1/destinations", json=body | {"settings": {"url": "http://127.0.0.1:9/"}}
        )
        made = desk.create("webhook", {"url": "https://example.com/"})
        with served.database.transaction() as connection:
            # As a name would that leads elsewhere by the time of delivery.
            driver(connection).execute(
                "UPDATE destinations SET settings = %s::json", ('{"url": "http://127.0.0.1:9/"}',)
            )
        desk.follow()
        tried = desk.client.post(f"/v1/destinations/{made['id']}/test").json()

        assert refused.status_code == 422
        assert "CDP_ALLOW_PRIVATE_DESTINATIONS" in refused.json()["message"]
        assert refused.json()["details"]["path"] == "/settings/url"
        assert "CDP_ALLOW_PRIVATE_DESTINATIONS" in desk.deliveries(made)[0]["last_error"]
        assert not tried["ok"]


def test_a_test_says_whether_the_receiver_answers(desk: Desk, receiver: Receiver) -> None:
    made = desk.create("webhook", {"url": receiver.url})
    receiver.answer(503)
    failed = desk.client.post(f"/v1/destinations/{made['id']}/test").json()
    worked = desk.client.post(f"/v1/destinations/{made['id']}/test").json()

    assert (failed["ok"], failed["status"]) == (False, 503)
    assert (worked["ok"], worked["status"]) == (True, 204)
    assert receiver.received[0].rows[0]["cause"] == "test"
    assert desk.deliveries(made) == []


def test_a_dry_run_tells_what_would_be_sent_and_sends_nothing(
    desk: Desk, receiver: Receiver
) -> None:
    made = desk.create("webhook", {"url": receiver.url})
    desk.buyer("ann")
    desk.served.follow()
    found = desk.client.post(f"/v1/destinations/{made['id']}/dry-run").json()["data"]

    assert receiver.received == []
    (one,) = found
    assert (one["segment"], one["rows"], one["changes"]) == ("buyers", 1, {"entered": 1})
    assert one["examples"][0]["profile_id"] == "prf_user_id_ann"


def test_files_hold_the_changes_in_order(desk: Desk) -> None:
    ann = desk.buyer("ann")
    desk.served.people.trait(ann, "note", "=cmd()")
    made = desk.create("file", {"path": "crm"}, fields=["traits.note"])
    desk.follow()
    desk.served.people.erase(ann)
    desk.follow()

    files = sorted((desk.folder / "crm").iterdir())
    rows = [row for file in files for row in csv.DictReader(file.open())]
    assert [(row["change"], row["traits.note"]) for row in rows] == [
        ("entered", "'=cmd()"),
        ("left", ""),
    ]
    assert desk.show(made)["waiting"] == 0


@pytest.mark.kafka
def test_a_topic_gets_a_record_a_row_keyed_by_profile(desk: Desk, kafka_servers: str) -> None:
    topic = f"segments.{uuid.uuid4().hex[:12]}"
    settings = Settings(kafka_bootstrap_servers=kafka_servers, kafka_topic=topic)
    with closing(open_admin(settings)) as admin:
        ensure_topic(admin, settings)
    desk.buyer("安妮")
    made = desk.create("kafka", {"bootstrap_servers": kafka_servers, "topic": topic})
    desk.follow()

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=kafka_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=10_000,
    )
    record = next(consumer)
    consumer.close()
    assert desk.deliveries(made)[0]["status"] == "delivered"
    assert record.key.decode() == "prf_user_id_安妮"
    assert msgspec.json.decode(record.value)["change"] == "entered"
    assert dict(record.headers)["webhook-id"].decode() == desk.deliveries(made)[0]["id"]


def test_a_long_outage_is_told_as_one_difference(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_deliveries, "MOST_WAITING", 1)
    receiver.answer(500)
    desk.buyer("ann")
    desk.create("webhook", {"url": receiver.url})
    desk.follow()
    bob = desk.buyer("bob")
    desk.follow()
    desk.served.people.erase(bob)
    desk.buyer("eve")
    desk.follow()
    desk.ahead = HOUR
    desk.deliver()
    desk.deliver()

    told = [row["profile_id"] for one in receiver.received[1:] for row in one.rows]
    assert told == ["prf_user_id_ann", "prf_user_id_eve"], "bob came and went unseen"


def test_a_set_that_is_taken_out_leaves_the_receiver(desk: Desk, receiver: Receiver) -> None:
    rule = {"trait": "plan", "op": "eq", "value": "pro"}
    desk.served.client.post("/v1/segments", json={"key": "pros", "rule": rule})
    ann = desk.buyer("ann")
    desk.served.people.trait(ann, "plan", "pro")
    made = desk.create("webhook", {"url": receiver.url}, segments=["buyers", "pros"])
    desk.follow()
    assert len(receiver.held()) == 2
    answer = desk.client.patch(f"/v1/destinations/{made['id']}", json={"segments": ["pros"]})
    desk.deliver()

    assert answer.json()["segments"] == ["pros"]
    assert list(receiver.held()) == ["segment:pros:prf_user_id_ann"]


def test_a_segment_that_is_sent_somewhere_cannot_vanish(desk: Desk, receiver: Receiver) -> None:
    made = desk.create("webhook", {"url": receiver.url})
    refused = desk.served.client.delete("/v1/segments/buyers")
    desk.client.delete(f"/v1/destinations/{made['id']}")
    gone = desk.served.client.delete("/v1/segments/buyers")

    assert refused.status_code == 409
    assert refused.json()["details"]["used_by"] == [{"kind": "destination", "key": made["id"]}]
    assert gone.status_code == 204


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"segments": ["nobody"]}, "/segments/0"),
        ({"segments": [], "tags": ["nothing"]}, "/tags/0"),
        ({"segments": []}, "/segments"),
        ({"fields": ["tags.nothing"]}, "/fields"),
    ],
)
def test_what_does_not_exist_cannot_be_sent(desk: Desk, change: dict[str, Any], path: str) -> None:
    body = {"type": "file", "settings": {"path": "x"}, "segments": ["buyers"], **change}
    answer = desk.client.post("/v1/destinations", json=body)
    assert answer.status_code == 422
    assert answer.json()["details"]["path"] == path


def test_whoever_may_not_see_personal_values_cannot_have_them_sent(
    desk: Desk, receiver: Receiver
) -> None:
    ann = desk.buyer("ann")
    desk.served.people.identify(ann, "email", "ann@example.com")
    headers = make_token(desk.served.database, "destinations:write")
    body = {
        "type": "webhook",
        "settings": {"url": receiver.url},
        "segments": ["buyers"],
        "fields": ["email"],
    }
    made = desk.client.post("/v1/destinations", json=body, headers=headers).json()
    desk.follow()

    assert made["masked"]
    assert "ann@example.com" not in receiver.received[0].body.decode()


def test_what_waits_forgets_whom_privacy_erases(desk: Desk, receiver: Receiver) -> None:
    receiver.answer(500)
    ann = desk.buyer("ann")
    desk.served.people.identify(ann, "email", "ann@example.com")
    made = desk.create("webhook", {"url": receiver.url}, fields=["email"])
    desk.follow()
    with desk.served.database.transaction() as connection:
        tx = driver(connection)
        assert deliveries_store.forget_people(tx, ["prf_user_id_ann"]) == 1
        kept = tx.execute("SELECT rows::text FROM deliveries").fetchall()
    desk.served.people.erase(ann)
    desk.ahead = HOUR
    desk.follow()

    assert kept == [("[]",)]
    assert [row["status"] for row in desk.deliveries(made)] == ["delivered", "delivered"]
    assert [row["change"] for one in receiver.received[1:] for row in one.rows] == ["left"]
