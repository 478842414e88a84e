"""Bring a database to the schema of this program."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cdp.errors import SetupError
from cdp.storage.database import Database


def _find_migrations() -> Path:
    """In a checkout the folder lies beside ``src``; in an installed wheel inside the package."""
    for candidate in (
        Path(__file__).parents[1] / "migrations",
        Path(__file__).parents[3] / "migrations",
    ):
        if (candidate / "env.py").exists():
            return candidate
    raise SetupError("the migrations are not part of this installation; install cdp again")


def _configure() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_find_migrations()))
    return config


def migrate(database: Database) -> None:
    """Apply the missing migrations. Safe to call from several processes: one does it."""
    config = _configure()
    with database.engine.connect() as connection:
        # Several processes may start at once; the second finds the work done.
        connection.exec_driver_sql("SELECT pg_advisory_lock(7263541)")
        connection.commit()
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql("SELECT pg_advisory_unlock(7263541)")
            connection.commit()


def check_schema(database: Database) -> None:
    """Raise ``SetupError`` when the database has another schema than this program needs."""
    wanted = ScriptDirectory.from_config(_configure()).get_current_head()
    with database.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found != wanted:
        raise SetupError(
            f"the database has schema {found or 'none'}, this program needs {wanted}; "
            "run `cdp migrate`"
        )
