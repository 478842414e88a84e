"""The ledger of messages: each (source, message id) has its effect once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from hashlib import blake2b
from typing import Protocol, TypeVar

from cdp.model import Source
from cdp.storage.database import Driver
from cdp.storage.partitions import week_of

# Another kept week may know the message already: resends arrive days later. The insert itself
# settles races within a week, since the second of two transactions waits for the first. The bounds
# are those of the partitions, so that this week's own is not looked at.
_CLAIM = """
INSERT INTO ledger (week, message_key)
SELECT %(week)b::date, i.message_key
  FROM unnest(%(keys)b::bytea[]) AS i (message_key)
 WHERE NOT EXISTS (SELECT 1 FROM ledger l
                    WHERE l.message_key = i.message_key
                      AND (l.week < %(week)b::date OR l.week >= %(week)b::date + 7))
 ORDER BY i.message_key
    ON CONFLICT DO NOTHING
RETURNING message_key
"""


class Message(Protocol):
    """What has its effect once: an event, a posted record."""

    @property
    def source(self) -> Source: ...

    @property
    def message_id(self) -> str: ...

    @property
    def received_at(self) -> datetime: ...


OneMessage = TypeVar("OneMessage", bound=Message)


def key_message(source_id: str, message_id: str) -> bytes:
    """Return the 16 bytes under which a message of a source is known."""
    return blake2b(f"{source_id}\n{message_id}".encode(), digest_size=16).digest()


def claim_messages(
    connection: Driver, messages: Sequence[OneMessage]
) -> tuple[list[OneMessage], list[OneMessage]]:
    """Enter ``messages`` into the ledger; return those never seen before, and the duplicates.

    Of two equal messages in ``messages`` the first counts. The claim holds when the caller's
    transaction commits.
    """
    first: dict[bytes, OneMessage] = {}
    duplicates: list[OneMessage] = []
    for message in messages:
        key = key_message(message.source.source_id, message.message_id)
        if key in first:
            duplicates.append(message)
        else:
            first[key] = message
    if not first:
        return [], duplicates
    claimed = _claim(connection, first)
    if len(claimed) == len(first):
        return list(first.values()), duplicates
    duplicates.extend(message for key, message in first.items() if key not in claimed)
    return [message for key, message in first.items() if key in claimed], duplicates


def _claim(connection: Driver, messages: Mapping[bytes, Message]) -> set[bytes]:
    days: dict[date, list[bytes]] = {}
    for key, message in messages.items():
        days.setdefault(message.received_at.date(), []).append(key)
    claimed: set[bytes] = set()
    for day, keys in sorted(days.items()):
        rows = connection.execute(_CLAIM, {"week": week_of(day), "keys": keys})
        claimed.update(key for (key,) in rows.fetchall())
    return claimed
