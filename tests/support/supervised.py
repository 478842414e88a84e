"""A supervisor over two small children, as a program of its own for tests to signal and kill.

Usage: ``python -m tests.support.supervised FOLDER``. Children write their number to
``FOLDER/<name>.pid`` each time they start; ``ready`` is printed once both have.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

from cdp.errors import SetupError
from cdp.runtime.run_folder import claim_folder
from cdp.runtime.stop import stop_on_signals
from cdp.runtime.supervise import Child, Supervisor, say

_CHILD = """
import os, signal, sys, time
from pathlib import Path
from cdp.runtime.stop import follow_parent
follow_parent(int(sys.argv[2]))
if "stubborn" in sys.argv[1]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "refuses" in sys.argv[1]:
    print("error: the moon is missing", flush=True)
    sys.exit(1)
Path(sys.argv[1]).write_text(str(os.getpid()))
print("hello", flush=True)
time.sleep(600)
"""


def main(folder: Path, names: list[str]) -> None:
    """Supervise children called ``names`` until told to stop."""

    def pid_file(name: str) -> Path:
        return folder / f"{name}.pid"

    def runs(name: str) -> bool:
        return pid_file(name).exists() and psutil.pid_exists(int(pid_file(name).read_text() or 0))

    with stop_on_signals() as stop, claim_folder(folder) as run:
        for left in run.end_leftovers():
            say(f"ended {left}")
        children = [
            Child(
                name,
                [sys.executable, "-c", _CHILD, str(pid_file(name)), str(os.getpid())],
                dict(os.environ),
            )
            for name in names
        ]
        supervisor = Supervisor(run, children, patience_seconds=2)
        try:
            supervisor.watch(
                stop,
                is_ready=lambda: all(map(runs, names)),
                on_ready=lambda: print("ready", flush=True),
            )
        finally:
            supervisor.end()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2:])
    except SetupError as error:
        say(str(error))
        sys.exit(1)
