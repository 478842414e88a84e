"""Read posted rates of currencies, or say at which one is wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from cdp.errors import Unprocessable
from cdp.money import minor_digits
from cdp.rates import MOST_DIGITS, read_rate
from cdp.storage.rates_store import RateChange

MOST_ROWS = 10_000
"""In one request."""
_COLUMNS = ("currency", "to", "at", "rate")


def read_rows(body: Any) -> list[RateChange]:
    """Return what a posted ``{"rates": [{"currency", "to", "at", "rate"}, …]}`` says; of one pair

    and date the last row counts. Raises ``Unprocessable`` with the place of the first mistake.
    """
    rows = body.get("rates") if isinstance(body, Mapping) else None
    if not isinstance(rows, list):
        raise Unprocessable("invalid_rates", "`rates` is a list of rows", path="/rates")
    if len(rows) > MOST_ROWS:
        message = f"up to {MOST_ROWS} rates at once; send the others in another request"
        raise Unprocessable("too_many_rates", message, path="/rates")
    found = [_read_row(row, f"/rates/{number}") for number, row in enumerate(rows)]
    return list({(one.currency, one.to, one.at): one for one in found}.values())


def _read_row(row: Any, path: str) -> RateChange:
    if not isinstance(row, Mapping):
        raise Unprocessable("invalid_rates", "a rate is an object", path=path)
    for name in row:
        if name not in _COLUMNS:
            message = f"a rate has {', '.join(_COLUMNS)}; {name!r} is none of them"
            raise Unprocessable("unknown_key", message, path=f"{path}/{name}")
    currency = read_currency(row.get("currency"), f"{path}/currency")
    to = read_currency(row.get("to"), f"{path}/to")
    if to == currency:
        message = "a rate leads from one currency into another"
        raise Unprocessable("invalid_rates", message, path=f"{path}/to")
    return RateChange(currency, to, _read_day(row, path), _read_rate(row, path))


def read_currency(value: Any, path: str) -> str:
    """Return a currency's code in capitals; raise ``Unprocessable`` for what is none."""
    code = value.strip().upper() if isinstance(value, str) else ""
    if minor_digits(code) is None:
        raise Unprocessable("unknown_currency", f"{value!r} is no ISO 4217 currency", path=path)
    return code


def _read_day(row: Mapping[str, Any], path: str) -> date:
    value = row.get("at")
    try:
        # Only as ISO writes it with hyphens: 20260301 may be anything.
        if isinstance(value, str) and len(value) == len("2026-03-01"):
            return date.fromisoformat(value)
    except ValueError:
        pass
    message = "`at` is the date from which the rate holds, such as 2026-03-01"
    raise Unprocessable("invalid_date", message, path=f"{path}/at")


def _read_rate(row: Mapping[str, Any], path: str) -> Any:
    value = row.get("rate")
    if value is None and "rate" in row:
        return None
    rate = read_rate(value)
    if rate is None:
        message = (
            f"`rate` is a positive decimal below 10^9 of up to {MOST_DIGITS} digits; "
            "null removes the row"
        )
        raise Unprocessable("invalid_rate", message, path=f"{path}/rate")
    return rate
