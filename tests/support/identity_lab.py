"""Workers that can be killed between any two steps, over one real database and log.

They run in the test's own thread, one record batch at a time, on the partitions that the test says:
so a story of who did what in which order is told by the test, and can be told again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cdp.identity.apply_rules_store import apply_next
from cdp.identity.by_hand_store import Hand
from cdp.identity.deciding_store import Decided
from cdp.identity.identifiers import identify
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules import Rules
from cdp.identity.rules_store import read_rules, write_rules
from cdp.ingest.sources_store import SourceDirectory, create_source
from cdp.log.postgres_log import PostgresLog
from cdp.model import Source, SourceType
from cdp.outage import is_outage
from cdp.pipeline import STEPS, Step, Work
from cdp.storage.database import Database, Driver, driver
from cdp.storage.positions import StalePosition
from cdp.worker import Worker
from tests.support.wire import RECEIVED_AT, append_events, append_orders

PARTITIONS = 4
ALL = frozenset(range(PARTITIONS))
BEGINNING = RECEIVED_AT - timedelta(days=500)
"""Day 0 of a story."""


class Killed(BaseException):
    """What a process does not live to see: nothing in it may catch this."""


@dataclass
class Held:
    """Leases that the test grants."""

    partitions: frozenset[int] = frozenset()

    def renew(self) -> frozenset[int]:
        """Return what is held."""
        return self.partitions

    def release(self) -> None:
        """Give it up."""


@dataclass
class Mortal:
    """A worker, and after which of its steps it dies."""

    worker: Worker
    held: Held
    log: PostgresLog
    fuse: list[int] = field(default_factory=list)
    """The number of the step; empty for a long life."""

    def close(self) -> None:
        """Let its threads end."""
        self.worker.close()
        self.log.close()


class Lab:
    """A database, a log, a trusted source and a public one, and some workers."""

    def __init__(self, url: str, rules: Rules, workers: int = 3) -> None:
        self.database = Database(url, application_name="cdp-test")
        self.log = PostgresLog(self.database, PARTITIONS)
        with self.database.transaction() as connection:
            write_rules(driver(connection), rules)
            self.salt = ensure_salt(driver(connection))
        self.sources = {kind: self._add_source(kind) for kind in ("server", "web")}
        self.workers = [self._start() for _ in range(workers)]
        self.decided = 0
        self.requests = 0

    def _add_source(self, kind: Any) -> Source:
        kind_of: SourceType = kind
        with self.database.transaction() as connection:
            source, _ = create_source(driver(connection), kind, kind_of, {})
        return source

    def _start(self) -> Mortal:
        rules = self.read_rules()
        identity = IdentityStore(rules, self.salt)
        log, held = PostgresLog(self.database, PARTITIONS), Held()
        fuse: list[int] = []
        worker = Worker(
            self.database,
            log,
            SourceDirectory(self.database),
            identity,
            lambda claims: identify(claims, identity.rules),
            steps=[_mortal(number, step, fuse) for number, step in enumerate(STEPS)],
        )
        worker._leases = held  # type: ignore[assignment]
        return Mortal(worker, held, log, fuse)

    def close(self) -> None:
        """End everything."""
        for mortal in self.workers:
            mortal.close()
        self.log.close()
        self.database.close()

    # ── What arrives ────────────────────────────────────────────────────────────────────────

    def post_events(self, events: Iterable[dict[str, Any]], kind: str = "server") -> None:
        """Put events into the log as one request."""
        self.requests += 1
        source = self.sources[kind].source_id
        append_events(self.log, source, events, request_id=f"req_{self.requests}")

    def post_orders(self, orders: Iterable[dict[str, Any]]) -> None:
        """Put records of orders into the log as one request."""
        self.requests += 1
        source = self.sources["server"].source_id
        append_orders(self.log, source, orders, request_id=f"req_{self.requests}")

    # ── Work ────────────────────────────────────────────────────────────────────────────────

    def work(self, number: int, partitions: frozenset[int], dies_after: int | None = None) -> int:
        """Let a worker take one batch; one that dies is replaced. Returns the records worked off.

        ``dies_after`` is the number of a step of the pipeline.
        """
        mortal = self.workers[number]
        mortal.held.partitions = partitions
        if dies_after is not None:
            mortal.fuse.append(dies_after)
        try:
            return mortal.worker.step(0)
        except StalePosition:
            mortal.worker._positions = None
        except Killed:
            mortal.close()
            self.workers[number] = self._start()
        except Exception as error:
            if not is_outage(error):
                raise
            mortal.worker._positions = None
        finally:
            mortal.fuse.clear()
        return 0

    def settle(self) -> None:
        """Work until nothing is left, in turn."""
        number = 0
        while not self.is_done():
            self.work(number % len(self.workers), ALL)
            number += 1

    def work_at_once(self) -> None:
        """Work until nothing is left, all workers at the same time on all partitions."""

        def work(number: int) -> None:
            while not self.is_done():
                self.work(number, ALL)

        with ThreadPoolExecutor(len(self.workers)) as pool:
            list(pool.map(work, range(len(self.workers))))

    def is_done(self) -> bool:
        """Whether the log is worked off to its end."""
        ends = self.log.end_positions()
        rows = self.ask("SELECT partition, next_offset FROM positions")
        reached = dict(rows)
        return all(reached.get(p, 0) >= end for p, end in ends.items())

    # ── Decisions and rules ─────────────────────────────────────────────────────────────────

    def decide(self, deed: Callable[[Hand], Decided], *, dies: bool = False) -> Decided:
        """Let a steward decide; one whose connection ``dies`` before the commit has not."""
        self.decided += 1
        at = BEGINNING + timedelta(days=450, minutes=self.decided)
        with self.database.transaction() as connection:
            done = deed(Hand(driver(connection), "CN", "token:test", "a test", at))
            if dies:
                raise Killed
            return done

    def apply_rules(self, *, dies: bool = False) -> bool:
        """Replay some people of before under the rules; return whether there may be more."""
        with self.database.transaction() as connection:
            more = apply_next(driver(connection), "CN", RECEIVED_AT, max_nodes=4)
            if dies:
                raise Killed
            return more

    def read_rules(self) -> Rules:
        """Return the rules in force."""
        with self.database.transaction() as connection:
            return read_rules(driver(connection), "CN")

    def ask(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return rows."""
        with self.database.transaction() as connection:
            return list(driver(connection).execute(sql, parameters).fetchall())


def _mortal(number: int, step: Step, fuse: list[int]) -> Step:
    def run(tx: Driver, work: Work) -> None:
        step(tx, work)
        if number in fuse:
            raise Killed

    return run
