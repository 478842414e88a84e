"""What a person agreed to, purpose by purpose and channel by channel. Pure.

Which statement counts is decided in ``cdp.reach``, for everybody who asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cdp.reach import Statement as Statement
from cdp.reach import decide_consent


def join_consents(
    statements: Iterable[Statement], joined_at: datetime | None, now: datetime
) -> dict[str, Statement]:
    """Return the statement that counts for each purpose and channel spoken of, by name in order.

    A channel's name is ``marketing.email``; the statement that counts for it may be the purpose's.
    ``joined_at`` is the event time of the newest link that made one of two people who had both
    been seen before, and ``None`` without one. Statements later than ``now`` do not count yet.
    """
    heard = [one for one in statements if one.at <= now]
    joined = {}
    for name in sorted({one.purpose for one in heard}):
        counted = decide_consent(heard, joined_at, name, now)
        if counted is not None:
            joined[name] = counted
    return joined


def list_consent_history(statements: Iterable[Statement], at: datetime) -> list[Statement]:
    """Return every statement until ``at`` once, the newest first.

    The same statement may come from the register, the kept changes and the timeline; the copy with
    evidence stays.
    """
    once: dict[tuple[object, ...], Statement] = {}
    for one in statements:
        if one.at > at:
            continue
        key = (one.purpose, one.stamp, one.node_id)
        if key not in once or once[key].evidence is None:
            once[key] = one
    return sorted(once.values(), key=lambda one: (one.stamp, one.purpose), reverse=True)
