"""Changes of profiles on a real Kafka topic: each at least once, with an id that tells it again."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence

import pytest
from kafka import KafkaConsumer

from cdp.profile_changes import Message, ProfileChanges, ProfileChangesTopic, send_next
from cdp.settings import Settings
from cdp.storage.database import Database
from tests.support.profile_rows import Writer


@pytest.fixture
def writer(database: Database) -> Writer:
    writer = Writer(database)
    for number in (1, 2):
        writer.execute(
            """INSERT INTO profile_feed (change_no, profile_id, at, version, kinds, traits)
               VALUES (%(no)s, %(id)s, now(), 1, '{identifiers,traits}', '{plan}')""",
            {"no": number, "id": f"prf_{number}"},
        )
    return writer


def test_what_is_not_acknowledged_is_sent_again_under_the_same_id(
    database: Database, writer: Writer
) -> None:
    seen: list[list[str]] = []

    def send(messages: Sequence[Message]) -> None:
        seen.append([one.id for one in messages])
        if len(seen) == 1:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        send_next(database, send)
    assert send_next(database, send) == 2
    assert send_next(database, send) == 0
    assert seen == [["1.0", "1.1", "2.0", "2.1"]] * 2


@pytest.mark.kafka
def test_changes_are_on_the_topic_keyed_by_profile(
    database: Database, writer: Writer, kafka_servers: str
) -> None:
    topic = f"test.{uuid.uuid4().hex[:12]}"
    settings = Settings(
        kafka_bootstrap_servers=kafka_servers, profile_changes_topic=topic, log_partitions=1
    )
    changes = ProfileChanges(database, ProfileChangesTopic(settings, database))
    changes.start()
    try:
        found = []
        ends_at = time.monotonic() + 30
        while len(found) < 4 and time.monotonic() < ends_at:
            consumer = KafkaConsumer(
                topic, bootstrap_servers=kafka_servers, auto_offset_reset="earliest",
                consumer_timeout_ms=3000, metrics_enabled=False,
            )  # fmt: skip
            found = list(consumer)
            consumer.close()
    finally:
        changes.close()
    told = [(one.key.decode(), json.loads(one.value)) for one in found]
    assert [(key, value["change"], value["id"]) for key, value in told] == [
        ("prf_1", "identifiers", "1.0"),
        ("prf_1", "traits", "1.1"),
        ("prf_2", "identifiers", "2.0"),
        ("prf_2", "traits", "2.1"),
    ]
    assert found[1].headers == [("id", b"1.1")]
    assert told[1][1]["traits"] == ["plan"]
