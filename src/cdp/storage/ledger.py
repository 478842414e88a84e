"""The ledger of messages: each (source, message id) has its effect once.

    claim ─► ledger, a row each ─(see ``ledger_packing``)─► ledger_pages, 108 keys a row

A new key is looked for in the one page that would hold it, and entered as a row; the unique index
over the rows settles races between transactions. While a page is being made nobody claims.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

from psycopg import adapters
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

from cdp.model import Source
from cdp.storage.database import Driver

# Held to the end of the transaction, against the packer's. A statement of its own: the next one
# sees the pages as they are once the lock is had.
_LOCK = "LOCK TABLE ledger IN ROW EXCLUSIVE MODE"
# In order, so that two transactions with keys in common cannot wait for each other.
_CLAIM = """
INSERT INTO ledger (message_key)
SELECT i.message_key
  FROM unnest(%(keys)b) AS i (message_key)
 WHERE NOT EXISTS (SELECT FROM (SELECT p.keys FROM ledger_pages p
                                 WHERE p.first_key <= i.message_key
                                 ORDER BY p.first_key DESC LIMIT 1) AS page
                    WHERE i.message_key = ANY (page.keys))
 ORDER BY i.message_key
    ON CONFLICT DO NOTHING
RETURNING uuid_send(message_key)
"""


class Message(Protocol):
    """What has its effect once: an event, a posted record."""

    @property
    def source(self) -> Source: ...

    @property
    def message_id(self) -> str: ...


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


def _claim(connection: Driver, keys: Mapping[bytes, object]) -> set[bytes]:
    connection.execute(_LOCK)
    rows = connection.execute(_CLAIM, {"keys": Keys(keys)})
    return {key for (key,) in rows.fetchall()}


class Keys:
    """Keys of 16 bytes as a parameter: Postgres takes them as ``uuid[]``."""

    def __init__(self, keys: Collection[bytes]) -> None:
        self.keys = keys


class _KeysDumper(Dumper):
    """Making a ``UUID`` of each would take longer than all the rest."""

    format = Format.BINARY
    oid = adapters.types["uuid"].array_oid

    def dump(self, obj: Keys) -> Buffer:
        """Return the array in Postgres' binary format."""
        # Dimensions, has nulls, element type, length, lower bound; then length and value of each.
        head = struct.pack("!iiIii", 1, 0, adapters.types["uuid"].oid, len(obj.keys), 1)
        return head + b"".join(b"\0\0\0\x10" + key for key in obj.keys)


adapters.register_dumper(Keys, _KeysDumper)
