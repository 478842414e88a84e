"""The first source, token and web key: made once, kept in the database and in a private file."""

from __future__ import annotations

from pathlib import Path

from cdp.access.scopes import ADMIN
from cdp.access.tokens_store import create_token, find_token
from cdp.ingest.sources_store import create_source
from cdp.model import SourceType
from cdp.runtime.credentials import Credentials, read_credentials, write_credentials
from cdp.storage.database import Database, Driver, driver


def ensure_credentials(database: Database, folder: Path, url: str) -> Credentials:
    """Return credentials that the database knows, making what is missing; write the file.

    Safe to repeat after a stop at any point: keys are found by their source, and a token whose
    text was lost is replaced by a new one. Raises ``SetupError`` when the file cannot be written.
    """
    kept = read_credentials(folder)
    with database.transaction() as connection:
        raw = driver(connection)
        # Several may start on one database; they must agree on one first source.
        raw.execute("SELECT pg_advisory_xact_lock(7263543)")
        token = kept.token if kept is not None else ""
        if not token or find_token(raw, token) is None:
            _, token = create_token(raw, "cdp up", [ADMIN])
        credentials = Credentials(
            url=url,
            write_key=_ensure_source(raw, "default", "server"),
            token=token,
            web_write_key=_ensure_source(raw, "example page", "web"),
        )
    if credentials != kept:
        write_credentials(folder, credentials)
    return credentials


def _ensure_source(connection: Driver, name: str, kind: SourceType) -> str:
    row = connection.execute(
        """SELECT k.write_key FROM write_keys k JOIN sources s USING (source_id)
            WHERE s.name = %s AND s.type = %s AND s.disabled_at IS NULL
            ORDER BY s.number, k.created_at LIMIT 1""",
        (name, kind),
    ).fetchone()
    if row is not None:
        return str(row[0])
    _, write_key = create_source(connection, name, kind, {})
    return write_key
