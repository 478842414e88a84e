"""Who read unmasked personal values: noticed around the routes, written in the background.

A route that shows personal values says whose (``note_person``) or how many (``note_people``);
around all of them stands ``WatchReads``, which knows who asked. A read is one entry, however much
it brings; of a stream the rows count that went out. Entries wait in memory for at most a second, so
a process that is killed loses that second's; one that stops in order loses none.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cdp.access.audit_store import PERSONAL_READ, Entry, record_many
from cdp.access.guard import ROUTE
from cdp.access.scopes import Caller
from cdp.runtime.clock import now as clock_now
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, driver
from cdp.storage.listening import DATABASE_ERRORS

_log = get_logger(__name__)

FLUSH_SECONDS = 1.0
_MOST_WAITING = 50_000
_MOST_AT_ONCE = 5_000

# Routes that answer with people's values though they name no person.
_PERSONAL = (
    "/v1/profiles/{p}", "/v1/orders/", "/v1/accounts/", "/v1/query", "/v1/segments/preview",
    "/v1/segments/{key}/members", "/v1/rejected", "/v1/identity/refused", "/v1/identity/hot",
    "/v1/identity/suggestions", "/v1/identity/decisions", "/v1/identity/dry-run",
    "/v1/imports/{import_id}/rejected", "/v1/destinations/{destination_id}/dry-run",
    "/v1/plan/observed", "/v1/sources/{source_id}/live",
    "/v1/export/",
)  # fmt: skip


@dataclass(slots=True)
class _Note:
    profile_id: str | None = None
    count: int | None = None
    is_harmless: bool = False


_note: ContextVar[_Note | None] = ContextVar("read", default=None)


def note_person(profile_id: str) -> None:
    """Say that this answer shows the person with this id."""
    note = _note.get()
    if note is not None:
        note.profile_id = profile_id


def note_people(count: int) -> None:
    """Say that this answer shows so many people (more), or so many rows about people."""
    note = _note.get()
    if note is not None:
        note.count = (note.count or 0) + count


def note_nothing_personal() -> None:
    """Say that this answer shows no personal value, whoever asks."""
    note = _note.get()
    if note is not None:
        note.is_harmless = True


class WatchReads:
    """Inside ``Guard``: tells ``keep`` of every answer with unmasked personal values."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keep: Callable[[Entry], None],
        now: Callable[[], datetime] = clock_now,
    ) -> None:
        self._app = app
        self._keep = keep
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller | None = scope.get("state", {}).get("caller")
        if scope["type"] != "http" or caller is None or not caller.sees_personal:
            await self._app(scope, receive, send)
            return
        note = _Note()
        token = _note.set(note)
        is_shown = False

        async def watch(message: Message) -> None:
            nonlocal is_shown
            if message["type"] == "http.response.start":
                is_shown = 200 <= message["status"] < 300
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            _note.reset(token)
            entry = self._describe(scope.get(ROUTE, ""), caller, note) if is_shown else None
            if entry is not None:
                self._keep(entry)

    def _describe(self, route: str, caller: Caller, note: _Note) -> Entry | None:
        is_noted = note.profile_id is not None or note.count is not None
        if note.is_harmless or not (is_noted or route.startswith(_PERSONAL)):
            return None
        details: dict[str, object] = {"route": route}
        if note.count is not None:
            details["count"] = note.count
        subject = note.profile_id or "people"
        return Entry(self._now(), caller.actor, PERSONAL_READ, subject, details)


class ReadAudit:
    """Keeps entries and writes them about once a second. ``keep`` never blocks. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[Entry] = deque()
        self._lost = 0
        self._stopping = threading.Event()
        self._flushing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="read-audit", daemon=True)

    def start(self) -> None:
        """Write from now on."""
        self._thread.start()

    def keep(self, entry: Entry) -> None:
        """Have ``entry`` written. When Postgres is away for long, only how many is kept."""
        if len(self._waiting) >= _MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(entry)

    def flush(self) -> None:
        """Write what waits. Raises what Postgres raises; nothing is lost by that."""
        with self._flushing:
            while self._waiting:
                entries = [self._waiting[i] for i in range(min(_MOST_AT_ONCE, len(self._waiting)))]
                self._write(entries)
                for _ in entries:
                    self._waiting.popleft()
            if self._lost:
                lost, details = self._lost, {"count": self._lost}
                self._write([Entry(clock_now(), "cdp", "reads_not_recorded", "people", details)])
                self._lost -= lost

    def close(self) -> None:
        """Write what waits and stop."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self._try()

    def _run(self) -> None:
        while not self._stopping.wait(FLUSH_SECONDS):
            self._try()

    def _try(self) -> None:
        try:
            self.flush()
        except DATABASE_ERRORS as error:
            _log.warning("read_audit_waits", reason=type(error).__name__)

    def _write(self, entries: Sequence[Entry]) -> None:
        with self._database.transaction() as connection:
            record_many(driver(connection), entries)
