"""A thread that carries out what was asked of privacy, one process at a time."""

from __future__ import annotations

from collections.abc import Callable

from cdp.storage.sole_worker import SoleWorker

_LOCK = 7263560


class PrivacyRunner(SoleWorker):
    """Goes on with the step that is written down."""

    def __init__(
        self, libpq_url: str, work: Callable[[], bool], look: Callable[[], None] = lambda: None
    ) -> None:
        """``work`` returns whether there is more to do at once; ``look`` is called everywhere."""
        super().__init__("privacy", libpq_url, _LOCK, work, look)
