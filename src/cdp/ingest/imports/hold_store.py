"""The hold of a runner on one import: its lease, kept while it runs, and its checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from cdp.ingest.imports import progress_store as store
from cdp.ingest.imports.imports_store import Import, find_import
from cdp.ingest.imports.progress_store import Checkpoint
from cdp.runtime.error_answers import DATABASE_ERRORS
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, driver
from cdp.storage.positions import read_positions

_log = get_logger(__name__)
_AWAY = DATABASE_ERRORS


class NoLongerOurs(Exception):
    """The import was cancelled, or somebody else took it over."""


class Stopping(Exception):
    """This process is ending; the import goes back into the queue."""


class Hold:
    """Keeps the lease of one import while it runs, and writes its checkpoints."""

    def __init__(
        self,
        database: Database,
        taken: Import,
        runner_id: str,
        lease_seconds: float,
        stop: threading.Event,
        log_name: str,
    ) -> None:
        self._database = database
        self._id = taken.import_id
        self._runner = runner_id
        self._lease = lease_seconds
        self._stop = stop
        self._log_name = log_name
        self._waiting: str | None = None
        self._is_lost = threading.Event()
        self._is_over = threading.Event()
        self._beat = threading.Thread(target=self._renew, name="import-lease", daemon=True)

    def __enter__(self) -> Hold:
        self._beat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._beat.join()

    def _renew(self) -> None:
        while not self._is_over.wait(self._lease / 4):
            try:
                with self._database.transaction() as connection:
                    is_ours = store.renew_lease(
                        driver(connection), self._id, self._runner, self._lease, self._waiting
                    )
            except _AWAY:
                continue
            if not is_ours and not self._is_over.is_set():
                self._is_lost.set()
                return

    def _expect_ours(self) -> None:
        if self._is_lost.is_set():
            raise NoLongerOurs
        if self._stop.is_set():
            raise Stopping

    def checkpoint(self, done: Checkpoint) -> None:
        """Count a chunk, however long Postgres is away."""
        seconds = 0.5
        while True:
            try:
                with self._database.transaction() as connection:
                    is_counted = store.write_checkpoint(
                        driver(connection), self._id, self._runner, self._lease, done
                    )
                break
            except _AWAY as error:
                _log.warning("import_waits", reason=type(error).__name__, seconds=seconds)
                self.wait("postgres", seconds)
                seconds = min(10.0, 2 * seconds)
        if not is_counted and not self._was_counted(done):
            raise NoLongerOurs
        self._waiting = None
        self._expect_ours()

    def _was_counted(self, done: Checkpoint) -> bool:
        """Return whether the connection broke after the checkpoint had been committed."""
        with self._database.transaction() as connection:
            found = find_import(driver(connection), self._id)
        return found.runner_id == self._runner and found.rows == done.rows

    def wait(self, reason: str, seconds: float) -> None:
        """Wait, saying for what."""
        self._waiting = reason
        self._expect_ours()
        self._stop.wait(seconds)
        self._expect_ours()

    def read_positions(self) -> Mapping[int, int]:
        """Return how far the worker has come; nothing while Postgres is away."""
        try:
            with self._database.transaction() as connection:
                return read_positions(driver(connection), self._log_name)
        except _AWAY:
            return {}

    def release(self) -> None:
        """Let others go on at once."""
        self._is_over.set()
        with self._database.transaction() as connection:
            store.release_import(driver(connection), self._id, self._runner)

    def finish(self, error: tuple[str, str] | None) -> None:
        """Write down how it ended."""
        self._is_over.set()
        with self._database.transaction() as connection:
            store.finish_import(driver(connection), self._id, self._runner, error)
        _log.info("import_ended", import_id=self._id, error=error and error[0])
