"""The ingest application on a real socket, over a log; and what has arrived in that log."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from cdp.ingest.asgi import IngestApp
from cdp.ingest.packing import PackingWriter
from cdp.ingest.source_directory import SourceDirectory
from cdp.log.format import LoggedLine, unpack_record
from cdp.log.port import Log
from cdp.record_kinds import list_record_kinds
from cdp.settings import Settings
from tests.support.program import find_free_port


@contextlib.contextmanager
def serve(app: ASGIApp, http: Any = "httptools") -> Iterator[str]:
    """Serve ``app`` as the program does, from a thread; the block gets its URL."""
    port = find_free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, loop="uvloop", http=http, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert thread.is_alive(), "the server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def wait_until(is_so: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@dataclass(frozen=True)
class IngestServer:
    """A running ingest with one source."""

    url: str
    write_key: str
    source_id: str
    log: Log

    def read_lines(self, kind: str = "events") -> list[LoggedLine]:
        """Every line of this source in the log so far, partition by partition."""
        positions = dict.fromkeys(range(self.log.partitions), 0)
        ends = self.log.end_positions()
        lines: list[LoggedLine] = []
        while any(positions[p] < end for p, end in ends.items()):
            for record in self.log.read(positions, max_bytes=1 << 22, wait_seconds=1):
                positions[record.partition] = record.offset + 1
                found, unpacked = unpack_record(record)
                lines += unpacked if found == kind else []
        return [line for line in lines if line.source_id == self.source_id]

    def read_events(self) -> list[dict[str, Any]]:
        """Every event of this source in the log so far."""
        return [json.loads(line.line) for line in self.read_lines()]


@contextlib.contextmanager
def run_ingest(
    directory: SourceDirectory, log: Log, fallback: ASGIApp, settings: Settings | None = None
) -> Iterator[str]:
    """Run ingest over ``log`` with ``fallback`` behind it; the block gets its URL."""
    settings = settings or Settings()
    writer = PackingWriter(log, settings.linger_ms)
    kinds = list_record_kinds(settings.currency)
    with serve(IngestApp(directory, writer, settings, fallback, kinds)) as url:
        yield url
