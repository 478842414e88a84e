"""What became of the messages of a batch, per source and minute of receipt. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from cdp.batch import Batch, Message
from cdp.model import RejectedEvent
from cdp.storage.outcomes_store import Outcome, OutcomeKey, minute_of


def tally_outcomes(
    batch: Batch,
    stored: Iterable[Message],
    duplicates: Iterable[Message],
    kept_before: Sequence[RejectedEvent] = (),
    suppressed: Sequence[RejectedEvent] = (),
) -> Counter[OutcomeKey]:
    """Count everything that arrived, whatever kind it is of.

    ``suppressed`` was read but is not to be heard.

    ``kept_before`` are those among the batch's refused ones that the log brought once before.
    """
    counts: Counter[OutcomeKey] = Counter()
    _add(counts, "received", batch.received)
    _add(counts, "rejected", batch.lost)
    _add(counts, "stored", _count_messages(stored))
    _add(counts, "duplicate", _count_messages(duplicates))
    for refused in (batch.rejected, suppressed):
        _add(counts, "rejected", Counter((r.source_id, r.received_at) for r in refused))
    for again in kept_before:
        minute = minute_of(again.received_at)
        counts[again.source_id, minute, "rejected"] -= 1
        counts[again.source_id, minute, "duplicate"] += 1
    return counts


def _add(
    counts: Counter[OutcomeKey], outcome: Outcome, numbers: Mapping[tuple[str, datetime], int]
) -> None:
    for (source_id, received_at), number in numbers.items():
        counts[source_id, minute_of(received_at), outcome] += number


def _count_messages(messages: Iterable[Message]) -> Counter[tuple[str, datetime]]:
    # Few different times in a batch: the events of a request share theirs.
    return Counter((one.source.source_id, one.received_at) for one in messages)
