"""The plan's versions in Postgres."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Json

from cdp.access.audit_store import record
from cdp.errors import Conflict, NotFound, Unprocessable
from cdp.plan.plan import EMPTY, Document, check_document
from cdp.storage.database import Driver

PLAN_CHANNEL = "cdp_plan"
"""Notified in the transaction that makes a new version."""

_PLAN_LOCK = 7263551


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """One version of the plan, and who made it."""

    version: int
    actor: str
    made_at: datetime
    document: Document


def read_plan(conn: Driver) -> Document:
    """Return the plan that holds: the newest version, ``EMPTY`` before the first."""
    row = conn.execute(
        "SELECT version, document FROM tracking_plans ORDER BY version DESC LIMIT 1"
    ).fetchone()
    return dict(EMPTY) if row is None else {**row[1], "version": row[0]}


def read_version(conn: Driver) -> int:
    """Return the number of the newest version; 0 before the first."""
    row = conn.execute("SELECT max(version) FROM tracking_plans").fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def find_version(conn: Driver, version: int) -> PlanVersion:
    """Return one version. Raises ``NotFound``."""
    row = conn.execute(
        "SELECT version, actor, made_at, document FROM tracking_plans WHERE version = %s",
        (version,),
    ).fetchone()
    if row is None:
        raise NotFound("plan_version_not_found", f"the plan has no version {version}")
    return PlanVersion(row[0], row[1], row[2], {**row[3], "version": row[0]})


def list_versions(conn: Driver, *, below: int | None, limit: int) -> list[PlanVersion]:
    """Return versions below ``below``, the newest first."""
    rows = conn.execute(
        """SELECT version, actor, made_at, document FROM tracking_plans
            WHERE version < coalesce(%s, 2147483647) ORDER BY version DESC LIMIT %s""",
        (below, limit),
    ).fetchall()
    return [PlanVersion(row[0], row[1], row[2], {**row[3], "version": row[0]}) for row in rows]


def change_plan(conn: Driver, posted: object, actor: str) -> Document:
    """Make ``posted`` the plan; return it under its new version.

    Its version is the one it was read at: ``Conflict`` when the plan is another by now. The same
    plan once more is no change. Raises ``Unprocessable`` with the place of a mistake.
    """
    if isinstance(posted, dict) and "version" not in posted:
        raise Unprocessable("missing", "send the version that you read", path="/version")
    document = check_document(posted)
    conn.execute("SELECT pg_advisory_xact_lock(%s)", (_PLAN_LOCK,))
    current = read_plan(conn)
    if document["version"] != current["version"]:
        raise Conflict(
            "version_conflict",
            "the plan was changed meanwhile; read it again",
            details={"version": current["version"]},
        )
    if document == current:
        return current
    document = {**document, "version": current["version"] + 1}
    conn.execute(
        "INSERT INTO tracking_plans (version, document, actor) VALUES (%s, %s, %s)",
        (document["version"], Json(document), actor),
    )
    record(conn, actor, "plan_changed", str(document["version"]))
    conn.execute(f"NOTIFY {PLAN_CHANNEL}")
    return document
