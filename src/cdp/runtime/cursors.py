"""Opaque cursors: where a list goes on. Pure."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from cdp.errors import Unprocessable

T = TypeVar("T")


def encode_cursor(values: Sequence[Any]) -> str:
    """Return ``values`` (text, numbers, aware times) as URL-safe text."""
    return urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def decode_cursor(text: str, form: type[T], parameter: str = "cursor") -> T:
    """Read a cursor that holds a ``form``, such as ``tuple[datetime, str]``.

    ``parameter`` is where it came from. Raises ``Unprocessable`` for anything that
    ``encode_cursor`` did not make.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        return msgspec.json.decode(urlsafe_b64decode(padded.encode("ascii")), type=form)
    except (ValueError, msgspec.MsgspecError) as error:
        raise Unprocessable(
            "bad_cursor", "give the cursor exactly as `next` had it", path=f"/{parameter}"
        ) from error


def cut_page(
    found: Sequence[T], limit: int, find_place: Callable[[T], Sequence[Any]]
) -> tuple[Sequence[T], str | None]:
    """Return the first ``limit`` of ``found``, and the cursor behind them if there are more.

    Whoever reads a page asks for one more than ``limit``. ``find_place`` returns what a cursor
    holds of the last one on the page.
    """
    page = found[:limit]
    return page, encode_cursor(find_place(page[-1])) if len(found) > limit else None
