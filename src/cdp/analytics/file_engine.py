"""DuckDB's file: opened and hardened, or made anew when it cannot be used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import duckdb

from cdp.analytics import catalogue
from cdp.analytics.compact_engine import list_draft_paths
from cdp.analytics.schema import CORE, SCHEMA_VERSION
from cdp.errors import SetupError
from cdp.runtime.logs import get_logger

Duck = duckdb.DuckDBPyConnection

_log = get_logger(__name__)

# Nothing but the file itself, and its copy when it is compacted, can be reached, and no later
# statement can change that.
_HARDEN = (
    "SET GLOBAL TimeZone = 'UTC'",
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET allow_extension_repositories = 'forbidden'",
    "SET allow_persistent_secrets = false",
    # Without this a table name finds the variables of whichever Python function is running.
    "SET GLOBAL python_enable_replacements = false",
    "SET enable_external_access = false",
    # Only this: transactions end with it raised (see ``headroom_engine``).
    "SET allowed_configs = ['memory_limit']",
    "SET lock_configuration = true",
)


def open_file(path: Path, config: Mapping[str, Any]) -> Duck:
    """Open ``path``, or make it, with ``config``; lock every setting.

    A file that is damaged or of another version is dropped, and that is logged: everything in it
    comes from Postgres. Raises ``SetupError`` when another process has it, or its place is wrong.
    """
    _prepare_place(path)
    try:
        connection = _connect(path, config)
    except duckdb.Error as error:
        if not _is_damage(error):
            raise SetupError(_explain(path, error)) from error
        return _replace(path, config, "unreadable", str(error).splitlines()[0])
    if not _prepare(connection):
        connection.close()
        return _replace(
            path, config, "other_version", f"this program writes version {SCHEMA_VERSION}"
        )
    allowed = ", ".join("'" + name.replace("'", "''") + "'" for name in list_draft_paths(path))
    connection.execute(f"SET allowed_paths = [{allowed}]")
    for statement in _HARDEN:
        connection.execute(statement)
    return connection


def _prepare_place(path: Path) -> None:
    """Make the folder, and an existing file private. Raises ``SetupError`` when it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.chmod(0o600)
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written ({error.strerror}); set CDP_DATA_DIR to a folder that can"
        ) from error


def create_tables(duck: Duck) -> None:
    """Make every table and view in an empty file."""
    duck.execute(CORE)
    catalogue.create_views(duck)


def _connect(path: Path, config: Mapping[str, Any]) -> Duck:
    connection = duckdb.connect(str(path), config=cast(Any, dict(config)))
    # Damage shows itself when tables are read, not when the file is opened.
    try:
        connection.execute("FROM duckdb_tables()").fetchall()
    except duckdb.Error:
        connection.close()
        raise
    return connection


def _replace(path: Path, config: Mapping[str, Any], event: str, reason: str) -> Duck:
    _log.warning(
        f"analytics_file_{event}",
        reason=reason,
        consequence="dropped; everything is fed again from Postgres",
    )
    for file in (path, Path(f"{path}.wal")):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise SetupError(
                f"cannot remove {file}: {error.strerror}; remove it by hand"
            ) from error
    return open_file(path, config)


def _prepare(connection: Duck) -> bool:
    """Make the schema in an empty file; return whether the file is one of ours."""
    tables = connection.execute(
        "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE NOT internal"
    ).fetchall()
    if not tables:
        connection.execute("BEGIN TRANSACTION")
        create_tables(connection)
        connection.execute("COMMIT")
        return True
    if ("core.stamp",) not in tables:
        return False
    versions = connection.execute("SELECT version FROM core.stamp").fetchall()
    return versions == [(SCHEMA_VERSION,)]


def _is_damage(error: duckdb.Error) -> bool:
    """Whether the file itself is at fault, and not its place, its rights or another process."""
    if isinstance(
        error, duckdb.SerializationException | duckdb.InternalException | duckdb.FatalException
    ):
        return True
    text = str(error).lower()
    return any(
        sign in text
        for sign in (
            "not a valid duckdb", "corrupt", "checksum", "version number", "storage version",
            "replaying wal", "failed to deserialize", "not read enough bytes",
        )
    )  # fmt: skip


def _explain(path: Path, error: duckdb.Error) -> str:
    text = str(error).splitlines()[0]
    if "lock" in text.lower():
        return (
            f"{path} is in use by another process; only one may own it: "
            "stop the other one or choose another CDP_DATA_DIR"
        )
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        return f"{path} cannot be written; give this user the right, or choose another CDP_DATA_DIR"
    return f"{path} cannot be opened: {text}"
