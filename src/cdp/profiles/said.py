"""What one stored event said of its person. Pure; the worker reads calls by the same rules.

Registers keep only the newest of what was said; the timeline keeps it all, so every earlier moment
can be told from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cdp.profiles.consent import Statement
from cdp.profiles.traits import Register


class Said(NamedTuple):
    """A stored event that may have said something of its person."""

    node_id: int
    type: str
    at: datetime
    message_id: str
    source_number: int
    properties: Mapping[str, Any]
    context: Mapping[str, Any]


def list_registers(events: Iterable[Said]) -> Iterator[Register]:
    """Give one register per trait that an event named."""
    for event in events:
        for name, value in traits_said(event.type, event.properties, event.context).items():
            yield Register(name, value, event.at, event.message_id, event.source_number)


def list_statements(events: Iterable[Said]) -> Iterator[Statement]:
    """Give one statement per purpose that an event named."""
    for event in events:
        for purpose, granted in consents_said(event.context).items():
            yield Statement(
                purpose,
                granted,
                event.at,
                event.message_id,
                event.source_number,
                event.node_id,
            )


def traits_said(
    call: str, properties: Mapping[str, Any], context: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the person's traits in a call: those in its context, and an identify call's own."""
    traits = dict(_as_object(context.get("traits")))
    if call == "identify":
        traits.update(properties)
    return traits


def consents_said(context: Mapping[str, Any]) -> dict[str, bool]:
    """Return the purposes that a call's context grants or denies.

    ``consent.categoryPreferences`` decides over ``consentManagement``, RudderStack's lists.
    """
    managed = _as_object(context.get("consentManagement"))
    consents = dict.fromkeys(_texts(managed.get("allowedConsentIds")), True)
    consents.update(dict.fromkeys(_texts(managed.get("deniedConsentIds")), False))
    preferences = _as_object(_as_object(context.get("consent")).get("categoryPreferences"))
    consents.update({k: v for k, v in preferences.items() if isinstance(v, bool)})
    return consents


def _as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(values: Any) -> list[str]:
    return (
        [v for v in values if isinstance(v, str) and v] if isinstance(values, list | dict) else []
    )
