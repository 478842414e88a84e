"""What a destination would be sent now, found out without sending or writing anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cdp.activation.deliveries_store import read_sent_between
from cdp.activation.destination import Destination, Stream
from cdp.activation.difference import list_changes, show_change
from cdp.activation.plan_deliveries import People
from cdp.storage.database import Driver

_CHUNK = 2000
_MOST_PEOPLE = 100_000
_EXAMPLES = 10


@dataclass(slots=True)
class Dry:
    """What would be sent of one set."""

    stream: Stream
    size: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)
    is_complete: bool = True
    """False: only the first people were looked at."""

    def show(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            self.stream.kind: self.stream.key,
            "rows": self.size,
            "changes": dict(sorted(self.changes.items())),
            "examples": self.examples,
            "complete": self.is_complete,
        }


def run_dry(
    connection: Driver, destination: Destination, people: People, now: datetime
) -> list[Dry]:
    """Return per set of ``destination`` what would be sent."""
    return [_look(connection, destination, stream, people, now) for stream in destination.streams]


def _look(
    connection: Driver, destination: Destination, stream: Stream, people: People, now: datetime
) -> Dry:
    found = Dry(stream)
    after = -1
    while True:
        rows = people.read_page(destination, stream, after, _CHUNK)
        until = rows[-1].profile_no if len(rows) == _CHUNK else None
        sent = read_sent_between(connection, destination.destination_id, stream.name, after, until)
        changes = list_changes(stream, rows, sent)
        found.size += len(rows)
        found.changes.update(change.change for change in changes)
        wanted = changes[: _EXAMPLES - len(found.examples)]
        found.examples += [show_change(change, None, now) for change in wanted]
        if until is None:
            return found
        if found.size >= _MOST_PEOPLE:
            found.is_complete = False
            return found
        after = until
