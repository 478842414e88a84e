"""A time in the query of a request. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import overload

from cdp.errors import Unprocessable
from cdp.runtime.clock import parse_time


@overload
def read_query_time(name: str, text: str) -> datetime: ...
@overload
def read_query_time(name: str, text: None) -> None: ...
@overload
def read_query_time(name: str, text: str | None) -> datetime | None: ...
def read_query_time(name: str, text: str | None) -> datetime | None:
    """Read the parameter ``name``, in UTC when it names no offset; ``None`` when it is not given.

    Raises ``Unprocessable`` at ``/name`` for what is no time.
    """
    if text is None:
        return None
    # A plus sign that was not percent-encoded arrives as a space.
    moment = parse_time(text.replace(" ", "+")) or parse_time(text)
    if moment is None:
        raise Unprocessable(
            "invalid_parameter", f"{name}: write a time as 2026-03-01T08:00:00Z", path=f"/{name}"
        )
    return moment
