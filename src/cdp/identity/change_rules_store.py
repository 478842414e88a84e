"""Change the rules: a new version, checked, kept with all versions before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from cdp.access.audit_store import record
from cdp.errors import Conflict, NotFound, Unprocessable
from cdp.identity.check_rules import Mistake, find_mistake, put_into_words
from cdp.identity.forms_store import restart_filling
from cdp.identity.rules import Rules, default_rules, parse_rules
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
    """Worked out anew so far."""
    components_total: int | None
    """That there were when it began; ``None`` before."""
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
        code = "missing" if first["type"] == "missing" else "invalid_rules"
        raise _refuse(put_into_words(first), within, code) from error
    mistake = find_mistake(rules)
    if mistake is not None:
        raise _refuse(mistake, within)
    return rules


def _refuse(mistake: Mistake, within: str, code: str = "invalid_rules") -> Unprocessable:
    return Unprocessable(code, mistake.message, path=within + make_pointer(mistake.path))


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
    return _replace(conn, current, rules, actor)


def roll_back(conn: Driver, version: int, country: str, actor: str) -> Rules:
    """Make the document of ``version`` the rules again, under a new version; return them.

    Version 1 is the default rules, unless somebody wrote others under it. Raises ``NotFound``
    when there never was such a version.
    """
    hold_rules(conn)
    current = read_rules(conn, country).with_blocks(frozenset())
    row = conn.execute(
        "SELECT document FROM identity_rules WHERE version = %s", (version,)
    ).fetchone()
    if row is None and version != 1:
        raise NotFound("version_not_found", "there are no rules of this version")
    former = default_rules(country) if row is None else read_document(row[0])
    former = former.model_copy(update={"version": current.version})
    return _replace(conn, current, former, actor, back_to=version)


def _replace(
    conn: Driver, current: Rules, rules: Rules, actor: str, *, back_to: int | None = None
) -> Rules:
    if rules == current:
        return current
    rules = rules.model_copy(update={"version": current.version + 1})
    write_rules(conn, rules, actor=actor)
    restart_filling(conn)
    details = None if back_to is None else {"back_to": back_to}
    record(conn, actor, "identity_rules_changed", str(rules.version), details)
    return rules


def list_versions(conn: Driver, *, below: int | None, limit: int) -> list[RulesVersion]:
    """Return versions, the newest first. The default rules have none."""
    rows = conn.execute(
        """SELECT version, actor, made_at, applied_at, components, components_total, profiles,
                  document, (SELECT max(version) FROM identity_rules) = version
             FROM identity_rules WHERE %s::int IS NULL OR version < %s
            ORDER BY version DESC LIMIT %s""",
        (below, below, limit),
    ).fetchall()
    return [_read_version(row) for row in rows]


def find_newest(conn: Driver) -> RulesVersion | None:
    """Return the newest version, or ``None`` while the default rules hold."""
    found = list_versions(conn, below=None, limit=1)
    return found[0] if found else None


def _read_version(row: tuple[Any, ...]) -> RulesVersion:
    version, actor, made_at, applied_at, components, total, profiles, document, is_newest = row
    return RulesVersion(
        version=version,
        actor=actor,
        made_at=made_at,
        state=_state(applied_at, is_newest),
        components=components,
        components_total=total,
        profiles=profiles,
        applied_at=applied_at,
        document=document,
    )


def _state(applied_at: datetime | None, is_newest: bool) -> State:
    if applied_at is not None:
        return "applied"
    return "applying" if is_newest else "superseded"
