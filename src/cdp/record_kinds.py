"""Which records may be posted, and which of them are taken: the stages answer the door."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cdp.accounts.read_account import read_account
from cdp.ingest.records import RecordKind, Verdict
from cdp.orders.order_record import lacks_amount, read_order
from cdp.posted_record import Claim, Refusal

# When and where a record came decides nothing at the door.
_SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)
# Whoever sends events of the same people is in the same partition.
_FIRST_TYPES = ("user_id", "anonymous_id")


def list_record_kinds(currency: str) -> tuple[RecordKind, ...]:
    """Return the kinds of records; an order that names no currency is in ``currency``."""

    def judge_order(document: Any) -> Verdict:
        read = read_order(
            document,
            place="",
            received_at=_SOME_TIME,
            default_currency=currency,
        )
        if isinstance(read, Refusal):
            return _refuse(read, document, "order_id")
        return Verdict(read.report.order_id, _choose_partition(read.claims, read.report.order_id))

    return (
        RecordKind("orders", "order_id", judge_order, lacks_amount=lacks_amount),
        RecordKind("accounts", "account_id", _judge_account, has_list=True),
    )


def _judge_account(document: Any) -> Verdict:
    read = read_account(document, place="", received_at=_SOME_TIME)
    if isinstance(read, Refusal):
        return _refuse(read, document, "account_id")
    return Verdict(read.said.account_id, read.said.account_id)


def _refuse(refusal: Refusal, document: Any, id_name: str) -> Verdict:
    where = f" (at {refusal.field})" if refusal.field else ""
    name = _read_name(document, id_name)
    return Verdict(name, code=refusal.code, message=refusal.message + where)


def _read_name(document: Any, id_name: str) -> str | None:
    name = document.get(id_name) if isinstance(document, Mapping) else None
    return str(name)[:200] if isinstance(name, str | int) else None


def _choose_partition(claims: tuple[Claim, ...], order_id: str) -> str:
    for wanted in _FIRST_TYPES:
        for kind, value in claims:
            if kind == wanted:
                return str(value)
    return str(claims[0][1]) if claims else order_id
