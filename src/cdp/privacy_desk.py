"""What carries out privacy in a process of the role api, made of its services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cdp.analytics.engine import Engine
from cdp.analytics.forget import Forgetting
from cdp.archive.archive_folder import ArchiveFolder, open_folder
from cdp.archive.archived_events import ArchivedEvents
from cdp.archive.erase_archived import Note, erase_archived
from cdp.carry_out import Desk, describe_foreign_log, nothing_archived
from cdp.erase_people import read_erased_until
from cdp.export_people import export_people
from cdp.ingest.imports.uploads_folder import Uploads
from cdp.log.port import Log
from cdp.privacy.archives_folder import Archives
from cdp.privacy.people_store import Slice
from cdp.privacy.runner import PrivacyRunner
from cdp.privacy.scrub_store import scrub_disk
from cdp.runtime.clock import now
from cdp.segments.refresh import Refresher
from cdp.settings import Settings
from cdp.storage.database import Database, driver


@dataclass(slots=True)
class Followers:
    """DuckDB, segments and tags of this process."""

    engine: Engine
    refresher: Refresher
    forgetting: Forgetting

    def has_followed(self, seq: int, seconds: float) -> bool:
        """Wait until batch ``seq`` is in DuckDB, segments and tags; return whether it is."""
        return self.refresher.wait_for(seq, seconds) and self.engine.applied_seq() >= seq

    def forget(self, seq: int) -> bool:
        """Let nothing that was erased up to ``seq`` be in the file; return whether it is so."""
        return self.has_followed(seq, 0) and self.forgetting.forget(seq)


def _erase_archived(
    database: Database,
    folder: ArchiveFolder,
    nodes: Sequence[int],
    slices: Sequence[Slice],
    note: Note,
) -> bool:
    return erase_archived(database, folder, nodes, slices, note, now())


def open_privacy(
    settings: Settings, database: Database, log: Log, engine: Engine, refresher: Refresher
) -> PrivacyRunner:
    """Make what carries out privacy; nothing runs yet."""
    followers = Followers(engine, refresher, Forgetting(engine))
    archives = Archives(settings.data_dir)
    folder = open_folder(settings)
    archived = ArchivedEvents(folder) if folder else None
    desk = Desk(
        database,
        settings,
        log.name,
        followers,
        archives,
        Uploads(settings.data_dir, max_bytes=settings.max_import_bytes).remove,
        lambda job_id, asked: export_people(database, archives, job_id, asked, now(), archived),
        lambda touched: scrub_disk(database, settings.data_dir, touched, now),
        nothing_archived if folder is None else partial(_erase_archived, database, folder),
        getattr(log, "describe_retention", describe_foreign_log),
    )

    def look() -> None:
        """Forget in this process what another one erased; drop old exports."""
        with database.transaction() as connection:
            seq = read_erased_until(driver(connection))
        if seq is not None:
            followers.forget(seq)
        desk.remove_old_archives()

    return PrivacyRunner(database.libpq_url, desk.work, look)
