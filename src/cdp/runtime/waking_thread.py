"""A thread of its own for work that waits in a queue, and that somebody may call to it at once."""

from __future__ import annotations

import threading

_CLOSE_SECONDS = 12.0


class WakingThread:
    """Runs ``run`` from ``start`` to ``close``; ``run`` looks at ``stopping`` and ``rest``s."""

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def run(self) -> None:
        """Work until ``stopping`` is set."""
        raise NotImplementedError

    def start(self) -> None:
        """Work from now on."""
        self._thread.start()

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    def rest(self, seconds: float) -> None:
        """Wait until somebody wakes this thread, at most ``seconds``."""
        self._wake.wait(seconds)
        self._wake.clear()

    def close(self) -> None:
        """Stop after the step under way; what is left is the next process's."""
        self.stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)
