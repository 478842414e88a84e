"""The reading side of the Kafka log: partitions and positions come from Postgres, not from a
consumer group, because a position must commit together with its effects."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from cdp.log.kafka_topic import describe
from cdp.log.port import LogUnavailable, Record
from cdp.runtime.logs import get_logger

# Small, so that little more than the asked bytes is decoded at a time.
_RECORDS_PER_POLL = 64
_PROOF_EVERY_SECONDS = 5.0
_PROOF_TIMEOUT_MS = 3000

_log = get_logger(__name__)


class Reader:
    """One consumer with manual assignment. To be used from one thread at a time."""

    def __init__(self, topic: str, options: Mapping[str, Any], max_message_bytes: int) -> None:
        self._topic = topic
        self._options = options
        self._max_message_bytes = max_message_bytes
        self._consumer: KafkaConsumer | None = None
        # Per partition: the position that a caller who took everything will ask for next, and
        # what was decoded beyond the bytes asked for.
        self._next: dict[int, int] = {}
        self._ahead: dict[int, deque[Record]] = {}
        self._proved_at = 0.0

    def read(
        self, positions: Mapping[int, int], max_bytes: int, wait_seconds: float
    ) -> list[Record]:
        """See ``cdp.log.port.Log.read``."""
        if not positions:
            time.sleep(wait_seconds)
            return []
        try:
            consumer = self._open()
            self._seek(consumer, positions)
            records = self._collect(consumer, max_bytes, time.monotonic() + wait_seconds)
            if not records:
                self._prove_life(consumer, next(iter(positions)))
        except KafkaError as error:
            raise LogUnavailable(describe(error)) from error
        return records

    def close(self) -> None:
        """Let go of the connection."""
        if self._consumer is not None:
            with suppress(KafkaError):
                self._consumer.close(autocommit=False, timeout_ms=1000)
        self._consumer = None

    def _open(self) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = KafkaConsumer(
                **self._options,
                group_id=None,
                enable_auto_commit=False,
                # What is below the oldest kept record starts there.
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=1024 * 1024,
                fetch_max_bytes=8 * 1024 * 1024,
                receive_message_max_bytes=8 * 1024 * 1024 + 2 * self._max_message_bytes,
                request_timeout_ms=10_000,
                metrics_enabled=False,
            )
            self._next = {}
        return self._consumer

    def _seek(self, consumer: KafkaConsumer, positions: Mapping[int, int]) -> None:
        if positions.keys() != self._next.keys():
            consumer.assign([TopicPartition(self._topic, p) for p in sorted(positions)])
            self._next, self._ahead = {}, {}
        for partition, position in positions.items():
            if self._next.get(partition) != position:
                consumer.seek(TopicPartition(self._topic, partition), position)
                self._next[partition] = position
                self._ahead.pop(partition, None)

    def _collect(self, consumer: KafkaConsumer, max_bytes: int, deadline: float) -> list[Record]:
        records: list[Record] = []
        room = self._take(records, max_bytes)
        while room > 0:
            wait = 0.0 if records else max(0.0, deadline - time.monotonic())
            polled = consumer.poll(timeout_ms=wait * 1000, max_records=_RECORDS_PER_POLL)
            if not polled:
                break
            self._proved_at = time.monotonic()
            for topic_partition, found in polled.items():
                ahead = self._ahead.setdefault(topic_partition.partition, deque())
                ahead.extend(map(_to_record, found))
            room = self._take(records, room)
        return records

    def _take(self, records: list[Record], room: int) -> int:
        """Move from what lies ahead to ``records`` until ``room`` bytes are used; return the rest.

        The first record of all is taken whatever its size.
        """
        for partition, ahead in self._ahead.items():
            while ahead and room > 0 and (len(ahead[0].value) <= room or not records):
                record = ahead.popleft()
                if record.offset < self._next[partition]:
                    _log.warning(
                        "log_went_back",
                        partition=partition,
                        asked=self._next[partition],
                        found=record.offset,
                    )
                self._next[partition] = record.offset + 1
                records.append(record)
                room -= max(1, len(record.value))
            if ahead:
                return 0
        return room

    def _prove_life(self, consumer: KafkaConsumer, partition: int) -> None:
        """An empty answer looks the same from an idle broker and from a dead one: ask."""
        if time.monotonic() - self._proved_at > _PROOF_EVERY_SECONDS:
            consumer.end_offsets(
                [TopicPartition(self._topic, partition)], timeout_ms=_PROOF_TIMEOUT_MS
            )
            self._proved_at = time.monotonic()


def _to_record(found: Any) -> Record:
    return Record(
        partition=found.partition,
        offset=found.offset,
        written_at=datetime.fromtimestamp(max(found.timestamp, 0) / 1000, UTC),
        headers={
            name: (value or b"").decode("utf-8", errors="replace") for name, value in found.headers
        },
        value=found.value or b"",
    )
