"""What the tables for SQL hold, in words: each table and each of its columns, in one place. Pure.

Tables of single events describe themselves: their columns are what was sent.
"""

from __future__ import annotations

from typing import NamedTuple


class Described(NamedTuple):
    """A table in words."""

    table: str
    columns: dict[str, str]


_PROFILE = "The person's profile, as it is called now; null for nobody's."

_OF_ANY_CALL = {
    "id": "What the sender called the call (its messageId).",
    "received_at": "When it arrived (UTC).",
    "timestamp": "When it happened (UTC).",
    "anonymous_id": "The device that it hangs on, of calls that named nobody.",
    "user_id": "Your id of the person, of calls that carried one; masked without pii:read.",
    "profile_id": _PROFILE,
    "source_id": "The source that sent it.",
    "context_page_url": "The page's address, from the context.",
    "context_page_path": "The page's path, from the context.",
    "context_page_referrer": "Where the page was reached from, from the context.",
    "context_page_title": "The page's title, from the context.",
    "context_campaign_name": "utm_campaign, from the context.",
    "context_campaign_source": "utm_source, from the context.",
    "context_campaign_medium": "utm_medium, from the context.",
    "context_campaign_term": "utm_term, from the context.",
    "context_campaign_content": "utm_content, from the context.",
    "context_user_agent": "The browser or app, as it names itself.",
    "context_locale": "The language and region, such as zh-CN.",
    "context_library_name": "The SDK that sent it.",
    "context_library_version": "The SDK's version.",
}
_PROPERTIES = "What was sent along, as JSON; masked without pii:read."
_GIVEN_TRAITS = "The traits that were sent, as JSON; masked without pii:read."

TABLES: dict[str, Described] = {
    "profiles": Described(
        "One row per person, as identities stand now.",
        {
            "profile_id": "What the API calls the person.",
            "first_seen": "When any of their identifiers was first seen.",
            "last_seen": "When any of their identifiers was last seen.",
            "events": "How many events are theirs.",
            "version": "Counts the changes of the profile.",
        },
    ),
    "identifiers": Described(
        "One row per identifier and the person who holds it now.",
        {
            "profile_id": _PROFILE,
            "type": "email, phone, user_id, anonymous_id, or a type of your own.",
            "value": "As it is kept, normalised; masked without pii:read.",
            "first_seen": "When the identifier was first seen.",
            "last_seen": "When the identifier was last seen.",
        },
    ),
    "traits": Described(
        "One row per person and trait that has a value.",
        {
            "profile_id": _PROFILE,
            "name": "The trait, as it was sent.",
            "value": "What counts, of the type that was sent; masked without pii:read.",
            "at": "When that was said.",
        },
    ),
    "events": Described(
        "One row per call that was accepted, each message once.",
        {
            "message_id": "What the sender called the call.",
            "source_id": "The source that sent it.",
            "profile_id": _PROFILE,
            "type": "track, page, screen, identify, group or alias.",
            "event": "The name of a track call; page and screen for those; else null.",
            "timestamp": "When it happened (UTC).",
            "received_at": "When it arrived (UTC).",
            "properties": "What was sent along, as JSON; masked without pii:read.",
        },
    ),
    "tracks": Described(
        "One row per track call.",
        _OF_ANY_CALL
        | {
            "event": "The event's name in snake case, as its own table is called.",
            "event_text": "The event's name as it was sent.",
            "properties": _PROPERTIES,
        },
    ),
    "pages": Described(
        "One row per page call.",
        _OF_ANY_CALL
        | {
            "name": "What the page is called.",
            "url": "Its address.",
            "path": "Its path.",
            "referrer": "Where it was reached from.",
            "title": "Its title.",
            "properties": _PROPERTIES,
        },
    ),
    "screens": Described(
        "One row per screen call.",
        _OF_ANY_CALL | {"name": "What the screen is called.", "properties": _PROPERTIES},
    ),
    "identifies": Described("One row per identify call.", _OF_ANY_CALL | {"traits": _GIVEN_TRAITS}),
    "groups": Described(
        "One row per group call.",
        _OF_ANY_CALL | {"group_id": "The account that was named.", "traits": _GIVEN_TRAITS},
    ),
    "aliases": Described("One row per alias call.", _OF_ANY_CALL),
    "sessions": Described(
        "One row per visit: a source's calls of one person, up to session_minutes (30) apart.",
        {
            "profile_id": _PROFILE,
            "source_id": "The source whose visit it is.",
            "started_at": "When its first call happened.",
            "ended_at": "When its last call happened.",
            "seconds": "How long that is.",
            "events": "How many calls.",
            "landing_page": "The address it began at.",
            "referrer": "Where that was reached from.",
        },
    ),
    "touches": Described(
        "One row per call that a campaign, an advertiser's click or another site brought.",
        {
            "profile_id": _PROFILE,
            "message_id": "The call.",
            "source_id": "The source that sent it.",
            "timestamp": "When it happened (UTC).",
            "utm_source": "From the context's campaign, else the page's address.",
            "utm_medium": "From the context's campaign, else the page's address.",
            "utm_campaign": "From the context's campaign, else the page's address.",
            "utm_term": "From the context's campaign, else the page's address.",
            "utm_content": "From the context's campaign, else the page's address.",
            "click_id": "Which advertiser's parameter the address has, such as gclid.",
            "referrer": "Where the page was reached from.",
            "referrer_domain": "That site's name.",
            "url": "The page's address.",
        },
    ),
    "orders": Described(
        "One row per order in its newest version, whatever its status.",
        {
            "order_id": "What the shop calls the order.",
            "profile_id": "Who ordered; null for nobody's.",
            "status": "As it came.",
            "currency": "ISO 4217; amounts are in its minor units (1299 is 12.99).",
            "total": "Before refunds, in minor units.",
            "refunded": "What was given back, in minor units.",
            "net": "total less refunded, in minor units.",
            "store": "Where it was placed.",
            "channel": "By which channel it was placed.",
            "placed_at": "When it was placed; without that, its oldest update.",
            "updated_at": "When this version was written.",
        },
    ),
    "order_lines": Described(
        "One row per line of an order.",
        {
            "order_id": "The order that the line belongs to.",
            "sku": "What was sold.",
            "name": "What that is called.",
            "category": "The category it was sold in.",
            "quantity": "How many.",
            "price": "For one, in minor units of the order's currency.",
            "total": "Of the line, in minor units of the order's currency.",
        },
    ),
    "rates": Described(
        "One row per dated rate of two currencies.",
        {
            "currency": "What is converted.",
            "to": "Into what.",
            "at": "The day from which it holds.",
            "rate": "How many units of `to` a unit of `currency` is worth.",
        },
    ),
    "tickets": Described(
        "One row per service ticket, as its events leave it.",
        {
            "profile_id": _PROFILE,
            "ticket_id": "What the help desk calls it.",
            "status": "The newest status that was told.",
            "is_open": "Whether it still waits for somebody.",
            "subject": "What it is about; masked without pii:read.",
            "category": "As it came.",
            "priority": "As it came.",
            "channel": "By which channel it came.",
            "assignee": "Who looks after it.",
            "created_at": "When it was opened.",
            "updated_at": "When it last changed.",
            "events": "How many events told of it.",
        },
    ),
    "accounts": Described(
        "One row per company, household or other account.",
        {
            "account_id": "What you call the account.",
            "type": "Such as company or household.",
            "parent": "The account above it.",
            "traits": "All traits as one JSON object; masked without pii:read.",
        },
    ),
    "account_members": Described(
        "One row per person and account that they belong to.",
        {
            "account_id": "The account.",
            "profile_id": "The member.",
            "role": "As what they belong to it.",
        },
    ),
    "tags": Described(
        "One row per person and tag that has a value for them.",
        {
            "profile_id": _PROFILE,
            "key": "The tag.",
            "value": "Its value, of the tag's type.",
            "at": "Since when it has that value.",
        },
    ),
    "segments": Described(
        "One row per segment.",
        {
            "key": "What rules and the API call it.",
            "name": "What people call it.",
            "description": "What it is for.",
            "version": "Counts its definitions.",
            "created_at": "When it was made.",
            "updated_at": "When it last got a new definition.",
        },
    ),
    "memberships": Described(
        "One row per segment and person who is in it now.",
        {
            "segment": "The segment's key.",
            "profile_id": "The member.",
            "entered_at": "Since when.",
        },
    ),
    "membership_changes": Described(
        "One row each time somebody entered or left a segment.",
        {
            "segment": "The segment's key.",
            "profile_id": "Who entered or left.",
            "change": "entered or left.",
            "at": "When.",
            "cause": "event, time, merge, definition or privacy.",
            "version": "The version of the segment's definition.",
        },
    ),
}

_OF_ANY_EVENT = {
    "message_id": "What the sender called the call.",
    "profile_id": _PROFILE,
    "timestamp": "When it happened (UTC).",
}


def describe_table(table: str) -> str:
    """Return what ``table`` holds; of an event's own table what is in common."""
    known = TABLES.get(table)
    return f"One row per event {table}, a column per property." if known is None else known.table


def describe_column(table: str, column: str) -> str:
    """Return what ``column`` of ``table`` holds."""
    known = TABLES.get(table)
    if known is not None:
        return known.columns.get(column, "")
    return _OF_ANY_EVENT.get(column) or f"The property {column}, as it was sent."
