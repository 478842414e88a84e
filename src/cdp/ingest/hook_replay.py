"""A shop's delivery that was refused is read again, by today's mapping. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from cdp.ingest.hook_lines import remake_delivery
from cdp.ingest.hooks.presets import HOOKS
from cdp.ingest.lenient import encode
from cdp.ingest.rejected_store import RejectedRow
from cdp.ingest.replay_store import Posted, Refused
from cdp.model import Source
from cdp.runtime.clock import format_time


def read_delivery(source: Source, row: RejectedRow) -> Sequence[Posted] | Refused:
    """Return the lines that a kept delivery comes to now, or why it is still refused.

    What of it was taken the first time is a duplicate now.
    """
    preset = source.settings.get("preset")
    if not isinstance(preset, str) or preset not in HOOKS:
        message = "the source takes no hooks any more; give it the setting preset"
        return Refused(row.number, "hook_not_configured", message)
    delivery = remake_delivery(preset, row.raw, row.route_type, format_time(row.received_at))
    mapped = HOOKS[preset](delivery, source.settings)
    if mapped.refused:
        first = mapped.refused[0]
        return Refused(row.number, first.code, first.message)
    posted: list[Posted] = []
    if mapped.events:
        posted.append(Posted("events", [encode(one) for one in mapped.events]))
    if mapped.orders:
        posted.append(Posted("orders", [encode(one) for one in mapped.orders]))
    if not posted:
        return Refused(row.number, "cannot_be_replayed", "it asks for a deletion of nobody")
    return posted
