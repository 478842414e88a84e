"""Work the queue of imports off: one at a time per process, in a thread of its own.

A lease says who works on an import; whoever is killed loses it and another goes on. Only imports
whose file lies in this process's data folder can be taken.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import timedelta

from psutil import pid_exists

from cdp.errors import CdpError
from cdp.ingest.door import Door
from cdp.ingest.imports import imports_store as store
from cdp.ingest.imports import progress_store
from cdp.ingest.imports.hold_store import Hold, NoLongerOurs, Stopping
from cdp.ingest.imports.imports_store import Import
from cdp.ingest.imports.reading import FileDamaged
from cdp.ingest.imports.run_import import Defaults, Hopeless, Run
from cdp.ingest.imports.uploads_folder import Uploads
from cdp.model import Source
from cdp.runtime.clock import now
from cdp.runtime.error_answers import DATABASE_ERRORS
from cdp.runtime.logs import get_logger
from cdp.runtime.waking_thread import WakingThread
from cdp.storage.database import Database, driver

_log = get_logger(__name__)
_AWAY = DATABASE_ERRORS
# Whoever uploads wakes the runner; this is for what others left.
_LOOK_EVERY_SECONDS = 3.0
_KEEP_HOUSE_SECONDS = 3600.0
LEASE_SECONDS = 15.0


class ImportRunner(WakingThread):
    """Runs imports. ``start`` and ``close`` it; ``wake`` it when there is a new one."""

    def __init__(
        self,
        database: Database,
        uploads: Uploads,
        door: Door,
        find_source: Callable[[str], Source | None],
        defaults: Defaults,
        *,
        log_name: str,
        retention: timedelta,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """``retention``: how long a file is kept after its import has ended."""
        super().__init__("imports")
        self.uploads = uploads
        self.door = door
        self.defaults = defaults
        self.runner_id = f"{socket.gethostname()}/{os.getpid()}-{secrets.token_hex(4)}"
        self._database = database
        self._find_source = find_source
        self._log_name = log_name
        self._retention = retention
        self._lease = lease_seconds
        self._house_kept_at = float("-inf")

    def run(self) -> None:
        """Run imports one by one; whoever is closed stops at the next checkpoint."""
        is_away = False
        while not self.stopping.is_set():
            try:
                found = self.run_next()
                self._keep_house()
                is_away = False
            except _AWAY as error:
                found = False
                if not is_away:
                    _log.warning("imports_wait", reason=type(error).__name__)
                    is_away = True
            except Exception as error:
                # A fault in one import, or a file that cannot be removed, must not end all others.
                found = False
                _log.error("imports_fault", exc_info=error)
            if not found:
                self.rest(_LOOK_EVERY_SECONDS)

    def run_next(self) -> bool:
        """Run the oldest import that nobody works on; return whether there was one."""
        self._end_leases_of_the_dead()
        with self._database.transaction() as connection:
            waiting = progress_store.list_waiting(driver(connection))
        for import_id in waiting:
            if not self.uploads.holds(import_id):
                continue
            with self._database.transaction() as connection:
                taken = progress_store.take_import(
                    driver(connection), import_id, self.runner_id, self._lease
                )
            if taken is not None:
                self._work(taken)
                return True
        return False

    def _end_leases_of_the_dead(self) -> None:
        """Do not wait for the lease of a process of this machine that is gone.

        Only a spared wait: should a number mean another process by now, the lease runs out.
        """
        with self._database.transaction() as connection:
            for runner_id in progress_store.list_runners(driver(connection)):
                host, _, rest = runner_id.rpartition("/")
                pid = rest.partition("-")[0]
                if host == socket.gethostname() and pid.isdigit() and not pid_exists(int(pid)):
                    progress_store.end_leases(driver(connection), runner_id)

    def _work(self, taken: Import) -> None:
        _log.info("import_runs", import_id=taken.import_id, after=taken.rows)
        hold = Hold(
            self._database, taken, self.runner_id, self._lease, self.stopping, self._log_name
        )
        error: tuple[str, str] | None = None
        with hold:
            try:
                source = self._find_source(taken.source_id)
                if source is None:
                    raise CdpError("source_not_found", "the import's source no longer exists")
                run = Run(taken, source, self.door, self.defaults, hold)
                run.go(self.uploads.path(taken.import_id))
            except Stopping:
                hold.release()
                return
            except NoLongerOurs:
                _log.info("import_ended_elsewhere", import_id=taken.import_id)
                return
            except _AWAY:
                # The lease runs out, and then it goes on.
                raise
            except CdpError as failure:
                error = failure.code, failure.message
            except FileDamaged as failure:
                error = "file_damaged", f"{failure}; what was read before stays"
            except Hopeless as failure:
                error = "nothing_fits", f"{failure}; look at a dry run"
            except Exception as failure:
                _log.error("import_failed", import_id=taken.import_id, exc_info=failure)
                error = "internal_error", "this is a fault of the server; its log says more"
            hold.finish(error)

    def _keep_house(self) -> None:
        """Remove files whose retention is over, and what broken uploads left."""
        if time.monotonic() - self._house_kept_at < _KEEP_HOUSE_SECONDS:
            return
        self._house_kept_at = time.monotonic()
        self.remove_old()

    def remove_old(self) -> None:
        """Remove the files of imports that ended longer ago than the retention."""
        with self._database.transaction() as connection:
            for import_id in store.list_removable(driver(connection), now() - self._retention):
                self.uploads.remove(import_id)
                store.note_removed(driver(connection), import_id)
        old = list(self.uploads.list_abandoned())
        with self._database.transaction() as connection:
            known = store.find_known(driver(connection), old)
        for name in old:
            if name not in known:
                self.uploads.remove(name)
