"""The appending side of the Kafka log: an idempotent producer with acks=all.

kafka-python's producer is thread-safe and sends each partition's batches one after the other, so
the order of calls is the order in the log, also when a send had to be repeated.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, RetriableError

from cdp.log.backlog import Append, Backlog
from cdp.log.kafka_topic import describe
from cdp.log.port import NewRecord
from cdp.runtime.logs import get_logger

# The library gives up first and says why; the backlog's limit holds even when it hangs.
APPEND_TIMEOUT_SECONDS = 8.0
_REQUEST_TIMEOUT_MS = 5000
_DELIVERY_TIMEOUT_MS = 7500
# Records that wait while their partition's last batch is on its way travel together.
_BATCH_BYTES = 1024 * 1024
_REPLACE_EVERY_SECONDS = 1.0
_CLOSE_SECONDS = 0.5

_log = get_logger(__name__)


class Appender:
    """Sends appends and answers them through the backlog. Thread-safe."""

    def __init__(
        self, topic: str, options: Mapping[str, Any], max_bytes: int, backlog: Backlog
    ) -> None:
        """Connect; raises ``KafkaError``. ``max_bytes`` is what a record may have."""
        self._topic = topic
        self._options = options
        self._max_bytes = max_bytes
        self._backlog = backlog
        self._lock = threading.Lock()
        self._is_replacing = False
        self._closed = threading.Event()
        self._producer = self._open()

    def send(self, append: Append) -> None:
        """Hand the records over; the append is answered later, on another thread."""
        producer = self._producer
        pending = _Pending(self, producer, append)
        for index, record in enumerate(append.records):
            try:
                sent = self._send_one(producer, record)
            except (KafkaError, ValueError) as error:
                # Nothing reached the broker: the producer is as good as before.
                self.fail(append, error)
                return
            sent.add_callback(pending.done, index)
            sent.add_errback(pending.fail)

    def _send_one(self, producer: KafkaProducer, record: NewRecord) -> Any:
        return producer.send(
            self._topic,
            value=record.value,
            key=record.key,
            headers=[(name, text.encode()) for name, text in record.headers.items()],
            partition=record.partition,
        )

    def settle(self, append: Append, offsets: list[int]) -> None:
        """Answer that the broker has acknowledged every record."""
        self._backlog.settle(append, offsets)

    def fail(self, append: Append, error: BaseException) -> None:
        """Answer that a record was refused or not acknowledged in time."""
        # What is not worth a repetition is this append's own trouble.
        is_away = isinstance(error, RetriableError)
        self._backlog.fail(append, describe(error), is_away=is_away)

    def replace(self, spoiled: KafkaProducer | None = None) -> None:
        """Open a new producer in the background, as soon as a broker answers.

        Called after every append that failed, because kafka-python's idempotent producer does not
        always survive that: one refused record makes it refuse all later ones for ever, and after
        a broker that hung it may wait for a producer id for ever.
        """
        with self._lock:
            if self._is_replacing or (spoiled or self._producer) is not self._producer:
                return
            self._is_replacing = True
        threading.Thread(target=self._replace, name="log-replace", daemon=True).start()

    def _replace(self) -> None:
        while not self._closed.is_set():
            try:
                fresh = self._open()
            except KafkaError as error:
                _log.info("log_producer_not_replaced", reason=describe(error))
                self._closed.wait(_REPLACE_EVERY_SECONDS)
                continue
            with self._lock:
                spoiled, self._producer = self._producer, fresh
                self._is_replacing = False
            _close(spoiled)
            if self._closed.is_set():
                _close(fresh)
            return

    def close(self) -> None:
        """Let go of the connection; what is still under way has failed before."""
        self._closed.set()
        _close(self._producer)

    def _open(self) -> KafkaProducer:
        producer = KafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            batch_size=_BATCH_BYTES,
            max_request_size=self._max_bytes,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            delivery_timeout_ms=_DELIVERY_TIMEOUT_MS,
            max_block_ms=2000,
            metrics_enabled=False,
        )
        # Known before the first append, which must not wait for it.
        producer.partitions_for(self._topic)
        return producer


def _close(producer: KafkaProducer) -> None:
    # It raises, and stays open, when something could not be sent: its caller knows already.
    with suppress(KafkaError):
        producer.close(timeout=_CLOSE_SECONDS)
    sender = producer._sender
    if sender.is_alive():
        sender.force_close()


class _Pending:
    """Counts the acknowledgements of one append; they arrive on the producer's thread."""

    def __init__(self, appender: Appender, producer: KafkaProducer, append: Append) -> None:
        self._appender = appender
        self._producer = producer
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
            self._appender.settle(self._append, self._offsets)

    def fail(self, error: BaseException) -> None:
        self._appender.replace(self._producer)
        self._appender.fail(self._append, error)
