"""A process that runs an import and kills itself at a place of a test's choosing.

python -m tests.support.import_and_die DATABASE_URL FOLDER STEP

A step is an append, or a checkpoint; the process dies in the middle of step number STEP: once the
append is durable, or once the checkpoint is committed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from cdp.ingest.imports import chunks, progress_store
from cdp.storage.database import Database
from tests.support.import_desk import ImportDesk

CHUNK_ROWS = 300


class Countdown:
    """Ends this process as ``kill -9`` does when its steps are used up."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self) -> None:
        """Take one step."""
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


class CountedLog:
    """A log whose appends are steps."""

    def __init__(self, log: Any, countdown: Countdown) -> None:
        self._log, self._countdown = log, countdown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, records: Any) -> Any:
        done = self._log.append(records)
        done.result(30)
        self._countdown.step()
        return done


def run(url: str, folder: Path, steps: int) -> None:
    """Run what waits; the checkpoint's transaction is committed by the next one's beginning."""
    chunks.CHUNK_ROWS = CHUNK_ROWS
    countdown = Countdown(steps)
    take_on = progress_store.write_checkpoint

    def write_checkpoint(*arguments: Any) -> bool:
        countdown.step()
        return take_on(*arguments)

    progress_store.write_checkpoint = write_checkpoint
    desk = ImportDesk(Database(url), folder)
    desk.make_runner(CountedLog(desk.log, countdown)).run_next()


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
