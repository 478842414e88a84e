"""Deletion, silence and export on a real Postgres: what goes, what stays, and who comes back."""

from __future__ import annotations

import csv
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.identity.check_store import check_identity
from cdp.identity.rules import default_rules
from cdp.model import Identifier
from cdp.privacy import log_copies, scrub_store
from cdp.storage.database import Database, driver
from cdp.storage.privacy_requests_store import PrivacyRequest, queue_requests
from tests.support.privacy_desk import PrivacyWorld
from tests.support.wire import identify, track

LAST_WEEK = datetime.now(UTC) - timedelta(days=7)
TOMORROW = datetime.now(UTC) + timedelta(minutes=5)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[PrivacyWorld]:
    made = PrivacyWorld(database, tmp_path)
    yield made
    made.close()


def ann(suffix: str = "") -> list[dict[str, Any]]:
    """What a person sent whose every value has MARK in it."""
    return [
        identify(
            f"i{suffix}",
            at=LAST_WEEK,
            userId="mark-ann",
            anonymousId="mark-browser",
            traits={"email": "Ann@Mark.example", "name": "MARK"},
            context={"consent": {"categoryPreferences": {"marketing": True}}},
        ),
        track("Viewed", f"v{suffix}", at=LAST_WEEK, userId="mark-ann", properties={"x": "MARK"}),
        track(
            "Order Completed",
            f"o{suffix}",
            at=LAST_WEEK,
            userId="mark-ann",
            properties={"order_id": "MARK-1", "total": 12.5, "currency": "CNY"},
        ),
        {"type": "group", "messageId": f"g{suffix}", "userId": "mark-ann", "groupId": "acme"},
    ]


def bob() -> list[dict[str, Any]]:
    return [
        identify("bob", at=LAST_WEEK, userId="bob", traits={"email": "bob@example.com"}),
        track(
            "Order Completed",
            "bob-o",
            at=LAST_WEEK,
            userId="bob",
            properties={"order_id": "B-1", "total": 7, "currency": "CNY"},
        ),
    ]


def prove_identity(world: PrivacyWorld) -> None:
    with world.database.transaction() as connection:
        findings = check_identity(driver(connection), default_rules("CN"))
    assert [one for one in findings if one.wrong] == []


def test_nothing_of_a_deleted_person_is_in_any_table(world: PrivacyWorld) -> None:
    world.send([*ann(), *bob()])
    job = world.do("delete", "email:ann@mark.example")
    assert world.list_tables_with("mark") == set()
    removed = {store: found["count"] for store, found in job.receipt["removed"].items()}
    assert removed["events"] == 4
    assert removed["orders"] == removed["order_reports"] == 1
    assert removed["identifiers"] == 3
    assert removed["log"] == 4
    assert job.status == "done"


def test_everybody_else_is_as_before(world: PrivacyWorld) -> None:
    world.send([*ann(), *bob()])
    before = world.find("user_id:bob")
    world.do("delete", "user_id:mark-ann")
    assert world.find("user_id:bob") == before
    assert world.query("SELECT count(*), sum(total) FROM orders") == [(1, 700)]
    prove_identity(world)


def test_what_is_sent_again_restores_nothing_and_is_accounted_for(world: PrivacyWorld) -> None:
    world.send(ann())
    world.do("delete", "user_id:mark-ann")
    world.send(ann())
    world.send(ann(suffix="-again")[:3])
    assert world.find("user_id:mark-ann") is None
    assert world.query("SELECT count(*) FROM events") == [(0,)]
    assert world.query("SELECT code, raw, message_id FROM rejected ORDER BY 1 DESC LIMIT 1") == [
        ("suppressed", b"", None)
    ]
    assert world.query(
        "SELECT sum(received), sum(stored + duplicate + rejected) FROM accounting"
    ) == [(11, 11)]


def test_what_is_sent_again_leaves_the_log_too_after_a_while(world: PrivacyWorld) -> None:
    world.send(ann())
    world.do("delete", "user_id:mark-ann")
    world.send(ann("-again")[:3])
    world.send(ann("-once-more")[:3])
    world.carry_out()
    assert world.list_tables_with("mark") == {"log_records", "privacy_traces"}
    world.desk.now = lambda: datetime.now(UTC) + timedelta(minutes=2)
    world.carry_out()
    assert world.list_tables_with("mark") == set()
    assert world.query("SELECT count(*) FROM privacy_jobs WHERE actor = 'system'") == [(1,)]


def test_who_comes_back_is_somebody_new_each_time(world: PrivacyWorld) -> None:
    ids = []
    for number in range(3):
        world.send(
            [track("Back", f"b{number}", at=datetime.now(UTC), userId="mark-ann", properties={})]
        )
        person = world.find("user_id:mark-ann")
        assert person is not None
        assert [node.events for node in person.nodes] == [1]
        ids.append(person.profile_id)
        world.do("delete", f"id:{person.profile_id}")
        assert world.find(f"id:{person.profile_id}") is None
    assert len(set(ids)) == 3


def test_a_worker_that_remembers_a_deleted_person_makes_a_new_one(world: PrivacyWorld) -> None:
    other = world.make_worker("two")
    world.send(ann())
    world.do("delete", "user_id:mark-ann")
    world.worker.close()
    world.worker = other
    world.send([track("Back", "b", at=datetime.now(UTC), userId="mark-ann", properties={})])
    person = world.find("user_id:mark-ann")
    assert person is not None
    assert person.registers == []


def test_an_unknown_identifier_is_done_with_nothing_and_stays_unknown(world: PrivacyWorld) -> None:
    job = world.do("delete", "email:ann@mark.example")
    assert job.status == "done"
    assert all(not one["count"] for one in job.receipt["removed"].values())
    world.send(ann()[:1])
    assert world.find("user_id:mark-ann") is None


def test_a_shared_device_keeps_its_other_people_and_its_own_profile(world: PrivacyWorld) -> None:
    def use(message: str, hour: int, **fields: Any) -> dict[str, Any]:
        at = LAST_WEEK + timedelta(hours=hour)
        return track("Tap", message, at=at, anonymousId="till", properties={}, **fields)

    world.send([use("t0", 0), use("t1", 1, userId="mark-ann"), use("t2", 2, userId="bob")])
    world.send([use("t3", 3), use("t4", 4, userId="bob")])
    bob, till = world.find("user_id:bob"), world.find("anonymous_id:till")
    ann = world.find("user_id:mark-ann")
    assert bob is not None
    assert till is not None
    assert ann is not None
    assert till.profile_no != bob.profile_no
    world.do("delete", "user_id:mark-ann")
    bob_after, till_after = world.find("user_id:bob"), world.find("anonymous_id:till")
    assert bob_after == bob
    assert till_after is not None
    assert till_after.profile_id == till.profile_id
    assert world.find(f"id:{ann.profile_id}") is None
    assert world.query("SELECT count(*) FROM events") == [(3,)]
    prove_identity(world)


def test_the_two_on_a_shared_device_may_both_be_deleted(world: PrivacyWorld) -> None:
    for hour, name in ((1, "mark-ann"), (2, "mark-bob")):
        at = LAST_WEEK + timedelta(hours=hour)
        world.send([track("Tap", name, at=at, anonymousId="till", userId=name, properties={})])
    world.do("delete", "user_id:mark-ann")
    world.do("delete", "user_id:mark-bob")
    assert world.list_tables_with("mark") == set()
    prove_identity(world)


def test_an_order_of_which_two_people_told_stays_with_the_other(world: PrivacyWorld) -> None:
    def buy(message: str, minute: int, who: str) -> dict[str, Any]:
        at = LAST_WEEK + timedelta(minutes=minute)
        properties = {"order_id": "B-1", "total": 5, "currency": "CNY"}
        return track("Order Completed", message, at=at, userId=who, properties=properties)

    world.send([buy("m1", 1, "mark-ann"), buy("m2", 2, "bob")])
    world.do("delete", "user_id:mark-ann")
    assert world.query("SELECT count(*), sum(total) FROM orders") == [(1, 500)]
    assert world.query("SELECT count(*) FROM order_reports") == [(1,)]


def test_a_list_deletes_everybody_on_it_in_one_request(world: PrivacyWorld) -> None:
    world.send([track("A", f"m{n}", at=LAST_WEEK, userId=f"mark-{n:04}") for n in range(120)])
    job = world.do("delete", *(f"user_id:mark-{n:04}" for n in range(120)))
    assert job.receipt["removed"]["identifiers"]["count"] == 120
    assert world.list_tables_with("mark") == set()


def test_two_requests_for_one_person_are_both_done(world: PrivacyWorld) -> None:
    world.send(ann())
    first, second = (
        world.ask("delete", "user_id:mark-ann"),
        world.ask("delete", "email:ann@mark.example"),
    )
    world.carry_out()
    counts = [world.find_job(one).receipt["removed"]["events"]["count"] for one in (first, second)]
    assert counts == [4, 0]


def test_what_a_shop_asks_is_carried_out(world: PrivacyWorld) -> None:
    world.send(ann())
    request = PrivacyRequest(
        world.source_id,
        "hook-1",
        "delete",
        "customers/redact",
        datetime.now(UTC),
        Identifier("email", "ann@mark.example"),
    )
    with world.database.transaction() as connection:
        queue_requests(driver(connection), [request])
    world.carry_out()
    assert world.find_job(request.request_id).status == "done"
    assert world.list_tables_with("mark") == set()


def test_whoever_is_silenced_is_not_heard_until_they_may_speak(world: PrivacyWorld) -> None:
    world.send(ann())
    world.do("suppress", "email:ann@mark.example")
    world.send([track("A", "a1", userId="mark-ann"), track("A", "a2", userId="bob")])
    person = world.find("user_id:mark-ann")
    assert person is not None
    assert sum(node.events for node in person.nodes) == 4
    assert world.find("user_id:bob") is not None
    world.do("unsuppress", "email:ann@mark.example")
    world.send([track("A", "a3", userId="mark-ann")])
    person = world.find("user_id:mark-ann")
    assert person is not None
    assert sum(node.events for node in person.nodes) == 5


def test_a_deletion_that_is_killed_after_any_step_goes_on(world: PrivacyWorld) -> None:
    world.send([*ann(), *bob()])
    job_id = world.ask("delete", "user_id:mark-ann", reason="asked by ann@mark.example")
    world.analytics.is_ready = False
    world.desk.work()
    assert world.find_job(job_id).step == "sweep"
    assert world.find("user_id:mark-ann") is None
    world.analytics.is_ready = True
    another = world.make_desk()
    another.sweep(world.open_jobs())
    assert world.find_job(job_id).step == "scrub"
    world.desk = world.make_desk()
    world.carry_out()
    assert world.list_tables_with("mark") == set()
    assert world.find_job(job_id).reason == "erased"


def test_a_line_not_yet_worked_off_is_blanked_and_counted(world: PrivacyWorld) -> None:
    world.send(ann()[:1])
    world.worker.close()
    from tests.support.wire import append_events

    append_events(world.log, world.source_id, ann("-late"), request_id="late")
    world.do("delete", "user_id:mark-ann")
    world.worker = world.make_worker("two")
    world.work()
    assert world.find("user_id:mark-ann") is None
    assert world.list_tables_with("mark") == set()
    assert world.query("SELECT sum(received), sum(stored), sum(rejected) FROM accounting") == [
        (5, 1, 4)
    ]


def test_of_a_large_log_only_what_the_server_finds_is_read(
    world: PrivacyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_copies, "_LARGE_BYTES", 0)
    world.send([*ann(), *bob()])
    world.send([track("A", "u", at=LAST_WEEK, userId="安妮-mark-ann", properties={"a": "100%_"})])
    job = world.do("delete", "user_id:mark-ann", "user_id:安妮-mark-ann")
    assert job.receipt["removed"]["log"]["count"] == 5
    assert world.list_tables_with("mark") == set()


def test_while_an_import_runs_copies_are_looked_for_again_at_its_end(world: PrivacyWorld) -> None:
    world.send(ann())
    with world.database.transaction() as connection:
        connection.exec_driver_sql(
            """INSERT INTO imports (import_id, source_id, kind, mapping, fingerprint, digest,
                                    file_name, size, format, status, created_by, said_at)
               VALUES ('imp_1', 's', 'events', '{}', 'f', 'd', 'people.csv', 1, 'csv', 'running',
                       'test', now())"""
        )
    job_id = world.ask("delete", "user_id:mark-ann")
    world.desk.work()
    world.desk.work()
    assert "import" in (world.find_job(job_id).waiting or "")
    assert world.find("user_id:mark-ann") is None
    world.send(ann("-from-the-file"))
    upload = world.folder / "imports" / "imp_1"
    upload.parent.mkdir()
    upload.write_text("mark-ann")
    with world.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE imports SET status = 'done'")
    world.desk.now = lambda: datetime.now(UTC) + timedelta(minutes=2)
    world.carry_out()
    assert not upload.exists()
    assert world.find("user_id:mark-ann") is None
    assert world.list_tables_with("mark") == set()


def test_deleting_while_others_are_merged_loses_neither(world: PrivacyWorld) -> None:
    world.send(ann())
    failures: list[BaseException] = []

    def delete() -> None:
        try:
            world.do("delete", "user_id:mark-ann")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=delete)
    thread.start()
    for number in range(15):
        at = LAST_WEEK + timedelta(minutes=number)
        world.send(
            [
                track("A", f"x{number}", at=at, anonymousId=f"c{number}", userId="bob"),
                track("A", f"y{number}", at=at, anonymousId="mark-browser", userId="mark-ann"),
            ]
        )
    thread.join(60)
    world.carry_out()
    assert failures == []
    assert world.find("user_id:mark-ann") is None
    person = world.find("user_id:bob")
    assert person is not None
    assert sum(node.events for node in person.nodes) == 15
    prove_identity(world)


def test_an_export_holds_everything_and_goes_with_a_later_deletion(world: PrivacyWorld) -> None:
    world.send([*ann(), *bob()])
    job = world.do("export", "email:ann@mark.example")
    with zipfile.ZipFile(world.archives.path(job.job_id)) as archive:
        files = {
            name.rpartition("/")[2]: archive.read(name).decode() for name in archive.namelist()
        }
    assert len(json.loads(files["events.json"])) == 4
    assert len(list(csv.DictReader(io.StringIO(files["events.csv"])))) == 4
    assert json.loads(files["orders.json"])[0]["versions"][0]["order_id"] == "MARK-1"
    assert {row["name"] for row in csv.DictReader(io.StringIO(files["traits.csv"]))} == {
        "email",
        "name",
    }
    assert json.loads(files["consents.json"])[0]["purpose"] == "marketing"
    assert json.loads(files["profile.json"])["traits"]["name"] == "MARK"
    assert "bob" not in "".join(files.values())
    assert world.query("SELECT identifier_value LIKE 'hash:%%' FROM privacy_requests") == [(True,)]
    world.do("delete", "user_id:mark-ann")
    assert not world.archives.path(job.job_id).exists()


def test_the_planner_knows_no_value_of_a_deleted_person(world: PrivacyWorld) -> None:
    world.send([*ann(), *bob()])
    with scrub_store.open_scrubber(world.database.libpq_url) as conn:
        conn.execute("ANALYZE")
    known = """SELECT count(*) FROM pg_stats
                WHERE concat(histogram_bounds::text, most_common_vals::text) ILIKE '%%mark-ann%%'"""
    assert world.query(known) != [(0,)]
    world.desk = world.make_desk(scrubs=True)
    world.do("delete", "user_id:mark-ann")
    assert world.query(known) == [(0,)]


def test_whoever_has_the_same_number_in_another_app_is_still_found_by_it(
    world: PrivacyWorld,
) -> None:
    world.send(
        [
            {
                "type": "identify",
                "messageId": app,
                "timestamp": LAST_WEEK.isoformat(),
                "context": {
                    "app": {"namespace": app},
                    "externalIds": [{"type": "wechat_openid", "id": "o-same"}],
                },
            }
            for app in ("wx1111111111111111", "wx2222222222222222")
        ]
    )
    with world.database.transaction() as connection:
        before = driver(connection).execute("SELECT node_ids FROM identifier_forms").fetchall()
        nodes = dict(driver(connection).execute("SELECT value, node_id FROM nodes").fetchall())
    assert [sorted(ids) for (ids,) in before] == [sorted(nodes.values())]
    gone = "wx1111111111111111::o-same"
    world.do("delete", f"wechat_openid:{gone}")
    with world.database.transaction() as connection:
        after = driver(connection).execute("SELECT node_ids FROM identifier_forms").fetchall()
    assert after == [([number for value, number in nodes.items() if value != gone],)]


def test_a_job_that_fails_says_so_holds_up_no_other_and_is_tried_again(
    world: PrivacyWorld,
) -> None:
    world.send([*ann(), *bob()])

    def fail(job_id: str, asked: object) -> dict[str, Any]:
        raise OSError("no space left")

    can_export = world.desk.export
    world.desk.export = fail
    exported = world.ask("export", "email:bob@example.com")
    deleted = world.ask("delete", "email:ann@mark.example")
    for _ in range(5):
        world.desk.work()
    assert world.find_job(deleted).status == "done"
    assert world.find_job(exported).waiting == "a fault (OSError): it is tried again"
    world.desk.export = can_export
    world.desk.now = lambda: datetime.now(UTC) + timedelta(hours=1)
    world.desk.work()
    assert world.find_job(exported).status == "done"
