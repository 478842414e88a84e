"""The archive of this installation, made of its settings."""

from __future__ import annotations

from cdp.archive.archive_folder import open_folder
from cdp.archive.archiver import Archiver, Keep
from cdp.settings import Settings
from cdp.storage.database import Database


def open_archiver(settings: Settings, database: Database, keep: Keep) -> Archiver | None:
    """Return what archives and lets ``keep`` keep what it does; ``None``: no archive is wanted."""
    folder = open_folder(settings)
    if folder is None:
        return None
    return Archiver(
        database, folder, settings.archive_after_days, settings.events_retention_days, keep
    )
