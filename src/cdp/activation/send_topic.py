"""Kafka destinations: one record a row, keyed by profile, so that a topic can be compacted.

A delivery that is sent again carries the same id in its header ``webhook-id``.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from cdp.activation.address import PRIVATE_SETTING, is_refused, read_literal
from cdp.activation.delivery import Delivery
from cdp.activation.retry import Attempt

_OPTIONS = ("security_protocol", "sasl_mechanism", "sasl_username", "sasl_password")
_NAMES = {"sasl_username": "sasl_plain_username", "sasl_password": "sasl_plain_password"}


def send_to_topic(
    settings: Mapping[str, Any], delivery: Delivery, *, seconds: float, allows_private: bool
) -> Attempt:
    """Produce the rows of ``delivery`` and wait for every acknowledgement, up to ``seconds``."""
    servers = [server.strip() for server in settings["bootstrap_servers"].split(",")]
    if not allows_private and any(_is_private(server) for server in servers):
        return Attempt(
            False,
            error="a broker's name leads to an address that is not on the public network;"
            f" {PRIVATE_SETTING}=true allows it",
        )
    milliseconds = int(seconds * 1000)
    try:
        producer = KafkaProducer(
            bootstrap_servers=servers,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=milliseconds,
            delivery_timeout_ms=milliseconds + 100,
            max_block_ms=milliseconds,
            bootstrap_timeout_ms=milliseconds,
            linger_ms=5,
            **{_NAMES.get(name, name): settings[name] for name in _OPTIONS if name in settings},
        )
    except (KafkaError, OSError, ValueError, AssertionError) as error:
        return Attempt(False, error=_describe(error))
    try:
        return _produce(producer, settings["topic"], delivery, seconds)
    finally:
        producer.close(timeout=1)


def _produce(producer: Any, topic: str, delivery: Delivery, seconds: float) -> Attempt:
    headers = [("webhook-id", delivery.delivery_id.encode())]
    try:
        futures = [
            producer.send(
                topic,
                key=row["profile_id"].encode(),
                value=msgspec.json.encode(row),
                headers=headers,
            )
            for row in delivery.rows
        ]
        producer.flush(timeout=seconds)
        for future in futures:
            future.get(timeout=seconds)
    except (KafkaError, OSError, ValueError, AssertionError) as error:
        return Attempt(False, error=_describe(error))
    return Attempt(True)


def _is_private(server: str) -> bool:
    host, _, port = server.rpartition(":")
    literal = read_literal(host)
    if literal is not None:
        return is_refused(literal)
    try:
        infos = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        return False  # Leads nowhere, which the producer says.
    addresses = [read_literal(str(info[4][0])) for info in infos]
    return any(address is None or is_refused(address) for address in addresses)


def _describe(error: Exception) -> str:
    return f"the brokers did not take it: {type(error).__name__}"
