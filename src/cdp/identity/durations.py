"""Lengths of time as the rules write them. Pure."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {"m": 1, "h": 60, "d": 24 * 60}
_MINUTES = re.compile(r"^(\d{1,5})(m|h|d)$")
_LONGEST = timedelta(days=7)


def _read_minutes(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = _MINUTES.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a number and a unit: 30m, 2h, 1d")
    span = timedelta(minutes=int(match[1]) * _UNITS[match[2]])
    if not timedelta(minutes=1) <= span <= _LONGEST:
        raise ValueError("write something between 1m and 7d")
    return span


Minutes = Annotated[
    timedelta,
    BeforeValidator(_read_minutes),
    PlainSerializer(lambda span: f"{span // timedelta(minutes=1)}m", return_type=str),
]
"""A length of whole minutes, from one to a week: ``30m``, ``2h``, ``1d``; written in minutes."""
