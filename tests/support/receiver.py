"""A receiver of webhooks on this machine, that answers as it is told and keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The key of idempotency."""
        return self.headers["webhook-id"]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What it says of people."""
        rows: list[dict[str, Any]] = json.loads(self.body)["data"]["rows"]
        return rows


@dataclass
class Receiver:
    """``answers`` are given one after the other; then it is 204 for good."""

    url: str
    received: list[Received] = field(default_factory=list)
    answers: deque[tuple[int, dict[str, str], bytes, int]] = field(default_factory=deque)
    answered_bytes: int = 0
    """Of bodies, as far as somebody took them."""
    is_silent: bool = False
    """Whether it takes requests and never answers."""
    released: threading.Event = field(default_factory=threading.Event)

    def answer(self, status: int, body: bytes = b"", times: int = 1, **headers: str) -> None:
        """Answer the next request so, with ``body`` so many times over."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, named, body, times))

    def held(self) -> dict[str, dict[str, Any]]:
        """What a receiver holds that keeps the last row of each key."""
        rows: dict[str, dict[str, Any]] = {}
        for one in self.received:
            for row in one.rows:
                rows[row["key"]] = row
        return {key: row for key, row in rows.items() if row["change"] not in ("left", "removed")}


@contextmanager
def receive_webhooks() -> Iterator[Receiver]:
    """Listen on 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(headers, body))
            if receiver.is_silent:
                receiver.released.wait(30)
                return
            status, more, content, times = (
                receiver.answers.popleft() if receiver.answers else (204, {}, b"", 1)
            )
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("content-length", str(len(content) * times))
            self.end_headers()
            # Whoever has heard enough hangs up.
            with suppress(ConnectionError):
                for _ in range(times):
                    self.wfile.write(content)
                    receiver.answered_bytes += len(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
