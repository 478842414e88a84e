"""The real program, ``cdp up``, as a child process for tests to use, signal and kill."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

READY = "cdp is ready"


class Running:
    """One ``cdp up`` on a data folder and a free port. Output is kept for messages of failures."""

    def __init__(self, folder: Path, **variables: str) -> None:
        """Start it; ``variables`` are added to an environment without ``CDP_`` ones."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CDP_")}
        given = {"CDP_DATA_DIR": str(folder), "CDP_PORT": "0", **variables}
        self.folder = folder
        self.output: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cdp", "up"],
            env={**kept, **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as source:
            for line in source:
                self.output.append(line)
                self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, text: str, *, seconds: float = 120) -> None:
        """Read on until a line holds ``text``; fails with everything that was said."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"{text!r} was never said, but:\n{''.join(self.output)}")
            if text in line:
                return

    @property
    def credentials(self) -> dict[str, str]:
        """What ``credentials.json`` says."""
        document: dict[str, str] = json.loads((self.folder / "credentials.json").read_text())
        return document

    def child(self, name: str) -> psutil.Process:
        """The child process called ``name`` now."""
        run = json.loads((self.folder / "run.json").read_text())
        pid = next(child["pid"] for child in run["children"] if child["name"] == name)
        return psutil.Process(pid)

    def family(self) -> list[psutil.Process]:
        """Every process that runs under this one, itself included."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def post(self, document: dict[str, Any], kind: str = "identify") -> dict[str, Any]:
        """Post one call with the first write key; return the answer."""
        answer = httpx.post(
            f"{self.credentials['url']}/v1/{kind}",
            json=document,
            auth=(self.credentials["write_key"], ""),
            timeout=30,
        )
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def get(self, path: str, **params: str) -> httpx.Response:
        """Ask the API with the admin token."""
        headers = {"Authorization": f"Bearer {self.credentials['token']}"}
        return httpx.get(
            f"{self.credentials['url']}{path}", params=params, headers=headers, timeout=60
        )

    def is_ready(self) -> bool:
        """Whether everything answers now."""
        try:
            url = f"{self.credentials['url']}/health/ready"
            return httpx.get(url, timeout=5).status_code == 200
        except (httpx.HTTPError, OSError):
            return False

    def close(self) -> None:
        """End it and everything under it, by force if need be."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                for process in reversed(self.family()):
                    process.kill()
                self.process.wait()
