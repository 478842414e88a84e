"""The thread that looks at what changed for each destination, and the threads that deliver.

One process at a time does both, by a lock that lives as long as its connection. Each destination
has at most one delivery under way, so one that hangs or is gone holds up nobody else.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from cdp.access.personal_names import refresh_choices
from cdp.activation import deliveries_store, destinations_store
from cdp.activation.delivery import Delivery
from cdp.activation.destination import Destination
from cdp.activation.plan_deliveries import People, plan_deliveries
from cdp.activation.retry import Attempt, decide
from cdp.errors import CdpError
from cdp.runtime.clock import now as clock_now
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, driver
from cdp.storage.sole_worker import SoleWorker

_log = get_logger(__name__)
_LOCK = 7263561
_MOST_AT_ONCE = 16
_TIDY_EVERY = timedelta(minutes=10)

Send = Callable[[Destination, Delivery], Attempt]


class DestinationRunner(SoleWorker):
    """Plans and delivers until it is closed; outlives whatever fails."""

    def __init__(
        self,
        database: Database,
        people: People,
        send: Send,
        *,
        retention: timedelta,
        now: Callable[[], datetime] = clock_now,
    ) -> None:
        """``send`` takes one delivery to its destination; ``retention`` is of delivered ones."""
        super().__init__("destinations", database.libpq_url, _LOCK, self.step, keeps=True)
        self._database = database
        self.people = people
        self.send = send
        self._retention = retention
        self._now = now
        self._pool = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="deliver")
        self._under_way: set[str] = set()
        self._changing = threading.Lock()
        self._tidied_at: datetime | None = None

    @property
    def is_delivering(self) -> bool:
        """Whether any delivery is under way."""
        return bool(self._under_way)

    def close(self) -> None:
        """Stop; a delivery under way comes to its end or is sent again by the next process."""
        super().close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def step(self) -> bool:
        """Look at every destination once; return whether there is more to do at once."""
        with self._database.transaction() as connection:
            found = destinations_store.list_destinations(driver(connection))
            # Where no API runs in this process, nobody else reads them.
            refresh_choices(driver(connection))
        active = [one for one in found if one.status == "active"]
        is_more = False
        for destination in active:
            if self.stopping.is_set():
                return False
            is_more |= self._plan(destination.destination_id)
            self._start(destination)
        self._tidy()
        return is_more

    def _plan(self, destination_id: str) -> bool:
        """Plan one destination. What is wrong with one must not stop the others."""
        try:
            with self._database.transaction() as connection:
                tx = driver(connection)
                found = destinations_store.find_destination(tx, destination_id, locked=True)
                if found is None or found.status != "active":
                    return False
                return plan_deliveries(tx, found, self.people, self._now())
        except CdpError as error:
            # DuckDB is being built anew, or a field names what is gone.
            _log.warning("destination_waits", destination=destination_id, reason=error.code)
            return False

    def _start(self, destination: Destination) -> None:
        name = destination.destination_id
        with self._changing:
            if name in self._under_way:
                return
            self._under_way.add(name)
        try:
            self._pool.submit(self._deliver, destination)
        except RuntimeError:  # Closed meanwhile.
            self._under_way.discard(name)

    def _deliver(self, destination: Destination) -> None:
        """Deliver what is due, one after the other, until nothing is or something fails."""
        try:
            while not self.stopping.is_set() and self._deliver_next(destination.destination_id):
                pass
        except Exception as error:
            _log.error("delivery_failed", destination=destination.destination_id, exc_info=error)
        finally:
            with self._changing:
                self._under_way.discard(destination.destination_id)

    def _deliver_next(self, destination_id: str) -> bool:
        with self._database.transaction() as connection:
            tx = driver(connection)
            # As it is now: its address may have been changed because nothing arrived.
            destination = destinations_store.find_destination(tx, destination_id)
            if destination is None or destination.status != "active":
                return False
            delivery = deliveries_store.find_next(tx, destination_id, self._now())
        if delivery is None:
            return False
        # Whoever it was about was deleted meanwhile.
        attempt = self.send(destination, delivery) if delivery.rows else Attempt(True)
        self._note(destination, delivery, attempt)
        return attempt.is_delivered

    def _note(self, destination: Destination, delivery: Delivery, attempt: Attempt) -> None:
        moment = self._now()
        with self._database.transaction() as connection:
            tx = driver(connection)
            if attempt.is_delivered:
                deliveries_store.note_attempt(
                    tx, delivery.delivery_id, attempt, moment, status="delivered"
                )
                return
            verdict = decide(
                attempt,
                delivery.attempts + 1,
                delivery.first_attempt_at or moment,
                moment,
                random.random(),
            )
            is_over = verdict.kind == "pause"
            deliveries_store.note_attempt(
                tx,
                delivery.delivery_id,
                attempt,
                moment,
                status="failed" if is_over else "queued",
                again_at=None if is_over else verdict.at,
            )
            if is_over:
                destinations_store.set_status(
                    tx, destination.destination_id, "paused", verdict.reason
                )
        if is_over:
            _log.error("destination_paused", destination=destination.destination_id)

    def _tidy(self) -> None:
        moment = self._now()
        if self._tidied_at is not None and moment - self._tidied_at < _TIDY_EVERY:
            return
        self._tidied_at = moment
        with self._database.transaction() as connection:
            deliveries_store.drop_delivered(driver(connection), moment - self._retention)
