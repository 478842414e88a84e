"""What a person agreed to. Pure.

Before anybody was joined, the newest statement of a purpose counts. When people were joined, the
newest statement of each counts and the most restrictive of these wins, so that nobody's refusal is
lost in a merge; a statement made after the join replaces them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from cdp.model import DEFAULT_CONSENT_AT


class Statement(NamedTuple):
    """What one message said of one purpose; ``node_id`` tells whose statement it was."""

    purpose: str
    granted: bool
    at: datetime
    message_id: str
    source_number: int
    node_id: int

    @property
    def stamp(self) -> tuple[datetime, str, int]:
        """What decides which is newer: event time, then message id, then source."""
        return self.at, self.message_id, self.source_number

    @property
    def is_default(self) -> bool:
        """Whether nobody said it: it stands in the settings of a source."""
        return self.at == DEFAULT_CONSENT_AT


def join_consents(
    statements: Iterable[Statement], joined_at: datetime | None, now: datetime
) -> dict[str, Statement]:
    """Return the statement that counts for each purpose, in order of purpose.

    ``joined_at`` is the event time of the newest link that joined two of the person's nodes, and
    ``None`` without one. Statements later than ``now`` do not count yet.
    """
    by_purpose: dict[str, list[Statement]] = {}
    for statement in statements:
        if statement.at <= now:
            by_purpose.setdefault(statement.purpose, []).append(statement)
    return {purpose: _choose(by_purpose[purpose], joined_at) for purpose in sorted(by_purpose)}


def _choose(statements: list[Statement], joined_at: datetime | None) -> Statement:
    # What a source takes for granted counts only while nobody has said anything.
    statements = [one for one in statements if not one.is_default] or statements
    newest = max(statements, key=lambda statement: statement.stamp)
    if joined_at is None or newest.at > joined_at:
        return newest
    of_each: dict[int, Statement] = {}
    for statement in statements:
        known = of_each.get(statement.node_id)
        if known is None or statement.stamp > known.stamp:
            of_each[statement.node_id] = statement
    refusals = [statement for statement in of_each.values() if not statement.granted]
    return max(refusals or of_each.values(), key=lambda statement: statement.stamp)
