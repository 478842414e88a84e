"""The archive of this installation, made of its settings."""

from __future__ import annotations

from cdp.archive.archive_folder import open_folder
from cdp.archive.archiver import Archiver
from cdp.settings import Settings
from cdp.storage.database import Database


def open_archiver(settings: Settings, database: Database) -> Archiver | None:
    """Return what archives; ``None`` when there is to be no archive."""
    folder = open_folder(settings)
    if folder is None:
        return None
    return Archiver(database, folder, settings.archive_after_days, settings.events_retention_days)
