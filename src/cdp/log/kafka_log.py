"""The log in a Kafka topic: a producer, a consumer that is told where to read, an admin client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, RetriableError

from cdp.errors import SetupError
from cdp.log.backlog import Backlog
from cdp.log.kafka_append import APPEND_TIMEOUT_SECONDS, Appender
from cdp.log.kafka_read import Reader
from cdp.log.kafka_topic import (
    describe,
    ensure_topic,
    open_admin,
    read_message_limit,
    read_options,
    read_retention_ms,
)
from cdp.log.port import LogUnavailable, NewRecord, Record
from cdp.settings import Settings

_BACKLOG_BYTES = 64 * 1024 * 1024
_ASK_SECONDS = 1.0


class KafkaLog:
    """The log in one Kafka topic; see ``cdp.log.port.Log``."""

    def __init__(self, settings: Settings) -> None:
        """Connect and make the topic if missing; raise ``SetupError`` when that is impossible."""
        self._topic = settings.kafka_topic
        self._admin = open_admin(settings)
        # Health checks come from several threads.
        self._admin_lock = threading.Lock()
        self._cluster, self._partitions = ensure_topic(self._admin, settings)
        limit = read_message_limit(self._admin, settings)
        options = read_options(settings)
        self._backlog = Backlog(
            max_bytes=_BACKLOG_BYTES,
            timeout_seconds=APPEND_TIMEOUT_SECONDS,
            on_silence=lambda: self._appender.replace(),
        )
        try:
            self._appender = Appender(self._topic, options, limit, self._backlog)
        except KafkaError as error:
            raise SetupError(f"Kafka refuses a producer ({describe(error)})") from error
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
            self._appender.send(append)
        return append.future

    def read(
        self, positions: Mapping[int, int], *, max_bytes: int, wait_seconds: float
    ) -> list[Record]:
        return self._reader.read(positions, max_bytes, wait_seconds)

    def end_positions(self) -> dict[int, int]:
        partitions = [TopicPartition(self._topic, p) for p in range(self._partitions)]
        wanted = dict.fromkeys(partitions, OffsetSpec.LATEST)
        found = self._ask(lambda: self._admin.list_partition_offsets(wanted, timeout_ms=2000))
        return {partition.partition: int(at.offset) for partition, at in found.items()}

    def drop_before(self, written_before: datetime, positions: Mapping[int, int]) -> int:
        """Leave retention to the broker."""
        return 0

    def describe_retention(self) -> dict[str, Any]:
        """Say when a record that cannot be changed is gone, for receipts of deletions."""
        with self._admin_lock:
            kept = read_retention_ms(self._admin, self._topic)
        state = "kafka: gone after the topic's own retention"
        if kept is not None and kept < 0:
            state = "kafka: the topic keeps records for ever; set its retention.ms"
        hours = None if kept is None or kept < 0 else round(kept / 3_600_000, 2)
        return {"state": state, "retention_hours": hours}

    def check(self) -> None:
        self._ask(self._admin.describe_cluster)

    def close(self) -> None:
        self._backlog.close(APPEND_TIMEOUT_SECONDS)
        self._appender.close()
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
