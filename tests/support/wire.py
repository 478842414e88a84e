"""Build what SDKs send, and put it into a log as ingest would."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from cdp.log.format import Kind, RequestLines, pack_record
from cdp.log.port import Log
from cdp.runtime.clock import format_time

RECEIVED_AT = datetime.now(UTC).replace(hour=0, minute=0, second=1, microsecond=0)


def track(
    name: str, message_id: str, *, at: datetime = RECEIVED_AT, **fields: Any
) -> dict[str, Any]:
    """A track call; ``fields`` such as ``userId`` and ``properties``, as SDKs name them."""
    return {
        "type": "track",
        "event": name,
        "messageId": message_id,
        "timestamp": format_time(at),
        **fields,
    }


def identify(message_id: str, *, at: datetime = RECEIVED_AT, **fields: Any) -> dict[str, Any]:
    """An identify call; ``fields`` such as ``userId`` and ``traits``, as SDKs name them."""
    return {"type": "identify", "messageId": message_id, "timestamp": format_time(at), **fields}


def choose_partition(event: dict[str, Any], partitions: int) -> int:
    """Where ingest would put the event."""
    key = str(event.get("userId") or event.get("anonymousId") or "")
    return crc32(key.encode()) % partitions


def append_events(
    log: Log,
    source_id: str,
    events: Iterable[dict[str, Any]],
    *,
    received_at: datetime = RECEIVED_AT,
    request_id: str = "req_test",
) -> None:
    """Append ``events`` as one request of ``source_id``, one record a partition; wait for it."""
    by_partition: dict[int, list[bytes]] = {}
    for event in events:
        line = json.dumps(event, ensure_ascii=False).encode()
        by_partition.setdefault(choose_partition(event, log.partitions), []).append(line)
    _append(log, source_id, by_partition, "events", received_at, request_id)


def append_orders(
    log: Log,
    source_id: str,
    orders: Iterable[dict[str, Any]],
    *,
    received_at: datetime = RECEIVED_AT,
    request_id: str = "req_test",
) -> None:
    """Append posted orders as one request of ``source_id``; wait for it."""
    by_partition = _share_out(log, orders, "order_id")
    _append(log, source_id, by_partition, "orders", received_at, request_id)


def append_accounts(
    log: Log,
    source_id: str,
    accounts: Iterable[dict[str, Any]],
    *,
    received_at: datetime = RECEIVED_AT,
    request_id: str = "req_test",
) -> None:
    """Append posted accounts as one request of ``source_id``; wait for it."""
    by_partition = _share_out(log, accounts, "account_id")
    _append(log, source_id, by_partition, "accounts", received_at, request_id)


def _share_out(
    log: Log, documents: Iterable[dict[str, Any]], id_name: str
) -> dict[int, list[bytes]]:
    by_partition: dict[int, list[bytes]] = {}
    for document in documents:
        partition = crc32(str(document.get(id_name)).encode()) % log.partitions
        line = json.dumps(document, ensure_ascii=False).encode()
        by_partition.setdefault(partition, []).append(line)
    return by_partition


def _append(
    log: Log,
    source_id: str,
    by_partition: dict[int, list[bytes]],
    kind: Kind,
    received_at: datetime,
    request_id: str,
) -> None:
    records = [
        pack_record(
            partition,
            None,
            source_id,
            [RequestLines(request_id, format_time(received_at), None, lines)],
            kind,
        )
        for partition, lines in sorted(by_partition.items())
    ]
    log.append(records).result(timeout=30)
