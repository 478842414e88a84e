"""Kafka from the settings: how to connect, and the topic with its partitions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from cdp.errors import SetupError
from cdp.runtime.logs import get_logger
from cdp.settings import Settings

_START_SECONDS = 10
_MIN_MESSAGE_BYTES = 16 * 1024 * 1024

_log = get_logger(__name__)


def read_options(settings: Settings) -> dict[str, Any]:
    """Return what every client of kafka-python needs to connect; raise ``SetupError``."""
    options: dict[str, Any] = {
        "bootstrap_servers": _split_servers(settings.kafka_bootstrap_servers or ""),
        "bootstrap_timeout_ms": _START_SECONDS * 1000,
        "client_id": "cdp",
        "security_protocol": settings.kafka_security_protocol,
        # A broker that is back is found within a second, not within half a minute.
        "reconnect_backoff_max_ms": 1000,
    }
    if settings.kafka_ssl_cafile is not None:
        options["ssl_cafile"] = str(settings.kafka_ssl_cafile)
    if settings.kafka_security_protocol.startswith("SASL"):
        if not settings.kafka_sasl_mechanism:
            raise SetupError("set CDP_KAFKA_SASL_MECHANISM, such as SCRAM-SHA-512 or PLAIN")
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password
    return options


def _split_servers(text: str) -> list[str]:
    servers = [server.strip() for server in text.split(",") if server.strip()]
    for server in servers:
        _, colon, port = server.rpartition(":")
        if not colon or not port.isdigit():
            raise SetupError(f"CDP_KAFKA_BOOTSTRAP_SERVERS: {server!r} is not host:port")
    return servers


def _wanted_message_bytes(settings: Settings) -> int:
    # Twice the largest request: requests of a few milliseconds are packed together.
    return max(_MIN_MESSAGE_BYTES, 2 * settings.max_request_bytes + 1024 * 1024)


def open_admin(settings: Settings) -> KafkaAdminClient:
    """Connect; raise ``SetupError`` with one line when no broker answers."""
    options = read_options(settings) | {"reconnect_backoff_max_ms": 200}
    # It repeats a lost connection many times a second; what matters is raised and logged here.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        return KafkaAdminClient(**options, request_timeout_ms=5000)
    except (KafkaError, OSError, ValueError) as error:
        raise SetupError(
            f"Kafka does not answer at {settings.kafka_bootstrap_servers} "
            f"({describe(error)}); check CDP_KAFKA_BOOTSTRAP_SERVERS"
        ) from error


def ensure_topic(admin: KafkaAdminClient, settings: Settings) -> tuple[str, int]:
    """Make the topic if it is missing; return the cluster's id and the number of partitions.

    An existing topic keeps its number. Raises ``SetupError``.
    """
    topic = settings.kafka_topic
    try:
        partitions = _count_partitions(admin, topic)
        if partitions == 0:
            _create_topic(admin, settings)
            partitions = _count_partitions(admin, topic)
        cluster = admin.describe_cluster()["cluster_id"]
    except KafkaError as error:
        raise SetupError(f"Kafka refuses the topic {topic!r} ({describe(error)})") from error
    return str(cluster), partitions


def _count_partitions(admin: KafkaAdminClient, topic: str) -> int:
    found: Sequence[dict[str, Any]] = admin.describe_topics([topic])
    if not found or found[0]["error_code"] == 3:  # UNKNOWN_TOPIC_OR_PARTITION
        return 0
    if found[0]["error_code"] != 0:
        raise for_code(found[0]["error_code"])()
    return len(found[0]["partitions"])


def _create_topic(admin: KafkaAdminClient, settings: Settings) -> None:
    configs = {
        "cleanup.policy": "delete",
        "max.message.bytes": str(_wanted_message_bytes(settings)),
    }
    if settings.kafka_replication_factor >= 3:
        # An acknowledgement then outlives the loss of a broker.
        configs["min.insync.replicas"] = "2"
    wanted = {
        "num_partitions": settings.log_partitions,
        "replication_factor": settings.kafka_replication_factor,
        "configs": configs,
    }
    # Several processes may start at once; all but one find it made.
    with suppress(TopicAlreadyExistsError):
        admin.create_topics({settings.kafka_topic: wanted}, wait_for_metadata=True)


def read_message_limit(admin: KafkaAdminClient, settings: Settings) -> int:
    """Return the bytes that a record may have: what is wanted, or less if the topic says so.

    The producer then refuses by itself what the broker would refuse.
    """
    wanted = _wanted_message_bytes(settings)
    resource = ConfigResource(ConfigResourceType.TOPIC, settings.kafka_topic)
    try:
        found = admin.describe_configs([resource], config_filter="all")
        allowed = int(found["topic"][settings.kafka_topic]["max.message.bytes"]["value"])
    except (KafkaError, KeyError, ValueError) as error:
        # Not everybody may look at configurations.
        _log.info("log_limit_unknown", reason=describe(error))
        return wanted
    if allowed < wanted:
        _log.warning("log_takes_small_records_only", max_message_bytes=allowed, wanted=wanted)
    return min(wanted, allowed)


def read_retention_ms(admin: KafkaAdminClient, topic: str) -> int | None:
    """Return for how many milliseconds the topic keeps a record, -1 for ever; ``None``: unknown."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    try:
        found = admin.describe_configs([resource], config_filter="all")
        return int(found["topic"][topic]["retention.ms"]["value"])
    except (KafkaError, KeyError, ValueError, OSError) as error:
        _log.info("log_retention_unknown", reason=describe(error))
        return None


def describe(error: BaseException) -> str:
    """Return what went wrong as one short line."""
    # The library's errors name their class themselves, others do not.
    name, text = type(error).__name__, " ".join(str(error).split())
    return (text if text.startswith(name) else f"{name}: {text}".rstrip(": "))[:300]
