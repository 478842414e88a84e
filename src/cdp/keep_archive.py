"""What archives by itself, and lets go of events whose time is over: a thread of every worker."""

from __future__ import annotations

import threading

from cdp.runtime.clock import now
from cdp.runtime.logs import get_logger
from cdp.settings import Settings
from cdp.storage.database import Database

_log = get_logger(__name__)

_FIRST_SECONDS = 60
_HOUR = 3600


def keep_archive(settings: Settings, database: Database, stop: threading.Event) -> None:
    """Once an hour until ``stop`` is set, archive the days that are due; one process at a time.

    Once a day, and when rules of retention were changed, events go whose time is over.
    """
    if stop.wait(_FIRST_SECONDS):
        return
    # Late: what reads and writes Parquet takes its time to load.
    from cdp.archive.archive_store import ArchiveBusy
    from cdp.archive.keep_time import let_go, read_cutoffs
    from cdp.archive.open_archive import open_archiver
    from cdp.kept_facts import keep_facts

    archiver = open_archiver(settings, database, keep_facts)
    done: list[object] = []
    while not stop.is_set():
        try:
            cutoffs = read_cutoffs(database, now())
            if cutoffs != done:
                let_go(database, archiver.folder if archiver else None, cutoffs, now())
                done = [*cutoffs]
            if archiver is not None:
                archiver.run()
        except ArchiveBusy:
            _log.debug("archive_busy")
        except Exception as error:
            # A disk, a store in another place, Postgres: the next hour tries again.
            _log.error("archive_failed", exc_info=error)
        stop.wait(_HOUR)
