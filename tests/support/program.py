"""The real program: ``cdp up`` on an empty folder, on a free port, with what it says kept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.accounting import check_accounting

START_SECONDS = 90


def find_free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Program:
    """A running ``cdp up``."""

    data_dir: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    checks_accounting: bool = True

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """All that it has said so far."""
        path = self.data_dir.parent / "output.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def credentials(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.data_dir / "credentials.json").read_text())
        return found

    @property
    def full_environment(self) -> dict[str, str]:
        """What its processes, and the commands a test runs, see."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("CDP_")}
        return {
            **inherited,
            "CDP_DATA_DIR": str(self.data_dir),
            "CDP_PORT": str(self.port),
            **self.environment,
        }

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        with (self.data_dir.parent / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cdp", "up"],
                env=self.full_environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.wait_until_ready()

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait for ``/health/ready``; fail with what the program said when it does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health/ready", timeout=2).status_code == 200:
                    return
            if self.process is not None and self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"not ready after {seconds} s; it said:\n{self.output[-6000:]}")

    def stop(self, seconds: float = 40) -> int:
        """SIGTERM, as an operator would; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def children(self) -> list[psutil.Process]:
        """Every process below the supervisor."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def find_child(self, word: str) -> psutil.Process:
        """The child of the supervisor whose command line has ``word`` in it (serve, worker)."""
        for child in self.children():
            with contextlib.suppress(psutil.Error):
                if word in child.cmdline():
                    return child
        raise AssertionError(f"no {word} among {self.children()}")

    def kill_everything(self) -> None:
        """What a power cut leaves: nothing running, nothing tidied up."""
        assert self.process is not None
        processes = [*self.children(), psutil.Process(self.process.pid)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def client(self, **headers: str) -> httpx.Client:
        """A client of the API with the first token."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.credentials['token']}", **headers},
            timeout=30,
        )

    def post(self, path: str, body: Any, *, write_key: str | None = None) -> dict[str, Any]:
        """Post to an ingest route with the first write key; the answer, which must be 200."""
        key = write_key or self.credentials["write_key"]
        answer = httpx.post(f"{self.url}{path}", json=body, auth=(key, ""), timeout=30)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def wait_for(self, receipt: str, what: str = "analytics", seconds: float = 30) -> None:
        """Wait until what the receipt stands for is visible in ``profiles`` or ``analytics``."""
        deadline = time.monotonic() + seconds
        with self.client() as client:
            while time.monotonic() < deadline:
                state = client.get(f"/v1/receipts/{receipt}", params={"wait": "5s"}).json()
                if state[what]:
                    return
        raise AssertionError(f"{receipt} not in {what} after {seconds} s: {self.output[-3000:]}")

    def run(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a ``cdp`` command against it."""
        return subprocess.run(
            [sys.executable, "-m", "cdp", *arguments],
            env=self.full_environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


@contextlib.contextmanager
def run_program(folder: Path, environment: dict[str, str] | None = None) -> Iterator[Program]:
    """``cdp up`` in ``folder``; ended, with everything it started, when the block ends.

    If it still runs then, the accounts of all its sources must balance, unless the block says by
    ``checks_accounting`` that it broke them on purpose.
    """
    program = Program(folder / "data", find_free_port(), environment or {})
    program.start()
    try:
        yield program
        if program.checks_accounting and program.is_running:
            with program.client() as client:
                check_accounting(client)
    finally:
        if program.process is not None and program.process.poll() is None:
            try:
                program.stop()
            except subprocess.TimeoutExpired:
                program.kill_everything()
