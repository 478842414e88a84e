"""Who is to be deleted or exported, as shops ask for it. Rows wait until that is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

from cdp.model import Identifier
from cdp.storage.database import Driver

_QUEUE = """
INSERT INTO privacy_requests (request_id, kind, identifier_type, identifier_value, reason,
                              source_id, message_id, requested_at)
SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
                     %b::text[], %b::timestamptz[])
    ON CONFLICT DO NOTHING
"""


class PrivacyRequest(NamedTuple):
    """What one message asks for one identifier."""

    source_id: str
    message_id: str
    kind: str
    """``delete`` or ``export``."""
    reason: str
    requested_at: datetime
    identifier: Identifier

    @property
    def request_id(self) -> str:
        """An id that the same request has whenever it comes."""
        content = f"{self.source_id}\n{self.message_id}\n{self.identifier}"
        return f"prv_{blake2b(content.encode(), digest_size=12).hexdigest()}"


def queue_requests(connection: Driver, requests: Sequence[PrivacyRequest]) -> None:
    """Add requests; one that is there already stays as it is."""
    if not requests:
        return
    rows = sorted(
        (
            one.request_id,
            one.kind,
            one.identifier.type,
            one.identifier.value,
            one.reason,
            one.source_id,
            one.message_id,
            one.requested_at,
        )
        for one in requests
    )
    connection.execute(_QUEUE, [list(column) for column in zip(*rows, strict=True)])
