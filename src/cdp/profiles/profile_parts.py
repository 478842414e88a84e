"""Parts of a profile: what a caller may choose by `fields`, and what they may have with it.

Whoever adds something to the profile adds one line: to ``DOCUMENT`` for a member of the document,
or to the parts that the app gives to the routes for something that is shown with `include`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from cdp.access import masking
from cdp.access.scopes import Caller
from cdp.errors import Unprocessable
from cdp.profiles import profile_document as documents
from cdp.profiles.accounts_read_store import ask_accounts
from cdp.profiles.profile_store import PARTS, Source, read_segments, read_tags
from cdp.profiles.service_read_store import ask_service_counts
from cdp.profiles.timeline_store import Archived, read_timeline
from cdp.profiles.touches_store import ask_touches
from cdp.runtime.clock import format_time
from cdp.runtime.cursors import cut_page
from cdp.storage.database import Driver


@dataclass(frozen=True, slots=True)
class PartQuery:
    """Of whom a part is read, and how it is to be shown."""

    tx: Driver
    profile_no: int
    profile_id: str
    now: datetime
    sources: Mapping[int, Source]
    caller: Caller
    limit: int = 50
    """The most rows of a list."""
    archived: Archived | None = None

    @property
    def is_masked(self) -> bool:
        """Whether personal values are hidden from who asks."""
        return not self.caller.sees_personal


ReadPart = Callable[[PartQuery], Any]
"""Returns what is shown, ready for JSON; a list as ``{"data": [...], "next": ...}``."""


class Member(NamedTuple):
    """Members of the document that are read together."""

    part: str
    """What the page's one statement calls it."""
    names: tuple[str, ...]
    ask: Callable[[PartQuery], Callable[[], Sequence[Any]]]
    """Sends what is asked of the database; what it returns waits for their values, in order."""


def ask_touches_part(query: PartQuery) -> Callable[[], Sequence[Any]]:
    """Ask for the first and the last touch of a person until now."""
    receive = ask_touches(query.tx, query.profile_no, query.now)

    def show() -> Sequence[Any]:
        touches = receive()
        return [_mask_touch(one) for one in touches] if query.is_masked else touches

    return show


def _mask_touch(touch: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if touch is None else masking.mask_properties(touch)


def mask_members(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return members of the document as they are shown to who may not see personal values."""
    return {
        name: _mask_touch(value) if name in _TOUCHES else value for name, value in members.items()
    }


def ask_accounts_part(query: PartQuery) -> Callable[[], Sequence[Any]]:
    """Ask for the accounts of a person."""
    receive = ask_accounts(query.tx, query.profile_no, query.now)
    return lambda: [receive()]


def ask_service_part(query: PartQuery) -> Callable[[], Sequence[Any]]:
    """Ask for a person's service in numbers."""
    receive = ask_service_counts(query.tx, query.profile_no, query.now)
    return lambda: [receive()]


_TOUCHES = ("first_touch", "last_touch")
DOCUMENT: tuple[Member, ...] = (
    Member("accounts", ("accounts",), ask_accounts_part),
    Member("touches", _TOUCHES, ask_touches_part),
    Member("service", ("service",), ask_service_part),
)
ALWAYS = frozenset({"id", "asked_as", "redirected_from"})
FIELDS = frozenset(
    (*ALWAYS, *documents.MEMBERS, *(name for member in DOCUMENT for name in member.names))
)
"""Every member that the document can have."""
_DEEP = ("traits", "consent")


@dataclass(frozen=True, slots=True)
class Fields:
    """The members that are wanted, and of which of them only something within."""

    members: frozenset[str]
    within: Mapping[str, frozenset[str]]

    def wants(self, names: Iterable[str]) -> bool:
        """Whether any of ``names`` is wanted."""
        return not self.members.isdisjoint(names)

    def cut(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is wanted of ``document``, in its order, with the id."""
        return {
            name: {key: inner for key, inner in value.items() if key in self.within[name]}
            if name in self.within
            else value
            for name, value in document.items()
            if name in self.members
        }


def parse_fields(text: str | Sequence[str] | None) -> Fields | None:
    """Read `traits.city,consent,version`; ``None`` is everything. Raises ``Unprocessable``.

    `traits.city` and `consent.marketing` are single values; a trait's name may hold dots.
    """
    if text is None:
        return None
    names = text.split(",") if isinstance(text, str) else text
    members, within = set(ALWAYS), dict[str, set[str]]()
    whole = set()
    for name in filter(None, (each.strip() for each in names)):
        head, _, rest = name.partition(".")
        if head not in FIELDS or (rest and head not in _DEEP):
            raise Unprocessable(
                "unknown_field", f"{name!r} is none of {', '.join(sorted(FIELDS))}", path="/fields"
            )
        members.add(head)
        if rest:
            within.setdefault(head, set()).add(rest)
        else:
            whole.add(head)
    kept = {head: frozenset(keys) for head, keys in within.items() if head not in whole}
    return Fields(frozenset(members), kept)


def list_needed(wanted: Fields | None) -> frozenset[str]:
    """Return the parts of a person that must be read for ``wanted`` members."""
    if wanted is None:
        return PARTS
    return frozenset(
        part for name, needed in documents.MEMBERS.items() if name in wanted.members
        for part in needed
    )  # fmt: skip


def list_members(wanted: Fields | None) -> list[str]:
    """Return the parts of those members of ``DOCUMENT`` that are wanted."""
    return [member.part for member in DOCUMENT if wanted is None or wanted.wants(member.names)]


def parse_include(text: str | None, parts: Mapping[str, ReadPart]) -> list[str]:
    """Read `events,orders`; passes over what the document has. Raises ``Unprocessable``."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if name not in parts and name not in FIELDS:
            known = ", ".join(sorted(parts))
            raise Unprocessable("unknown_part", f"{name!r} is none of {known}", path="/include")
    return [name for name in dict.fromkeys(names) if name in parts]


def read_members(query: PartQuery, fields: Fields | None) -> dict[str, Any]:
    """Return the wanted ones of the members in ``DOCUMENT``."""
    with query.tx.pipeline():
        receive = ask_members(query, fields)
    return receive()


def ask_members(query: PartQuery, fields: Fields | None) -> Callable[[], dict[str, Any]]:
    """Send what ``read_members`` asks; return what waits for the answer."""
    asked = [
        (member.names, member.ask(query))
        for member in DOCUMENT
        if fields is None or fields.wants(member.names)
    ]
    return lambda: {
        name: value
        for names, receive in asked
        for name, value in zip(names, receive(), strict=True)
    }


def read_events_part(query: PartQuery) -> Any:
    """Return the newest events of a person."""
    events = read_timeline(
        query.tx, query.profile_no, limit=query.limit + 1, archived=query.archived
    )
    page, following = cut_page(events, query.limit, lambda event: event.key)
    shown = [documents.show_event(one, query.sources, is_masked=query.is_masked) for one in page]
    return {"data": shown, "next": following}


def read_segments_part(query: PartQuery) -> Any:
    """Return the segments that a person is in."""
    return {"data": show_segments(query.tx, query.profile_id), "next": None}


def read_tags_part(query: PartQuery) -> Any:
    """Return a person's tag values."""
    tags = show_tags(query.tx, query.profile_id, is_masked=query.is_masked)
    return {"data": tags, "next": None}


def show_segments(tx: Driver, profile_id: str) -> list[dict[str, Any]]:
    """Return the segments of a person as they are shown."""
    rows = read_segments(tx, profile_id)
    return [{**row, "entered_at": format_time(row["entered_at"])} for row in rows]


def show_tags(tx: Driver, profile_id: str, *, is_masked: bool) -> list[dict[str, Any]]:
    """Return the tag values of a person as they are shown."""
    return [show_tag(row, is_masked=is_masked) for row in read_tags(tx, profile_id)]


def show_tag(row: Mapping[str, Any], *, is_masked: bool) -> dict[str, Any]:
    """Return one tag's value as it is shown."""
    value = masking.mask_value(row["value"]) if is_masked else row["value"]
    return {**row, "value": value, "at": format_time(row["at"])}


INCLUDED: Mapping[str, ReadPart] = {
    "events": read_events_part,
    "segments": read_segments_part,
    "tags": read_tags_part,
}
"""What this stage itself can show with a profile."""
