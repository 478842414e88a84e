"""DuckDB's file written anew: what was deleted from it is then nowhere on the disk.

Deleted rows stay in a file until their place is used again. So all that lives is copied into a
second file, while everybody goes on reading the first, and the second takes its place.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb

from cdp.analytics import catalogue
from cdp.analytics.trait_macros import MACROS

Duck = duckdb.DuckDBPyConnection

_ALIAS = "fresh"
_TABLES = """
SELECT table_name, sql FROM duckdb_tables()
 WHERE database_name = current_database() AND schema_name = 'core' ORDER BY table_name
"""
_VIEWS = """
SELECT sql FROM duckdb_views()
 WHERE database_name = current_database() AND schema_name = 'core' AND NOT internal
"""


def list_draft_paths(path: Path) -> list[str]:
    """Return the files that a copy of ``path`` needs; a connection must be allowed them."""
    draft = _draft(path)
    return [f"{draft}{end}" for end in ("", ".wal", ".wal.checkpoint", ".wal.recovery")]


def copy_live(duck: Duck, path: Path) -> list[str]:
    """Copy all rows that live into a second file beside ``path``; return its views' statements.

    The caller is the one writer; others go on reading.
    """
    _remove_draft(path)
    duck.execute(f"ATTACH '{_quote(_draft(path))}' AS {_ALIAS}")
    try:
        duck.execute(f"CREATE SCHEMA {_ALIAS}.core")
        for table, statement in duck.execute(_TABLES).fetchall():
            made = statement.replace("CREATE TABLE core.", f"CREATE TABLE {_ALIAS}.core.", 1)
            duck.execute(made)
            duck.execute(f"INSERT INTO {_ALIAS}.core.{table} FROM core.{table}")
        return [row[0] for row in duck.execute(_VIEWS).fetchall()]
    finally:
        duck.execute(f"DETACH {_ALIAS}")


def finish_draft(path: Path, views: list[str]) -> None:
    """Make the views in the second file, which nobody has open."""
    with duckdb.connect(str(_draft(path))) as duck:
        duck.execute("CREATE SCHEMA masked")
        duck.execute(MACROS)
        for statement in views:
            duck.execute(statement)
        catalogue.create_views(duck)
        seen: dict[str, dict[str, int]] = {}
        for event, name, kinds in duck.execute("FROM core.event_properties").fetchall():
            properties = seen.setdefault(event, {})
            if name:
                properties[name] = kinds
        catalogue.create_event_views(duck, seen, set(seen))


def take_place(path: Path) -> None:
    """Let the second file be the first, which nobody has open either."""
    # A log of the first would be replayed into the second.
    Path(f"{path}.wal").unlink(missing_ok=True)
    os.replace(_draft(path), path)
    path.chmod(0o600)
    shutil.rmtree(f"{path}.tmp", ignore_errors=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _draft(path: Path) -> Path:
    return Path(f"{path.absolute()}.draft")


def _remove_draft(path: Path) -> None:
    for name in list_draft_paths(path):
        Path(name).unlink(missing_ok=True)


def _quote(path: Path) -> str:
    return str(path).replace("'", "''")
