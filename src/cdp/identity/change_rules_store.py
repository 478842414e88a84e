"""Change the rules: a new version, checked, kept with all versions before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import phonenumbers
from pydantic import ValidationError

from cdp.access.audit_store import record
from cdp.errors import Conflict, Unprocessable
from cdp.identity.rules import Rules, parse_rules
from cdp.identity.rules_store import hold_rules, read_rules, write_rules
from cdp.runtime.error_answers import make_pointer
from cdp.storage.database import Driver

State = Literal["applied", "applying", "superseded"]


@dataclass(frozen=True, slots=True)
class RulesVersion:
    """One version, and how far the people of before have been worked out under it."""

    version: int
    actor: str
    made_at: datetime
    state: State
    components: int
    profiles: int
    """That changed."""
    applied_at: datetime | None
    document: dict[str, Any]


def read_document(document: Any, within: str = "") -> Rules:
    """Read a document that a caller wrote, in their body at the JSON Pointer ``within``.

    Raises ``Unprocessable`` with the place of a mistake.
    """
    try:
        rules = parse_rules(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise Unprocessable(
            "missing" if first["type"] == "missing" else "invalid_rules",
            str(first["msg"]).removeprefix("Value error, "),
            path=within + make_pointer(first["loc"]),
        ) from error
    if rules.country not in phonenumbers.SUPPORTED_REGIONS:
        raise Unprocessable(
            "invalid_rules", "write two capital letters: CN, GB", path=f"{within}/country"
        )
    return rules


def change_rules(conn: Driver, document: Any, country: str, actor: str) -> Rules:
    """Make ``document`` the rules; return them under their new version.

    The document's version is the one it was read at: ``Conflict`` when the rules are others by
    now. The same rules once more are no change.
    """
    if isinstance(document, dict) and "version" not in document:
        raise Unprocessable("missing", "send the version that you read", path="/version")
    rules = read_document(document)
    hold_rules(conn)
    current = read_rules(conn, country).with_blocks(frozenset())
    if rules.version != current.version:
        raise Conflict(
            "version_conflict",
            "the rules were changed meanwhile; read them again",
            details={"version": current.version},
        )
    if rules == current:
        return current
    rules = rules.model_copy(update={"version": current.version + 1})
    write_rules(conn, rules, actor=actor)
    record(conn, actor, "identity_rules_changed", str(rules.version))
    return rules


def list_versions(conn: Driver, *, below: int | None, limit: int) -> list[RulesVersion]:
    """Return versions, the newest first. The default rules have none."""
    rows = conn.execute(
        """SELECT version, actor, made_at, applied_at, components, profiles, document,
                  version = max(version) OVER () AS is_newest
             FROM identity_rules ORDER BY version DESC"""
    ).fetchall()
    chosen = [row for row in rows if below is None or row[0] < below][:limit]
    return [
        RulesVersion(row[0], row[1], row[2], _state(row[3], row[7]), row[4], row[5], row[3], row[6])
        for row in chosen
    ]


def _state(applied_at: datetime | None, is_newest: bool) -> State:
    if applied_at is not None:
        return "applied"
    return "applying" if is_newest else "superseded"
