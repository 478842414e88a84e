"""Postgres from a wheel, run as a child of this process on a folder of its own.

The server is started directly rather than through ``pg_ctl``: its end is then seen at once, a long
crash recovery is waited for, and nothing registers itself to be stopped at interpreter exit.
Whoever holds the data folder's lock may start one; two on one folder are prevented by Postgres.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from cdp.errors import SetupError
from cdp.runtime.logs import get_logger
from cdp.runtime.postgres_folder import (
    PostgresAccount,
    open_path,
    prepare_folder,
    server_program,
)
from cdp.runtime.run_folder import is_alive, wait_for_end
from cdp.runtime.stop import StopRequested, die_with_parent

_log = get_logger(__name__)

DATABASE = "cdp"
_SOCKET_NAME = ".s.PGSQL.5432"
# The kernel's limit for a socket's path is 107 bytes on Linux and 103 on macOS.
_LONGEST_SOCKET_PATH = 100
_LOG_BYTES = 4 * 1024 * 1024


class EmbeddedPostgres:
    """One Postgres server on ``folder``. Start it from a thread that lives as long as the server:

    on Linux the kernel ends the server when the thread that started it ends, ``kill -9`` included.
    """

    def __init__(self, folder: Path) -> None:
        """``folder`` holds the cluster and is made when missing; nothing is started yet."""
        self.folder = folder.absolute()
        self._account = PostgresAccount.find()
        self._child: subprocess.Popen[bytes] | None = None
        self._adopted: psutil.Process | None = None

    @property
    def url(self) -> str:
        """The URL of the product's database; the same before and after a restart."""
        host = quote(str(self._socket_folder()), safe="")
        return f"postgresql://postgres@/{DATABASE}?host={host}"

    @property
    def pid(self) -> int | None:
        """The server's process id, or ``None`` when none was started or adopted here."""
        if self._child is not None:
            return self._child.pid
        return self._adopted.pid if self._adopted is not None else None

    def start(
        self,
        *,
        wait_seconds: float = 600,
        say: Callable[[str], None] | None = None,
        stop: threading.Event | None = None,
    ) -> str:
        """Return the URL of a server that answers: an adopted one, or a new one.

        ``wait_seconds`` bounds the wait for a leftover's shutdown and for crash recovery each;
        ``say`` is told when it takes long. Raises ``SetupError`` when the server cannot start,
        ``StopRequested`` when ``stop`` is set before it is ready.
        """
        prepare_folder(self.folder, self._account)
        deadline = time.monotonic() + wait_seconds
        leftover = self._find_server()
        if leftover is not None and self._wait_for_leftover(leftover, deadline):
            self._adopted = leftover
            _log.info("postgres_adopted", pid=leftover.pid)
        else:
            self.launch()
            self._wait_until_ready(time.monotonic() + wait_seconds, say, stop)
        self._ensure_database()
        return self.url

    def is_running(self) -> bool:
        """Whether the server that was started or adopted here lives."""
        if self._child is not None:
            return self._child.poll() is None
        return self._adopted is not None and is_alive(self._adopted)

    def stop(self, *, wait_seconds: float = 8) -> None:
        """End the server and everything it started; returns when no process is left."""
        # Fast shutdown first; then immediate, after which the next start replays the log.
        for number, patience in ((signal.SIGINT, wait_seconds), (signal.SIGQUIT, 3.0)):
            if not self.is_running():
                break
            self._signal(number)
            self._wait_for_end(patience)
        if self.is_running():
            self._signal(signal.SIGKILL)
            self._wait_for_end(5.0)
        self._child = self._adopted = None
        self._end_stragglers()
        if self._socket_folder() != self.folder:
            shutil.rmtree(self._socket_folder(), ignore_errors=True)

    # ── Starting ────────────────────────────────────────────────────────────────────────────────

    def launch(self) -> None:
        """Start the server on a folder that is made, without waiting until it answers."""
        self._end_stragglers()
        self._adopted = None
        sockets = self._socket_folder()
        if sockets != self.folder:
            self._make_socket_folder(sockets)
        log = self.folder / "server.log"
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [str(server_program("postgres")), "-D", str(self.folder), "-k", str(sockets)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                # Its own session: Ctrl-C on a terminal must reach the supervisor only, which ends
                # the server after those that use it.
                start_new_session=True,
                preexec_fn=_end_with_parent,
                env=_server_environment(),
                **self._account.popen_options(),
            )

    def _wait_until_ready(
        self, deadline: float, say: Callable[[str], None] | None, stop: threading.Event | None
    ) -> None:
        started = time.monotonic()
        told = started
        while time.monotonic() < deadline:
            if self._child is not None and self._child.poll() is not None:
                raise SetupError(f"Postgres did not start: {self._last_words()}")
            if self._answers():
                return
            if stop is not None and stop.is_set():
                self.stop()
                raise StopRequested
            if say is not None and time.monotonic() - told > 5:
                told = time.monotonic()
                say(f"Postgres is recovering, {told - started:.0f} s so far")
            time.sleep(0.05)
        raise SetupError(f"Postgres was not ready in time; {self.folder / 'server.log'} says why")

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self._maintenance_url(), connect_timeout=5):
                return True
        except psycopg.OperationalError:
            return False

    def _ensure_database(self) -> None:
        with psycopg.connect(self._maintenance_url(), autocommit=True) as connection:
            known = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
            ).fetchone()
            if known is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _maintenance_url(self) -> str:
        return self.url.replace(f"/{DATABASE}?", "/postgres?", 1)

    def _last_words(self) -> str:
        try:
            lines = (self.folder / "server.log").read_text(errors="replace").splitlines()
        except OSError:
            return "it left no log"
        telling = [line for line in lines[-40:] if "FATAL" in line or "PANIC" in line]
        return (telling or lines or ["it left no log"])[-1].strip()

    # ── Sockets ─────────────────────────────────────────────────────────────────────────────────

    def _socket_folder(self) -> Path:
        if len(os.fsencode(self.folder / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH:
            return self.folder
        mark = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"cdp-{mark}"

    def _make_socket_folder(self, sockets: Path) -> None:
        sockets.mkdir(mode=0o700, exist_ok=True)
        owner = sockets.lstat().st_uid
        # The name can be guessed, so somebody else may have made the folder first.
        if sockets.is_symlink() or owner not in (os.geteuid(), self._account.uid):
            raise SetupError(f"{sockets} belongs to somebody else; remove it or set TMPDIR")
        self._account.own(sockets)
        sockets.chmod(0o700)
        open_path(sockets, self._account)

    # ── Leftovers ───────────────────────────────────────────────────────────────────────────────

    def _find_server(self) -> psutil.Process | None:
        """The live postmaster of this folder, if ``postmaster.pid`` names one."""
        try:
            pid = int((self.folder / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
        except (OSError, ValueError, psutil.Error):
            return None
        # The number may have gone to another program since.
        return process if self._works_here(process) else None

    def _wait_for_leftover(self, server: psutil.Process, deadline: float) -> bool:
        """Whether the leftover ends up answering; false once it is gone."""
        while time.monotonic() < deadline and is_alive(server):
            if self._answers():
                return True
            time.sleep(0.1)
        if is_alive(server):
            server.kill()
            wait_for_end([server], seconds=5)
        return False

    def _end_stragglers(self) -> None:
        """End what a killed postmaster left in this folder, then drop its stale lock files.

        Postgres trusts a lock file whose number belongs to any live process of the same user;
        without the stragglers the files say nothing.
        """
        stragglers = [process for process in psutil.process_iter() if self._works_here(process)]
        for process in wait_for_end(stragglers, seconds=3):
            process.kill()
        wait_for_end(stragglers, seconds=5)
        for stale in (
            self.folder / "postmaster.pid",
            self._socket_folder() / _SOCKET_NAME,
            self._socket_folder() / f"{_SOCKET_NAME}.lock",
        ):
            stale.unlink(missing_ok=True)

    def _works_here(self, process: psutil.Process) -> bool:
        try:
            return (
                process.name().startswith("postgres")
                and is_alive(process)
                and (Path(process.cwd()) == self.folder.resolve())
            )
        except (psutil.Error, OSError):
            return False

    # ── Ending ──────────────────────────────────────────────────────────────────────────────────

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is not None and self.is_running():
            os.kill(pid, number)

    def _wait_for_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.is_running() and time.monotonic() < deadline:
            time.sleep(0.02)


def _server_environment() -> dict[str, str]:
    # Whatever PG* variables the user has are meant for clients of other servers.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _end_with_parent() -> None:
    # Runs in the child, after it has taken its user: a change of user clears the request.
    die_with_parent(signal.SIGINT)
