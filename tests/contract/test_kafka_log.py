"""What only the log on Kafka has to prove: any Kafka consumer can read it, settings, topics."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from cdp.errors import SetupError
from cdp.log.format import RequestLines, pack_record
from cdp.log.kafka_log import KafkaLog
from cdp.log.kafka_topic import read_options
from cdp.log.port import Log, LogUnavailable
from cdp.settings import Settings
from cdp.storage.database import Database
from tests.contract.conftest import Place, make_place
from tests.contract.log_records import append, read_all, record, values, wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def place(database: Database, kafka_servers: str) -> Iterator[Place]:
    made = make_place(database, kafka_servers)
    yield made
    made.close()


@pytest.fixture
def admin(kafka_servers: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=kafka_servers)
    yield client
    client.close()


def test_any_kafka_consumer_can_read_the_records(
    place: Place, log: Log, kafka_servers: str
) -> None:
    lines = [
        b'{"type":"track","event":"Order Completed"}',
        '{"type":"page","name":"首页"}'.encode(),
    ]
    request = RequestLines("req_1", "2026-03-01T08:00:00.000Z", None, lines)
    append(log, pack_record(2, b"user_id:42", "src_1", [request]))
    consumer = KafkaConsumer(bootstrap_servers=kafka_servers)
    partition = TopicPartition(place.settings.kafka_topic, 2)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    found: list[object] = []
    wait_until(lambda: found.extend(consumer.poll(500).get(partition, [])) or bool(found))
    consumer.close()
    [only] = found
    assert only.key == b"user_id:42"  # type: ignore[attr-defined]
    assert only.value.split(b"\n") == lines  # type: ignore[attr-defined]
    assert dict(only.headers) == {  # type: ignore[attr-defined]
        "cdp-format": b"1",
        "cdp-kind": b"events",
        "cdp-source": b"src_1",
        "cdp-requests": b'[["req_1","2026-03-01T08:00:00.000Z",null,2]]',
    }


def test_the_name_says_which_cluster_and_topic(place: Place, log: Log) -> None:
    kind, cluster, topic = log.name.split(":")
    assert (kind, topic) == ("kafka", place.settings.kafka_topic)
    assert cluster


def test_the_topic_takes_the_largest_request(
    place: Place, log: Log, admin: KafkaAdminClient
) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, place.settings.kafka_topic)
    text = str(admin.describe_configs([resource]))
    assert str(16 * 1024 * 1024) in text
    append(log, record(0, b"x" * (8 * 1024 * 1024)))
    assert [len(one.value) for one in read_all(log, {0: 0})] == [8 * 1024 * 1024]


def test_an_existing_topic_keeps_its_partitions(place: Place, admin: KafkaAdminClient) -> None:
    admin.create_topics(
        {place.settings.kafka_topic: {"num_partitions": 3, "replication_factor": 1}},
        wait_for_metadata=True,
    )
    assert place.open().partitions == 3


def _make_small_topic(admin: KafkaAdminClient, topic: str, *, max_bytes: int) -> None:
    small = {
        "num_partitions": 1,
        "replication_factor": 1,
        "configs": {"max.message.bytes": str(max_bytes)},
    }
    admin.create_topics({topic: small}, wait_for_metadata=True)


def test_a_record_that_the_topic_would_refuse_is_refused_alone(
    place: Place, admin: KafkaAdminClient
) -> None:
    _make_small_topic(admin, place.settings.kafka_topic, max_bytes=100_000)
    log = place.open()
    with pytest.raises(LogUnavailable, match="MessageSizeTooLarge"):
        append(log, record(0, b"x" * 200_000))
    assert append(log, record(0, "next")) == [0]


def test_a_log_recovers_from_a_refusal_that_spoils_the_producer(
    place: Place, admin: KafkaAdminClient
) -> None:
    log = place.open()
    append(log, record(0, "before"))
    # The limit shrinks behind the producer's back.
    resource = ConfigResource(
        ConfigResourceType.TOPIC, place.settings.kafka_topic, {"max.message.bytes": "100000"}
    )
    admin.alter_configs([resource])
    with pytest.raises(LogUnavailable, match="MessageSizeTooLarge"):
        append(log, record(0, b"x" * 200_000))
    wait_until(lambda: append(log, record(0, "after")) == [1], even_when_away=True)
    assert values(read_all(log, {0: 0})) == ["before", "after"]


def test_a_position_below_the_oldest_record_reads_from_the_oldest(
    place: Place, log: Log, admin: KafkaAdminClient
) -> None:
    append(log, *[record(0, f"v{n}") for n in range(10)])
    admin.delete_records({TopicPartition(place.settings.kafka_topic, 0): 6})
    assert values(read_all(log, {0: 2})) == ["v6", "v7", "v8", "v9"]
    assert values(read_all(place.open(), {0: 0}))[0] == "v6"


def test_a_kafka_that_does_not_answer_is_one_line_for_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cdp.log.kafka_topic._START_SECONDS", 1)
    with pytest.raises(SetupError, match="CDP_KAFKA_BOOTSTRAP_SERVERS") as refused:
        KafkaLog(Settings(kafka_bootstrap_servers="127.0.0.1:1"))
    assert "\n" not in str(refused.value)


def test_a_topic_that_cannot_be_made_is_one_line_for_the_operator(kafka_servers: str) -> None:
    settings = Settings(
        kafka_bootstrap_servers=kafka_servers,
        kafka_topic=f"test.{uuid.uuid4().hex[:12]}",
        kafka_replication_factor=3,
    )
    with pytest.raises(SetupError, match="refuses the topic") as refused:
        KafkaLog(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("servers", ["broker", "broker:", "a:9092,b"])
def test_servers_without_a_port_are_refused_by_name(servers: str) -> None:
    with pytest.raises(SetupError, match="is not host:port"):
        read_options(Settings(kafka_bootstrap_servers=servers))


def test_security_settings_reach_the_client() -> None:
    options = read_options(
        Settings(
            kafka_bootstrap_servers="a:9093, b:9093",
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="SCRAM-SHA-512",
            kafka_sasl_username="cdp",
            kafka_sasl_password="secret",
            kafka_ssl_cafile="/etc/ca.pem",  # type: ignore[arg-type]
        )
    )
    assert options["bootstrap_servers"] == ["a:9093", "b:9093"]
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "cdp"
    assert options["sasl_plain_password"] == "secret"
    assert options["ssl_cafile"] == "/etc/ca.pem"


def test_sasl_without_a_mechanism_is_refused_by_name() -> None:
    settings = Settings(kafka_bootstrap_servers="a:9093", kafka_security_protocol="SASL_SSL")
    with pytest.raises(SetupError, match="CDP_KAFKA_SASL_MECHANISM"):
        read_options(settings)
