"""The log: events packed per partition against one ``send()`` per event.

Both Kafka sides use the same broker, the same bytes and the same promises (idempotent, acks=all),
have the same number of batches under way, and wait for every acknowledgement.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

from kafka import KafkaProducer

from bench.payload import make_lines
from bench.ratios import compare, take_turns
from cdp.ingest.packing import RequestLog, pack
from cdp.log.format import join_lines
from cdp.log.kafka_log import KafkaLog
from cdp.log.port import Log
from cdp.settings import Settings
from tests.support.kafka_broker import GIVEN_SERVERS, KafkaBroker

EVENTS_PER_BATCH = 100
PARTITIONS = 8
UNDER_WAY = 16
TOGETHER = 8
"""Requests that a busy server packs together within the linger."""


class Event(NamedTuple):
    """An event as both sides get it: already validated, its partition known."""

    partition: int
    key: bytes
    line: bytes


def run(quick: bool) -> list[dict[str, Any]]:
    """Return the rows of goal 4, in two shapes of traffic."""
    seconds, rounds = (0.8, 7) if quick else (5.0, 11)
    batches = _make_batches(50)
    with _open_kafka() as servers:
        return _measure_kafka(servers, batches, seconds, rounds)


def _measure_kafka(
    servers: str, batches: Sequence[list[Event]], seconds: float, rounds: int
) -> list[dict[str, Any]]:
    topic = f"bench.{time.time_ns()}"
    settings = Settings(
        kafka_bootstrap_servers=servers, kafka_topic=topic, log_partitions=PARTITIONS
    )
    log = KafkaLog(settings)
    producer = KafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, linger_ms=5
    )
    single = partial(_rate, partial(_send_each, producer, topic), batches, seconds, 1)
    alone = partial(_rate, partial(_send_packed, log), batches, seconds, 1)
    together = partial(_rate, partial(_send_packed, log), batches, seconds, TOGETHER)
    rows = []
    for name, packed in (
        ("batch of 100, packed per partition, real produce and ack", alone),
        (f"the same, {TOGETHER} requests packed together", together),
    ):
        packed(), single()
        pairs = take_turns(rounds, packed, single)
        rows.append(
            compare(
                4,
                f"{name} / one send() per event",
                [ours / theirs for ours, theirs in pairs],
                at_least=4,
                ours_events_per_second=[round(ours) for ours, _ in pairs],
                theirs_events_per_second=[round(theirs) for _, theirs in pairs],
            )
        )
    producer.close()
    log.close()
    return rows


def _rate(
    send: Callable[[Sequence[list[Event]]], Callable[[], None]],
    batches: Sequence[list[Event]],
    seconds: float,
    together: int,
) -> float:
    """Send for ``seconds`` with a fixed number of batches under way; return events per second."""
    under_way: deque[Callable[[], None]] = deque()
    source = cycle(batches)
    events = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        under_way.append(send([next(source) for _ in range(together)]))
        events += together * EVENTS_PER_BATCH
        if len(under_way) * together >= UNDER_WAY:
            under_way.popleft()()
    while under_way:
        under_way.popleft()()
    return events / (time.perf_counter() - start)


def _send_packed(log: Log, batches: Sequence[list[Event]]) -> Callable[[], None]:
    requests = []
    for batch in batches:
        lines: dict[int, list[bytes]] = {}
        for event in batch:
            lines.setdefault(event.partition, []).append(event.line)
        at = "2026-03-01T08:00:00.000Z"
        joined = {partition: join_lines(some) for partition, some in lines.items()}
        size = sum(len(event.line) for event in batch)
        requests.append(RequestLog("src_bench", "req_bench", at, at, joined, size))
    records, _ = pack(requests)
    future: Future[list[int]] = log.append(records)
    return lambda: _discard(future.result())


def _send_each(
    producer: KafkaProducer, topic: str, batches: Sequence[list[Event]]
) -> Callable[[], None]:
    sent = [
        producer.send(topic, value=event.line, key=event.key, partition=event.partition)
        for batch in batches
        for event in batch
    ]

    def wait() -> None:
        for one in sent:
            one.get(timeout=30)

    return wait


def _discard(_: object) -> None:
    return None


def _make_batches(count: int) -> list[list[Event]]:
    lines = make_lines(count * EVENTS_PER_BATCH, 0)
    events = []
    for number, line in enumerate(lines):
        key = f"user_id:user-{number % 1_000}".encode()
        events.append(Event(zlib.crc32(key) % PARTITIONS, key, line))
    return [events[at : at + EVENTS_PER_BATCH] for at in range(0, len(events), EVENTS_PER_BATCH)]


@contextmanager
def _open_kafka() -> Iterator[str]:
    if GIVEN_SERVERS:
        yield GIVEN_SERVERS
        return
    broker = KafkaBroker(heap="1g", quick_start=False)
    try:
        broker.start()
        yield broker.servers
    finally:
        broker.close()
