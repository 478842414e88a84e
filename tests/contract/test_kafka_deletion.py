"""A deletion with the log on Kafka: its copies are stated, and read again they restore nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from cdp.log.kafka_log import KafkaLog
from cdp.storage.database import Database
from tests.contract.conftest import make_place
from tests.contract.log_records import wait_until
from tests.support.privacy_desk import PrivacyWorld
from tests.support.wire import RECEIVED_AT, identify, track

pytestmark = pytest.mark.kafka

EVENTS = [
    identify("i", at=RECEIVED_AT, userId="mark-ann", traits={"email": "ann@mark.example"}),
    track("Seen", "s", at=RECEIVED_AT, userId="mark-ann"),
    track("Seen", "b", at=RECEIVED_AT, userId="bob"),
]


@pytest.fixture
def world(database: Database, kafka_servers: str, tmp_path: Path) -> Iterator[PrivacyWorld]:
    place = make_place(database, kafka_servers)
    log = KafkaLog(place.settings)
    made = PrivacyWorld(database, tmp_path, log)
    admin = KafkaAdminClient(bootstrap_servers=kafka_servers)
    topic = ConfigResource(
        ConfigResourceType.TOPIC, place.settings.kafka_topic, {"retention.ms": "7200000"}
    )
    admin.alter_configs([topic])
    admin.close()
    yield made
    made.close()


def work_until(world: PrivacyWorld, stored: int, others: int = 0) -> None:
    """Work the topic off until so much came of it: Kafka hands out records when it likes."""

    def count() -> list[tuple[int, int]]:
        return world.query(
            """SELECT coalesce(sum(stored), 0)::int, coalesce(sum(duplicate + rejected), 0)::int
                 FROM accounting"""
        )

    wait_until(lambda: not world.worker.step(0.2) and count() == [(stored, others)])


def test_the_receipt_says_when_kafka_forgets_and_what_it_holds_restores_nobody(
    world: PrivacyWorld,
) -> None:
    world.send(EVENTS)
    work_until(world, 3)
    job = world.do("delete", "user_id:mark-ann")
    assert job.receipt["disk"]["log"]["retention_hours"] == 2
    assert job.receipt["removed"]["events"]["count"] == 2
    assert world.list_tables_with("mark") == set()
    # Another installation's worker, or one whose position was lost, reads the topic from its start.
    world.query("UPDATE positions SET next_offset = 0 RETURNING 1")
    world.worker.close()
    world.worker = world.make_worker("again")
    work_until(world, 3, 3)
    assert world.find("user_id:mark-ann") is None
    bob = world.find("user_id:bob")
    assert bob is not None
    assert sum(node.events for node in bob.nodes) == 1
