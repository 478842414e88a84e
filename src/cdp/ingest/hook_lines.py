"""From a shop's delivery to judged lines, by kind of record. Pure.

    delivery ─► map, by the source's preset ─► judge, each document by itself ─► lines, refusals

What is refused is kept as the shop sent it, of kind ``hooks``, so that it can be read again when
the mapping has become better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from cdp.ingest.hooks.delivery import ELEMENT, Delivery, HookRefusal, Mapped
from cdp.ingest.hooks.presets import HOOKS, TOPIC_HEADERS
from cdp.ingest.lenient import encode
from cdp.ingest.parse import Judged, Rejection
from cdp.log.format import Kind, join_lines
from cdp.model import Source

JudgeLines = Callable[[Source, Kind, Sequence[bytes]], Judged]
"""The door's verdict on lines of one kind."""

_ELEMENT_TOPIC = "element"


class JudgedDelivery(NamedTuple):
    """What a delivery comes to."""

    kinds: dict[Kind, Judged]
    """What is taken, by kind of record."""
    refused: Judged
    """What is not, with the topic as the type of its route."""

    @property
    def accepted(self) -> int:
        """How many events, orders and requests for deletion are taken."""
        return sum(judged.accepted for judged in self.kinds.values())


def judge_delivery(
    source: Source, delivery: Delivery, judge_lines: JudgeLines, partitions: int
) -> JudgedDelivery:
    """Judge what the shop of ``source`` sent. Its settings name a preset."""
    preset = str(source.settings.get("preset"))
    mapped = HOOKS[preset](delivery, source.settings)
    topic = delivery.header(TOPIC_HEADERS[preset]) or None
    refused = list(mapped.refused)
    kinds: dict[Kind, Judged] = {}
    documents: tuple[tuple[Kind, list[dict[str, Any]]], ...] = (
        ("events", mapped.events),
        ("orders", mapped.orders),
    )
    for kind, found in documents:
        if found:
            judged = judge_lines(source, kind, [encode(one) for one in found])
            refused += [_keep_original(one, found, mapped, delivery) for one in judged.rejected]
            judged.rejected = []
            kinds[kind] = judged
    if mapped.privacy:
        kinds["privacy"] = _judge_privacy(mapped, refused, delivery, partitions)
    return JudgedDelivery(kinds, _write_refused(refused, delivery, topic))


def _keep_original(
    one: Rejection, found: Sequence[dict[str, Any]], mapped: Mapped, delivery: Delivery
) -> HookRefusal:
    raw, index = mapped.elements.get(id(found[one.index]), (delivery.body, 0))
    return HookRefusal(one.code, one.message, raw, one.message_id, index)


def _judge_privacy(
    mapped: Mapped, refused: list[HookRefusal], delivery: Delivery, partitions: int
) -> Judged:
    judged = Judged()
    lines: dict[int, list[bytes]] = {}
    for request in mapped.privacy:
        if not request["identifiers"]:
            message = "it names nobody who could be deleted"
            refused.append(HookRefusal("missing_identifiers", message, delivery.body))
            continue
        partition = crc32(request["identifiers"][0]["value"].encode()) % partitions
        lines.setdefault(partition, []).append(encode(request))
        judged.accepted += 1
    judged.joined = {partition: join_lines(some) for partition, some in lines.items()}
    return judged


def _write_refused(refused: Sequence[HookRefusal], delivery: Delivery, topic: str | None) -> Judged:
    judged = Judged(route_type=topic)
    for one in refused:
        judged.rejected.append(Rejection(one.index, one.name, one.code, one.message, one.raw))
        if one.raw is not delivery.body:
            judged.route_type = _ELEMENT_TOPIC
    return judged


def remake_delivery(preset: str, raw: bytes, topic: str | None, received_at: str) -> Delivery:
    """Return the delivery that was refused, from what was kept of it."""
    headers = {TOPIC_HEADERS[preset]: topic} if topic else {}
    if preset == "custom" and topic == _ELEMENT_TOPIC:
        headers = {ELEMENT: topic}
    return Delivery(headers, raw, received_at)
