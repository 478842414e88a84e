"""Follow something in Postgres that changes rarely: word of a change comes by its channel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import sqlalchemy as sa

from cdp.runtime.logs import get_logger
from cdp.storage.database import Database

DATABASE_ERRORS = (sa.exc.SQLAlchemyError, psycopg.Error)

_LOOK_AGAIN_SECONDS = 10.0
_RECONNECT_SECONDS = 1.0
_STOP_SECONDS = 0.2

_log = get_logger(__name__)


class ChannelFollower:
    """Calls ``refresh`` at once, after every change, and now and then. Outlives Postgres' absence.

    ``name`` is what is followed, in logs; ``channel`` is notified in the transaction that changes
    it. ``refresh`` may raise what Postgres raises: it is called again. ``do_beside``, which may
    too, is called some times a second.
    """

    def __init__(
        self,
        database: Database,
        channel: str,
        name: str,
        refresh: Callable[[], None],
        do_beside: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._channel = channel
        self._name = name
        self._refresh = refresh
        self._do_beside = do_beside
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)

    def start(self) -> None:
        """Refresh, then go on from a thread; tolerates that Postgres is away."""
        try:
            self._refresh()
        except DATABASE_ERRORS as error:
            _log.warning(f"{self._name}_not_loaded", reason=type(error).__name__)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * _RECONNECT_SECONDS)

    def _follow(self) -> None:
        is_away = False
        while not self._stop.is_set():
            try:
                for _ in self._wait_for_changes():
                    self._refresh()
                    if is_away:
                        _log.info(f"{self._name}_followed_again")
                        is_away = False
            except DATABASE_ERRORS as error:
                # Once: an outage of an hour is one thing to know, not thousands.
                if not is_away:
                    _log.warning(f"{self._name}_not_followed", reason=type(error).__name__)
                    is_away = True
                self._stop.wait(_RECONNECT_SECONDS)

    def _wait_for_changes(self) -> Iterator[None]:
        """Yield after connecting, after each change, and now and then."""
        with psycopg.connect(
            self._database.libpq_url,
            autocommit=True,
            application_name=f"cdp-{self._name}",
            connect_timeout=5,
        ) as connection:
            connection.execute(f"LISTEN {self._channel}")
            yield
            quiet_since = time.monotonic()
            while not self._stop.is_set():
                changed = any(
                    True for _ in connection.notifies(timeout=_STOP_SECONDS, stop_after=1)
                )
                self._do_beside()
                if changed or time.monotonic() - quiet_since > _LOOK_AGAIN_SECONDS:
                    yield
                    quiet_since = time.monotonic()
