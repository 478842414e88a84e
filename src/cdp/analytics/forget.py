"""Whether DuckDB's file may still hold what was erased: remembered beside it, for every process

that has a file of its own.
"""

from __future__ import annotations

from pathlib import Path

from cdp.analytics.engine import Engine

_DRAIN_SECONDS = 20.0


class Forgetting:
    """Writes the file anew once for all that was erased up to a batch. For one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mark = Path(f"{engine.path}.forgot")

    def forget(self, seq: int) -> bool:
        """Let nothing be in the file that was erased up to batch ``seq``; return whether it is so.

        False as long as the file has not come to that batch, or somebody reads for too long.
        """
        if self._done() >= seq:
            return True
        reached = self._engine.applied_seq()
        if reached < seq or not self._engine.compact(seconds=_DRAIN_SECONDS):
            return False
        self._mark.write_text(str(reached))
        return True

    def _done(self) -> int:
        try:
            return int(self._mark.read_text())
        except (OSError, ValueError):
            return 0
