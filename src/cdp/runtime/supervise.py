"""Keep child processes running: start, relay their output, restart with backoff, end in order.

What the children are, and what must be true before they start, is for ``cdp.cli.up`` to say.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from cdp.errors import SetupError
from cdp.runtime.embedded_postgres import EmbeddedPostgres
from cdp.runtime.run_folder import RunFolder

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
# A child that lived this long was well: the next wait starts small again.
WELL_AFTER_SECONDS = 60.0
CHILD_PATIENCE_SECONDS = 15.0
TICK_SECONDS = 0.1


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start: doubling, reset by a long life. Pure."""

    wait: float = FIRST_WAIT_SECONDS
    start_at: float = 0.0

    def fail(self, now: float, lived: float) -> float:
        """Note an end after ``lived`` seconds; return the seconds to wait from ``now``."""
        if lived >= WELL_AFTER_SECONDS:
            self.wait = FIRST_WAIT_SECONDS
        waiting = self.wait
        self.start_at = now + waiting
        self.wait = min(self.wait * 2, LONGEST_WAIT_SECONDS)
        return waiting


@dataclass(slots=True)
class Child:
    """A program to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    inherited: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)


class Supervisor:
    """Runs children, and an embedded Postgres under them when there is one.

    Everything but the relaying of output happens in the thread that calls it, which must be the
    main thread: children are told by the kernel when the thread that started them ends.
    """

    def __init__(
        self,
        run: RunFolder,
        children: Sequence[Child],
        *,
        postgres: EmbeddedPostgres | None = None,
        prefix: bool = True,
        patience_seconds: float = CHILD_PATIENCE_SECONDS,
    ) -> None:
        """``prefix`` puts the child's name before each line; JSON lines name it themselves.

        ``patience_seconds`` is how long children may take to end before they are killed.
        """
        self._patience = patience_seconds
        self._run = run
        self._children = list(children)
        self._postgres = postgres
        self._postgres_backoff = Backoff()
        self._postgres_since = time.monotonic()
        self._postgres_is_down = False
        self._prefix = prefix
        self._width = max((len(child.name) for child in children), default=0)
        self._was_ready = False
        self._is_ready = False

    def watch(
        self,
        stop: threading.Event,
        *,
        is_ready: Callable[[], bool],
        on_ready: Callable[[], None],
    ) -> None:
        """Keep everything running until ``stop`` is set. ``on_ready`` is called once, the first

        time ``is_ready``. Raises ``SetupError`` when a child gives up (exit 1) before that.
        """
        for child in self._children:
            self._start(child)
        asked_at = 0.0
        while not stop.wait(TICK_SECONDS):
            self._look_after_postgres()
            for child in self._children:
                self._look_after(child)
            if not self._is_ready and self._all_run() and time.monotonic() - asked_at > 0.25:
                asked_at = time.monotonic()
                self._is_ready = is_ready()
                if self._is_ready and self._was_ready:
                    say("everything is ready again")
                elif self._is_ready:
                    self._was_ready = True
                    on_ready()

    def _all_run(self) -> bool:
        """Whether nobody is waiting to be started again; others may answer for the missing."""
        return not self._postgres_is_down and all(child.process for child in self._children)

    def end(self) -> None:
        """End the children together, then Postgres. Takes at most about 30 seconds."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + self._patience
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
        if self._postgres is not None:
            self._postgres.stop()

    def _start(self, child: Child) -> None:
        child.process = subprocess.Popen(
            child.command,
            env=dict(child.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=child.inherited,
            # Ctrl-C reaches the whole terminal group; the order of the end is decided here.
            start_new_session=True,
        )
        child.started_at = time.monotonic()
        child.backoff.start_at = 0.0
        self._run.record(child.name, child.process.pid)
        assert child.process.stdout is not None
        lead = f"{child.name:<{self._width}} | " if self._prefix else ""
        threading.Thread(target=_relay, args=(child.process.stdout, lead), daemon=True).start()

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                return
            if code == 1 and not self._was_ready:
                raise SetupError(f"{child.name} could not start; it says why above")
            child.process = None
            self._is_ready = False
            waiting = child.backoff.fail(now, now - child.started_at)
            say(f"{child.name} {describe_end(code)}; it starts again in {waiting:g} s")
        elif now >= child.backoff.start_at:
            self._start(child)

    def _look_after_postgres(self) -> None:
        if self._postgres is None or self._postgres.is_running():
            return
        now = time.monotonic()
        if not self._postgres_is_down:
            self._postgres_is_down = True
            self._is_ready = False
            waiting = self._postgres_backoff.fail(now, now - self._postgres_since)
            say(f"Postgres ended; it starts again in {waiting:g} s")
        elif now >= self._postgres_backoff.start_at:
            self._postgres_is_down = False
            self._postgres_since = now
            try:
                self._postgres.launch()
            except (SetupError, OSError) as error:
                say(f"Postgres did not start: {error}")
            if self._postgres.pid is not None:
                self._run.record("postgres", self._postgres.pid)


def describe_end(code: int) -> str:
    """Say in words how a process ended, from its return code (negative: a signal)."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def say(text: str) -> None:
    """Tell the operator something: one line on stderr, whoever may have closed it."""
    with contextlib.suppress(OSError, ValueError):
        print(f"cdp: {text}", file=sys.stderr, flush=True)


def _relay(source: IO[bytes], lead: str) -> None:
    with source:
        for line in source:
            # A closed terminal must not stop the child's pipe from being emptied.
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(lead + line.decode("utf-8", "replace"))
                sys.stderr.flush()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send to the child's whole group, so that nothing it started outlives it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
