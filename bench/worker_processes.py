"""Worker processes as ``cdp up`` runs them, told when to work: one log, the same people."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable
from functools import partial
from multiprocessing.connection import Connection

from cdp.identity.identifiers import identify
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import default_rules
from cdp.ingest.sources_store import SourceDirectory, create_source
from cdp.log.format import RequestLines, pack_record
from cdp.log.postgres_log import PostgresLog
from cdp.runtime.clock import format_time, now
from cdp.runtime.logs import configure_logs
from cdp.runtime.memory import collect_rarely
from cdp.storage.database import Database, driver
from cdp.worker import Worker

PARTITIONS = 8
_REQUEST = 100
"""Lines of a record."""

Line = tuple[int, bytes]
"""The person's number, which chooses the partition, and the event."""


class WorkerProcesses:
    """Some worker processes on one log. They share its partitions by their leases."""

    def __init__(self, database: Database, processes: int, batch_events: int) -> None:
        with database.transaction() as connection:
            # Each crowd of workers gets a source, so that message ids may come again.
            source, _ = create_source(driver(connection), f"bench-{processes}", "server", {})
            ensure_salt(driver(connection))
        self.processes = processes
        self._source_id = source.source_id
        self._log = PostgresLog(database, PARTITIONS)
        self._pipes: list[Connection] = []
        self._children = []
        context = multiprocessing.get_context("spawn")
        for number in range(processes):
            ours, theirs = context.Pipe()
            child = context.Process(
                target=_serve, args=(theirs, database.url, f"bench-{number}", batch_events)
            )
            child.start()
            self._pipes.append(ours)
            self._children.append(child)
        for pipe in self._pipes:
            pipe.recv()

    def append(self, lines: Iterable[Line]) -> None:
        """Put events into the log, those of a person into one partition, a hundred to a record."""
        at = format_time(now())
        parts: dict[int, list[bytes]] = {}
        for person, line in lines:
            parts.setdefault(person % PARTITIONS, []).append(line)
        records = [
            pack_record(
                partition,
                None,
                self._source_id,
                [RequestLines("req", at, None, part[start : start + _REQUEST])],
            )
            for partition, part in parts.items()
            for start in range(0, len(part), _REQUEST)
        ]
        self._log.append(records).result(timeout=60)

    def work_off(self, lines: Iterable[Line]) -> float:
        """Return the seconds from the first record read to the last commit."""
        self._tell("hold")
        self.append(lines)
        started = time.perf_counter()
        self._tell("work")
        return time.perf_counter() - started

    def close(self) -> None:
        """End the processes; the partitions are free for others."""
        self._tell("end")
        for child in self._children:
            child.join(30)
        self._log.close()

    def _tell(self, word: str) -> None:
        for pipe in self._pipes:
            pipe.send(word)
        for pipe in self._pipes:
            pipe.recv()


def _serve(pipe: Connection, url: str, name: str, batch_events: int) -> None:
    """Be a worker process: work off what lies in the log each time that one is told to."""
    configure_logs("text", "warning")
    collect_rarely()
    database = Database(url)
    log = PostgresLog(database, PARTITIONS)
    with database.transaction() as connection:
        salt = ensure_salt(driver(connection))
    rules = default_rules("CN")
    worker = Worker(
        database,
        log,
        SourceDirectory(database),
        IdentityStore(rules, salt),
        partial(identify, rules=rules),
        batch_events=batch_events,
        worker_id=name,
    )
    # Twice as long as the workers need to agree on their shares.
    for _ in range(20):
        worker.step(0)
        time.sleep(0.1)
    pipe.send("ready")
    while True:
        if not pipe.poll(0.25):
            worker.step(0)  # keeps the leases
            continue
        word = pipe.recv()
        if word == "end":
            break
        if word == "work":
            while worker.step(0):
                pass
        pipe.send("done")
        if word == "hold":
            pipe.poll(None)
    worker.close()
    log.close()
    database.close()
    pipe.send("ended")
