"""From a posted record to what the worker works on, by kind: the other side of ``record_kinds``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cdp.accounts.read_account import read_account
from cdp.batch import Posted, PostedAccount, PostedOrder, PostedPrivacy
from cdp.ingest.claims import add_scopes
from cdp.model import Identifier, Source
from cdp.orders.order_record import read_order
from cdp.posted_record import Claim, Refusal, make_message_id, read_claims

_LAST_MICROSECOND = 999
Identify = Callable[[Sequence[tuple[str, object]]], tuple[Identifier, ...]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a record came."""

    source: Source
    received_at: datetime
    place: str
    """Tells its line from every other line that ever came."""
    ordinal: int = 0
    """Its place among the lines of its request."""

    def find_time(self, document: Any) -> datetime:
        """Return when ``document`` says what it says, unless it names a time itself.

        Of two records of one request without a time the later is the newer: by microseconds, which
        no time that is shown has.
        """
        if isinstance(document, Mapping) and document.get("updated_at") is not None:
            return self.received_at
        return self.received_at + timedelta(microseconds=min(self.ordinal, _LAST_MICROSECOND))


class RecordReader:
    """Reads posted records of every kind."""

    def __init__(self, identify: Identify, currency: str) -> None:
        """``currency`` is that of orders which name none."""
        self._identify = identify
        self._currency = currency
        self._readers: Mapping[str, Callable[[Any, Arrival], Posted | Refusal]] = {
            "orders": self._read_order,
            "accounts": self._read_account,
            "privacy": self._read_privacy,
        }

    def reads(self, kind: str) -> bool:
        """Whether lines of ``kind`` are posted records."""
        return kind in self._readers

    def read(self, kind: str, document: Any, arrival: Arrival) -> Posted | Refusal:
        """Read a record of ``kind``, or say why it is not taken."""
        return self._readers[kind](document, arrival)

    def _read_order(self, document: Any, arrival: Arrival) -> Posted | Refusal:
        read = read_order(
            document,
            place=arrival.place,
            received_at=arrival.find_time(document),
            default_currency=self._currency,
        )
        if isinstance(read, Refusal):
            return read
        return PostedOrder(
            arrival.source,
            read.report.message_id,
            arrival.received_at,
            self._identify(read_allowed(arrival.source, read.claims)),
            read.seen_at,
            read.report,
        )

    def _read_account(self, document: Any, arrival: Arrival) -> Posted | Refusal:
        read = read_account(document, place=arrival.place, received_at=arrival.find_time(document))
        if isinstance(read, Refusal):
            return read
        # Of a member who is named twice what is said last counts.
        members = {
            identifier: said
            for claim, said in read.members
            for identifier in self._identify(add_scopes([claim], arrival.source.settings))
        }
        return PostedAccount(
            arrival.source,
            read.said.message_id,
            arrival.received_at,
            read.said,
            tuple(members.items()),
        )

    def _read_privacy(self, document: Any, arrival: Arrival) -> Posted | Refusal:
        message_id = make_message_id("privacy", document, arrival.place)
        claims = read_claims(document.get("identifiers"))
        if isinstance(message_id, Refusal):
            return message_id
        if isinstance(claims, Refusal):
            return claims
        identifiers = self._identify(add_scopes(claims, arrival.source.settings))
        if not identifiers:
            return Refusal("missing_identifiers", "it names nobody", "identifiers")
        return PostedPrivacy(
            arrival.source,
            message_id,
            arrival.received_at,
            str(document["kind"]),
            str(document["reason"]),
            identifiers,
        )


def read_allowed(source: Source, claims: Sequence[Claim]) -> Sequence[Claim]:
    """Return the claims of the types that the source may bring, each with whose numbering it is."""
    allowed = source.settings.get("identifier_types")
    kept = claims if allowed is None else [claim for claim in claims if claim[0] in allowed]
    return add_scopes(kept, source.settings)
