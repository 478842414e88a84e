"""What the routes of segments and tags are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Query

from cdp.access.guard import require
from cdp.access.scopes import Caller
from cdp.model import Identifier
from cdp.runtime.clock import format_time, now
from cdp.segments.parse import NormaliseIdentifier, parse_rule
from cdp.segments.person_engine import Reader
from cdp.segments.refresh import Refresher
from cdp.segments.rules import Rule
from cdp.segments.seen_types_engine import read_seen_types
from cdp.segments.sql_tags import TagQueries
from cdp.segments.warnings import find_looks, find_mismatches
from cdp.storage.database import Database

SegmentReader = Annotated[Caller, Depends(require("segments:read"))]
SegmentWriter = Annotated[Caller, Depends(require("segments:write"))]
TagWriter = Annotated[Caller, Depends(require("tags:write"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
PulledFields = Annotated[str | None, Query(description="email,traits.city,tags.rfm.group")]
Purposes = Annotated[
    str | None, Query(description="Only who granted these purposes, comma-separated.")
]
Channel = Annotated[
    str | None, Query(description="The channel that they may be reached by: email, sms…")
]

EVALUATION_PATIENCE = 10.0
"""How long a request waits, in seconds, for its definition to be evaluated."""


class FoundPerson(NamedTuple):
    """Whom an identifier leads to now."""

    profile_no: int
    profile_id: str
    asked: Identifier
    """The identifier as it is known, normalised; of type ``id`` for a profile id."""


FindPerson = Callable[[str], FoundPerson]
"""From ``type:value`` to the person; raises ``NotFound``."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The services of one process."""

    database: Database
    reader: Reader
    refresher: Refresher
    find_person: FindPerson
    timezone: str
    normalise: NormaliseIdentifier | None = None
    queries: TagQueries | None = None
    """What runs the SQL of tags."""

    def read_rule(
        self,
        document: Any,
        *,
        path: str,
        segments: set[str] | None,
        tags: set[str] | None,
    ) -> Rule:
        """Read a posted rule; raise ``Unprocessable`` with the place of the mistake."""
        return parse_rule(document, path, segments, tags, normalise=self.normalise)

    def find_warnings(self, rules: Iterable[Rule]) -> list[dict[str, Any]]:
        """Return what looks mistaken in rules that can be evaluated."""
        looks = find_looks(rules)
        seen = read_seen_types(self.reader, {look.place for look in looks}) if looks else {}
        return find_mismatches(looks, seen)

    def freshness(self) -> dict[str, Any]:
        """Return ``as_of`` and ``lag_ms`` for answers about memberships and tag values."""
        as_of = self.refresher.as_of()
        return {"as_of": None if as_of is None else format_time(as_of), "lag_ms": _lag(as_of)}


def _lag(as_of: datetime | None) -> int | None:
    return None if as_of is None else max(0, (now() - as_of) // timedelta(milliseconds=1))
