"""The rates of currencies in Postgres, for whoever adds up money or changes the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from cdp.rates import Rate, RateTable, find_day
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Driver


class RateChange(NamedTuple):
    """What is to be true of a pair from a date on; without a rate, that row goes."""

    currency: str
    to: str
    at: date
    rate: Decimal | None


_NEWEST = """
SELECT DISTINCT r.currency, r.to_currency, r.at, r.rate
  FROM unnest(%(currencies)s::text[], %(days)s::date[]) AS asked (currency, day)
 CROSS JOIN LATERAL (
       (SELECT * FROM rates r
         WHERE r.currency = asked.currency AND r.to_currency = %(to)s AND r.at <= asked.day
         ORDER BY r.at DESC LIMIT 1)
       UNION ALL
       (SELECT * FROM rates r
         WHERE r.currency = %(to)s AND r.to_currency = asked.currency AND r.at <= asked.day
         ORDER BY r.at DESC LIMIT 1)) r
"""
_PAGE = """
SELECT currency, to_currency, at, rate FROM rates
 WHERE (%(currency)s::text IS NULL OR currency = %(currency)s)
   AND (%(to)s::text IS NULL OR to_currency = %(to)s)
   AND (%(day)s::date IS NULL
        OR (at, currency, to_currency) < (%(day)s::date, %(past)s::text, %(past_to)s::text))
 ORDER BY at DESC, currency DESC, to_currency DESC LIMIT %(limit)s
"""
_WRITE = """
INSERT INTO rates AS r (currency, to_currency, at, rate)
SELECT * FROM unnest(%s::text[], %s::text[], %s::date[], %s::numeric[]) ORDER BY 1, 2, 3
    ON CONFLICT (currency, to_currency, at) DO UPDATE SET rate = excluded.rate
 WHERE r.rate <> excluded.rate
"""
_DELETE = """
DELETE FROM rates r USING unnest(%s::text[], %s::text[], %s::date[]) AS gone (currency, to_c, at)
 WHERE r.currency = gone.currency AND r.to_currency = gone.to_c AND r.at = gone.at
"""


def read_rates_for(
    connection: Driver, wanted: Iterable[tuple[str, datetime]], to: str
) -> RateTable:
    """Return the rates by which amounts of a currency and a time come to ``to``."""
    days = {(currency, find_day(at)) for currency, at in wanted if currency != to}
    if not days:
        return RateTable()
    rows = connection.execute(
        _NEWEST,
        {"currencies": [one for one, _ in days], "days": [day for _, day in days], "to": to},
    )
    return RateTable(Rate(*row) for row in rows)


def list_rates(
    connection: Driver,
    *,
    limit: int,
    currency: str | None = None,
    to: str | None = None,
    past: tuple[date, str, str] | None = None,
) -> list[Rate]:
    """Return rates, newest first, past the place ``past``."""
    day, past_currency, past_to = past or (None, None, None)
    rows = connection.execute(
        _PAGE,
        {
            "limit": limit, "currency": currency, "to": to,
            "day": day, "past": past_currency, "past_to": past_to,
        },
    )  # fmt: skip
    return [Rate(*row) for row in rows]


def write_rates(connection: Driver, changes: Sequence[RateChange]) -> int:
    """Bring the table to what ``changes`` say, each pair and date once; return how many rows that

    changed. Followers learn of it by ``tell_rates``.
    """
    kept = [one for one in changes if one.rate is not None]
    gone = [one for one in changes if one.rate is None]
    done = connection.execute(
        _WRITE,
        (
            [one.currency for one in kept],
            [one.to for one in kept],
            [one.at for one in kept],
            [one.rate for one in kept],
        ),
    ).rowcount
    done += connection.execute(
        _DELETE,
        ([one.currency for one in gone], [one.to for one in gone], [one.at for one in gone]),
    ).rowcount
    return done


def tell_rates(connection: Driver) -> None:
    """Tell followers that rates changed. Must be the transaction's last write."""
    close_batch(connection, open_batch(connection), BatchChanges(), rates=True)
