"""The log on Kafka: an idempotent producer with acks=all, a consumer by hand, an admin client.

kafka-python's producer is thread-safe and sends each partition's batches one after the other, so
the order of calls is the order in the log, also when a send had to be repeated.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, RetriableError

from cdp.errors import SetupError
from cdp.log.backlog import Append, Backlog
from cdp.log.kafka_read import Reader
from cdp.log.kafka_topic import (
    describe,
    ensure_topic,
    max_message_bytes,
    open_admin,
    read_options,
)
from cdp.log.port import LogUnavailable, NewRecord, Record
from cdp.settings import Settings

_BACKLOG_BYTES = 64 * 1024 * 1024
# The library gives up first and says why; the backlog's limit holds even when it hangs.
_REQUEST_TIMEOUT_MS = 5000
_DELIVERY_TIMEOUT_MS = 7500
_APPEND_TIMEOUT_SECONDS = 8.0
_ASK_SECONDS = 1.0
# Records that wait while their partition's last batch is on its way travel together.
_BATCH_BYTES = 1024 * 1024


class KafkaLog:
    """The log in one Kafka topic; see ``cdp.log.port.Log``."""

    def __init__(self, settings: Settings) -> None:
        """Connect and make the topic if missing; raise ``SetupError`` when that is impossible."""
        self._topic = settings.kafka_topic
        self._admin = open_admin(settings)
        # The client's calls block each other's caller; health checks come from several threads.
        self._admin_lock = threading.Lock()
        self._cluster, self._partitions = ensure_topic(self._admin, settings)
        options = read_options(settings)
        limit = max_message_bytes(settings)
        self._producer = _open_producer(options, limit)
        # Known before the first append, which must not wait for it.
        self._producer.partitions_for(self._topic)
        self._backlog = Backlog(max_bytes=_BACKLOG_BYTES, timeout_seconds=_APPEND_TIMEOUT_SECONDS)
        self._reader = Reader(self._topic, options, limit)

    @property
    def name(self) -> str:
        return f"kafka:{self._cluster}:{self._topic}"

    @property
    def partitions(self) -> int:
        return self._partitions

    def append(self, records: Sequence[NewRecord]) -> Future[list[int]]:
        for record in records:
            if not 0 <= record.partition < self._partitions:
                raise ValueError(f"there is no partition {record.partition}")
        append = self._backlog.admit(records)
        if not append.is_answered:
            self._send(append)
        return append.future

    def read(
        self, positions: Mapping[int, int], *, max_bytes: int, wait_seconds: float
    ) -> list[Record]:
        return self._reader.read(positions, max_bytes, wait_seconds)

    def end_positions(self) -> dict[int, int]:
        wanted = {
            TopicPartition(self._topic, p): OffsetSpec.LATEST for p in range(self._partitions)
        }
        found = self._ask(lambda: self._admin.list_partition_offsets(wanted, timeout_ms=2000))
        return {partition.partition: int(at.offset) for partition, at in found.items()}

    def drop_before(self, written_before: datetime, positions: Mapping[int, int]) -> int:
        """Leave retention to the broker."""
        return 0

    def check(self) -> None:
        self._ask(self._admin.describe_cluster)

    def close(self) -> None:
        self._backlog.close(_APPEND_TIMEOUT_SECONDS)
        self._producer.close(timeout=1)
        self._reader.close()
        self._admin.close()

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Ask through the admin client, which notices only by failing that a broker was away."""
        give_up_at = time.monotonic() + _ASK_SECONDS
        with self._admin_lock:
            while True:
                try:
                    return question()
                except (KafkaError, OSError) as error:
                    if not isinstance(error, RetriableError) or time.monotonic() > give_up_at:
                        raise LogUnavailable(describe(error)) from error
                time.sleep(0.05)

    def _send(self, append: Append) -> None:
        pending = _Pending(self._backlog, append)
        for index, record in enumerate(append.records):
            try:
                sent = self._producer.send(
                    self._topic,
                    value=record.value,
                    key=record.key,
                    headers=[(name, text.encode()) for name, text in record.headers.items()],
                    partition=record.partition,
                )
            except (KafkaError, ValueError) as error:
                pending.fail(error)
                return
            sent.add_callback(pending.done, index)
            sent.add_errback(pending.fail)


class _Pending:
    """Counts the acknowledgements of one append; they arrive on the producer's thread."""

    def __init__(self, backlog: Backlog, append: Append) -> None:
        self._backlog = backlog
        self._append = append
        self._offsets = [-1] * len(append.records)
        self._missing = len(append.records)
        self._lock = threading.Lock()

    def done(self, index: int, sent: Any) -> None:
        with self._lock:
            self._offsets[index] = sent.offset
            self._missing -= 1
            is_complete = self._missing == 0
        if is_complete:
            self._backlog.settle(self._append, self._offsets)

    def fail(self, error: BaseException) -> None:
        # What is not worth a repetition, such as a record that is too large, is this append's
        # own trouble.
        is_away = isinstance(error, RetriableError)
        self._backlog.fail(self._append, describe(error), is_away=is_away)


def _open_producer(options: Mapping[str, Any], max_bytes: int) -> KafkaProducer:
    try:
        return KafkaProducer(
            **options,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            batch_size=_BATCH_BYTES,
            max_request_size=max_bytes,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            delivery_timeout_ms=_DELIVERY_TIMEOUT_MS,
            max_block_ms=2000,
            metrics_enabled=False,
        )
    except KafkaError as error:
        raise SetupError(f"Kafka refuses a producer ({describe(error)})") from error
