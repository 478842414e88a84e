"""Where a reader of a tag's changes stands, and whether it has missed any. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdp.errors import CursorExpired, Unprocessable
from cdp.runtime.cursors import decode_cursor


class TagPlace(NamedTuple):
    """What a cursor of changes holds."""

    key: str
    change_no: int
    """The newest change that was read."""
    dropped_until: int = 0
    """Up to where changes had been cut by then."""

    def go_on(self, found: Sequence[int], limit: int, newest: int, dropped_until: int) -> TagPlace:
        """Return the place behind the page ``found``.

        When it was not full, everything up to the change ``newest`` was seen: a tag that rests for
        a long time must not leave its readers behind.
        """
        reached = found[-1] if found else self.change_no
        if len(found) < limit:
            reached = max(reached, newest)
        return self._replace(change_no=reached, dropped_until=dropped_until)


def read_place(key: str, since: str | None, start: int, dropped_until: int) -> TagPlace:
    """Return where to go on; at the change ``start`` without a cursor.

    Who begins now is told what holds of all that was cut. Who had begun before would not hear of
    values that went between: raises ``CursorExpired``, ``Unprocessable`` for the cursor of another.
    """
    if since is None:
        return TagPlace(key, start, dropped_until)
    place = decode_cursor(since, TagPlace, "since")
    if place.key != key:
        raise Unprocessable("bad_cursor", f"this cursor does not belong to {key}", path="/since")
    if place.change_no < dropped_until and place.dropped_until != dropped_until:
        raise CursorExpired(
            "cursor_expired",
            "changes after this cursor are not kept any more; make your copy anew, without `since`",
        )
    return place
