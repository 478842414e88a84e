"""When a delivery that failed is tried again, and when the destination is given up. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

GIVE_UP_AFTER = timedelta(hours=24)
_LONGEST_ASKED = timedelta(hours=1)
# The schedule that Standard Webhooks gives as an example, drawn out to a day.
_PAUSES = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=2),
    timedelta(hours=4),
)
_JITTER = 0.2
GONE = 410


class Attempt(NamedTuple):
    """What came of sending a delivery once."""

    is_delivered: bool
    status: int | None = None
    """Of HTTP, when there was an answer."""
    error: str | None = None
    """What went wrong, in one line without personal values."""
    retry_after: timedelta | None = None
    """As the receiver asked."""


class Verdict(NamedTuple):
    """What to do after an attempt that failed."""

    kind: Literal["again", "pause"]
    at: datetime
    """When to try again; for ``pause`` the moment of the pause."""
    reason: str | None = None


def decide(
    attempt: Attempt, attempts: int, first_at: datetime, now: datetime, chance: float
) -> Verdict:
    """Say what follows from a failed ``attempt``, the ``attempts``-th since ``first_at``.

    ``chance`` in [0, 1) spreads retries, so that a receiver that comes back is not run over.
    """
    reason = attempt.error or f"the receiver answered {attempt.status}"
    if attempt.status == GONE:
        return Verdict("pause", now, "the receiver answered 410: it wants no more")
    if now - first_at >= GIVE_UP_AFTER:
        return Verdict("pause", now, f"nothing was delivered for 24 hours: {reason}")
    pause = _PAUSES[min(attempts, len(_PAUSES)) - 1]
    pause *= 1 + _JITTER * (2 * chance - 1)
    if attempt.retry_after is not None:
        pause = max(pause, min(attempt.retry_after, _LONGEST_ASKED))
    # The last try falls on the end of the day, not after it.
    return Verdict("again", min(now + pause, first_at + GIVE_UP_AFTER), reason)
