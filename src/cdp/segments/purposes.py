"""Which consents a pull asks for: purposes, or one channel of each. Pure."""

from __future__ import annotations

from cdp.errors import Unprocessable
from cdp.reach import CHANNELS, name_statement, split_name

_MOST_PURPOSES = 20


def list_purposes(asked: str | None, channel: str | None, own: str | None = None) -> list[str]:
    """Return the names of what must have been granted.

    ``asked`` are purposes with commas between, ``own`` is what a segment asks for by itself, and
    ``channel`` narrows each to a channel. Raises ``Unprocessable``.
    """
    purposes = [purpose for purpose in (asked or "").split(",") if purpose]
    if len(purposes) > _MOST_PURPOSES:
        raise Unprocessable("too_many_purposes", "ask for fewer purposes", path="/consent")
    if own is not None:
        purposes.append(own)
    if channel is not None:
        if channel not in CHANNELS:
            known = ", ".join(CHANNELS)
            raise Unprocessable("unknown_channel", f"a channel is one of {known}", path="/channel")
        if not purposes:
            raise Unprocessable(
                "missing_part", "a channel needs a purpose: consent=…", path="/channel"
            )
        purposes = [
            name if split_name(name)[1] else name_statement(name, channel) for name in purposes
        ]
    return list(dict.fromkeys(purposes))
