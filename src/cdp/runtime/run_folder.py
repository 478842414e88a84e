"""Who runs on a data folder: one supervisor at a time, and the processes it has started.

``run.lock`` is held by the kernel for as long as the supervisor lives, so it cannot go stale.
``run.json`` says who holds it and what to clear away after a ``kill -9``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cdp.errors import SetupError
from cdp.runtime.clock import format_time, now

# Start times are reckoned from the boot time, which moves a little when the clock is set.
_SAME_START_SECONDS = 2.0


@dataclass(slots=True)
class RunFolder:
    """A data folder that this process holds the lock of."""

    folder: Path
    url: str = ""
    database_url: str = ""
    _children: dict[str, int] = field(default_factory=dict)

    def record(self, name: str, pid: int) -> None:
        """Remember that the child ``name`` runs as ``pid``."""
        self._children[name] = pid
        self.save()

    def save(self) -> None:
        """Write ``run.json``, whole or not at all."""
        children = [
            {"name": name, "pid": pid, "started": started}
            for name, pid in self._children.items()
            if (started := _start_of(pid)) is not None
        ]
        document = {
            "pid": os.getpid(),
            "since": format_time(now()),
            "url": self.url,
            "database_url": self.database_url,
            "children": children,
        }
        write_private(self.folder / "run.json", document)

    def end_leftovers(self) -> list[str]:
        """End the children of a run that was killed; return their names."""
        left: list[tuple[str, psutil.Process]] = []
        for child in read_run(self.folder).get("children", []):
            process = _find(int(child["pid"]), float(child["started"]))
            if process is not None:
                left.append((str(child["name"]), process))
        processes = [process for _, process in left]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in wait_for_end(processes, seconds=10):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_for_end(processes, seconds=5)
        return [name for name, _ in left]

    def clear(self) -> None:
        """Forget the run, after a clean stop."""
        (self.folder / "run.json").unlink(missing_ok=True)


@contextmanager
def claim_folder(folder: Path) -> Iterator[RunFolder]:
    """Hold the lock of ``folder``, making the folder when missing.

    Raises ``SetupError`` when it is not writable or another run holds it, saying who.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "run.lock").open("a+")
    except OSError as error:
        raise SetupError(
            f"the data folder {folder} is not writable ({error.strerror}); "
            "set CDP_DATA_DIR to a folder that is"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SetupError(_describe_holder(folder)) from error
        yield RunFolder(folder)


def read_run(folder: Path) -> dict[str, Any]:
    """Return what ``run.json`` of ``folder`` says, or nothing when there is none."""
    try:
        document = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def write_private(path: Path, document: dict[str, Any]) -> None:
    """Write JSON to ``path`` for the owner only (mode 0600), whole or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps(document, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def is_alive(process: psutil.Process) -> bool:
    """Whether ``process`` still does anything; one that only waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_for_end(processes: Sequence[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Wait at most ``seconds``; return those of ``processes`` that are still alive."""
    deadline = time.monotonic() + seconds
    alive = [process for process in processes if is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [process for process in alive if is_alive(process)]
    return alive


def _describe_holder(folder: Path) -> str:
    run = read_run(folder)
    if not run.get("pid"):
        return f"another cdp is using {folder}; stop it, or set CDP_DATA_DIR to another folder"
    where = f" at {run['url']}" if run.get("url") else ""
    return (
        f"cdp already runs on {folder}: process {run['pid']}{where}; "
        f"stop it with `kill {run['pid']}`, or set CDP_DATA_DIR and CDP_PORT for a second one"
    )


def _start_of(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def _find(pid: int, started: float) -> psutil.Process | None:
    """The process ``pid`` if it is still the one that started then, not a later bearer."""
    found = _start_of(pid)
    if found is None or abs(found - started) > _SAME_START_SECONDS:
        return None
    return psutil.Process(pid)
