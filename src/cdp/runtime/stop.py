"""Being asked to stop: signals, and the death of the process that started this one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_PR_SET_PDEATHSIG = 1
_prctl: Callable[[int, int], int] | None = (
    ctypes.CDLL(None).prctl if sys.platform == "linux" else None
)


class StopRequested(Exception):
    """Raised out of a long start when somebody asked to stop meanwhile."""


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set. Main thread only; handlers are put back."""
    stop = threading.Event()

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel to send this process ``number`` when the thread that started it ends.

    Linux only (prctl(2), PR_SET_PDEATHSIG); elsewhere it does nothing. Safe after a fork.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, number)


def follow_parent(parent: int) -> None:
    """End this process by SIGTERM when process ``parent``, which started it, is gone.

    The kernel sees to it on Linux; elsewhere a thread looks every second.
    """
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        # It died before the kernel was asked.
        os.kill(os.getpid(), signal.SIGTERM)
    if _prctl is None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
