"""The shapes in which consent is shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from cdp.access import masking
from cdp.profiles.consent import Statement
from cdp.profiles.profile_store import Source
from cdp.reach import split_name
from cdp.runtime.clock import format_time

Sources = Mapping[int, Source]
_UNKNOWN = Source("", "")


def show_statements(
    named: Iterable[tuple[str, Statement]], sources: Sources, *, is_masked: bool
) -> list[dict[str, Any]]:
    """Return a row for each name (``marketing`` or ``marketing.email``) and its statement."""
    return [show_statement(name, one, sources, is_masked=is_masked) for name, one in named]


def show_statement(
    name: str, statement: Statement, sources: Sources, *, is_masked: bool
) -> dict[str, Any]:
    """Return what is stated of ``name``, since when, by whom, and what proves it.

    ``stated_for`` is what the statement speaks of: of a channel it may be the whole purpose. A
    default, which nobody said, has no time.
    """
    purpose, channel = split_name(name)
    source = sources.get(statement.source_number, _UNKNOWN)
    proof = statement.evidence if isinstance(statement.evidence, Mapping) else {}
    evidence = proof.get("evidence")
    if is_masked and evidence is not None:
        evidence = masking.mask_properties({"evidence": evidence})["evidence"]
    return {
        "purpose": purpose,
        "channel": channel,
        "granted": statement.granted,
        "at": None if statement.is_default else format_time(statement.at),
        "source": proof.get("source") or source.name,
        "source_id": source.source_id,
        "message_id": None if statement.is_default else statement.message_id,
        "evidence": evidence,
        "stated_for": statement.purpose,
        "default": statement.is_default,
    }


def show_answer(
    name: str, counted: Statement | None, sources: Sources, at: datetime, *, is_masked: bool
) -> dict[str, Any]:
    """Return whether a person may be reached, and the statement that says so; null: none does."""
    purpose, channel = split_name(name)
    shown = None if counted is None else show_statement(name, counted, sources, is_masked=is_masked)
    return {
        "purpose": purpose,
        "channel": channel,
        "at": format_time(at),
        "may_be_reached": counted is not None and counted.granted,
        "statement": shown,
    }
