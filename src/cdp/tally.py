"""What became of the messages of a batch, per source and minute of receipt. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cdp.batch import Message
from cdp.model import RejectedEvent
from cdp.storage.outcomes_store import Outcome, OutcomeKey, minute_of


def tally_outcomes(
    stored: Iterable[Message], duplicates: Iterable[Message], rejected: Iterable[RejectedEvent]
) -> Counter[OutcomeKey]:
    """Count everything that arrived, whatever kind it is of."""
    counts: Counter[OutcomeKey] = Counter()
    _count_messages(counts, "stored", stored)
    _count_messages(counts, "duplicate", duplicates)
    for refused in rejected:
        counts[refused.source_id, minute_of(refused.received_at), "rejected"] += 1
    return counts


def _count_messages(
    counts: Counter[OutcomeKey], outcome: Outcome, messages: Iterable[Message]
) -> None:
    # Few different times in a batch: the events of a request share theirs.
    received = Counter((one.source.source_id, one.received_at) for one in messages)
    for (source_id, received_at), number in received.items():
        counts[source_id, minute_of(received_at), outcome] += number
