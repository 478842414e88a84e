"""The shapes in which people are shown, masked for those who may not see personal values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from cdp.access import masking
from cdp.profiles.consent import join_consents
from cdp.profiles.profile_store import Node, Person, Source
from cdp.profiles.timeline_store import TimelineEvent
from cdp.profiles.trait_sources import list_sources
from cdp.profiles.traits import Register, Trait, join_traits
from cdp.runtime.clock import format_time
from cdp.standard_traits import find_display_name, find_flag

Sources = Mapping[int, Source]
_UNKNOWN = Source("", "")

MEMBERS: Mapping[str, frozenset[str]] = {
    "identifiers": frozenset({"nodes"}),
    "name": frozenset({"traits"}),
    "traits": frozenset({"traits"}),
    "first_seen": frozenset({"nodes"}),
    "last_seen": frozenset({"nodes"}),
    "events": frozenset({"nodes"}),
    "orders": frozenset({"revenue"}),
    "net_revenue": frozenset({"revenue"}),
    # What nobody said holds from the first sight on.
    "consent": frozenset({"consents", "nodes"}),
    "version": frozenset(),
}
"""What ``show_person`` gives, and what must have been read of the person for each."""


def show_person(
    person: Person, sources: Sources, now: datetime, *, is_masked: bool
) -> dict[str, Any]:
    """Return a profile as it stands at ``now``: identifiers, what to call them, traits, counts."""
    first = [node.first_seen for node in person.nodes if node.first_seen is not None]
    last = [node.last_seen for node in person.nodes if node.last_seen is not None]
    return {
        "id": person.profile_id,
        "identifiers": show_identifiers(person.nodes, sources, is_masked=is_masked),
        "name": show_name(person.registers, now, is_masked=is_masked),
        "traits": show_traits(person.registers, now, is_masked=is_masked),
        "first_seen": _show_time(min(first, default=None)),
        "last_seen": _show_time(max(last, default=None)),
        "events": sum(node.events for node in person.nodes),
        "orders": sum(revenue.orders_with_net for revenue in person.revenue),
        "net_revenue": [
            {"amount": revenue.net, "currency": revenue.currency} for revenue in person.revenue
        ],
        "consent": show_consent(person, sources, now),
        "version": person.version,
    }


def show_identifiers(
    nodes: Iterable[Node], sources: Sources, *, is_masked: bool
) -> list[dict[str, Any]]:
    """Return the identifiers that people see, by type and age."""
    return [
        {
            "type": node.type,
            "value": _mask_value(node.type, node.value, is_masked),
            "first_seen": _show_time(node.first_seen),
            "last_seen": _show_time(node.last_seen),
            "sources": [sources.get(number, _UNKNOWN).name for number in node.source_numbers],
        }
        | ({"also_claimed_by": node.claimed_by} if node.claimed_by else {})
        for node in nodes
        if node.is_visible
    ]


def show_traits(registers: Iterable[Register], at: datetime, *, is_masked: bool) -> dict[str, Any]:
    """Return the values of the traits as of ``at``."""
    values = {name: register.value for name, register in join_traits(registers, at).items()}
    return masking.mask_traits(values) if is_masked else values


def show_name(registers: Iterable[Register], at: datetime, *, is_masked: bool) -> str | None:
    """Return what to call a person as of ``at``, put together where only parts were said."""
    traits = join_traits(registers, at)
    found = find_display_name({name: register.value for name, register in traits.items()})
    if found is None:
        return None
    name, trait = found
    return str(masking.mask_traits({trait: name})[trait]) if is_masked else name


def show_trait_rows(
    registers: Iterable[Register], sources: Sources, *, with_provenance: bool, is_masked: bool
) -> list[dict[str, Any]]:
    """Return one row per register: the trait, its value, and where it comes from.

    ``flag`` says what is odd about a value, such as a birthday on 29 February 1900.
    """
    rows = []
    for register in registers:
        row = {
            "name": register.name,
            "value": _mask_trait(register.name, register.value, is_masked),
        }
        if with_provenance:
            row |= _show_source(register, sources)
            flag = find_flag(register.name, register.value, register.at)
            row |= {} if flag is None else {"flag": flag}
        rows.append(row)
    return rows


def show_sourced_traits(
    traits: Mapping[str, Trait], sources: Sources, *, is_masked: bool
) -> list[dict[str, Any]]:
    """Return one row per trait with where it comes from; ``parts`` tells it of each part."""
    rows = show_trait_rows(
        [trait.newest for trait in traits.values()],
        sources,
        with_provenance=True,
        is_masked=is_masked,
    )
    for row, trait in zip(rows, traits.values(), strict=True):
        parts = [
            {"path": path, "value": _mask_trait(path, value, is_masked)}
            | _show_source(register, sources)
            for path, value, register in list_sources(trait)
        ]
        row |= {"parts": parts} if parts else {}
    return rows


def _mask_trait(name: str, value: Any, is_masked: bool) -> Any:
    return masking.mask_traits({name: value})[name] if is_masked else value


def _show_source(register: Register, sources: Sources) -> dict[str, Any]:
    source = sources.get(register.source_number, _UNKNOWN)
    return {
        "source": source.name,
        "source_id": source.source_id,
        "at": format_time(register.at),
        "message_id": register.message_id,
    }


def show_consent(person: Person, sources: Sources, now: datetime) -> dict[str, Any]:
    """Return per purpose what counts, since when, and who said so."""
    joined = join_consents(person.statements, person.joined_at, now)
    return {
        purpose: {
            "granted": statement.granted,
            # Nobody said it at any time: it is so from the first sight on.
            "at": _show_seen(person) if statement.is_default else format_time(statement.at),
            "source": sources.get(statement.source_number, _UNKNOWN).name,
            **({"default": True} if statement.is_default else {}),
        }
        for purpose, statement in joined.items()
    }


def _show_seen(person: Person) -> str | None:
    first = [node.first_seen for node in person.nodes if node.first_seen is not None]
    return _show_time(min(first, default=None))


def show_event(event: TimelineEvent, sources: Sources, *, is_masked: bool) -> dict[str, Any]:
    """Return an event of the timeline; a page's or screen's name stands in its properties."""
    source = sources.get(event.source_number, _UNKNOWN)
    properties, context = event.properties, event.context
    if event.event in ("page", "screen") and event.name is not None:
        properties = {"name": event.name, **properties}
    if is_masked:
        properties = masking.mask_properties(properties, call=event.type)
        context = masking.mask_context(context)
    return {
        "message_id": event.message_id,
        "source_id": source.source_id,
        "source": source.name,
        "type": event.type,
        "event": event.event,
        "timestamp": format_time(event.at),
        "original_timestamp": event.original_at,
        "received_at": format_time(event.received_at),
        "group_id": event.group_id,
        "properties": properties,
        "context": context,
    }


def mask_shown_event(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as ``show_event`` shows it unmasked, masked."""
    return {
        **event,
        "properties": masking.mask_properties(event["properties"], call=event["type"]),
        "context": masking.mask_context(event["context"]),
    }


def _mask_value(kind: str, value: str, is_masked: bool) -> str:
    return masking.mask_identifier(kind, value) if is_masked else value


def _show_time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)
