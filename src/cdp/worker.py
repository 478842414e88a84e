"""The worker process: takes records from the log and lets ``cdp.pipeline`` do its work on them.

Any number of workers run side by side; leases share the partitions out, and the compare-and-set on
the position makes sure that a worker which lost its lease cannot write.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date

import psycopg
import sqlalchemy as sa

from cdp.batch import Batch
from cdp.housekeeping import (
    drop_old_days,
    drop_old_refusals,
    drop_old_tag_values,
    drop_old_tellings,
    keep_ledger_small,
)
from cdp.identity.identifiers import identify
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.rules_store import read_rules
from cdp.ingest.sources_store import SourceDirectory
from cdp.keep_archive import keep_archive
from cdp.log.leases import Leases
from cdp.log.open import open_log
from cdp.log.port import Log, Record
from cdp.look_after_identity import look_after_identity
from cdp.outage import is_outage, name_broken_rule, name_error
from cdp.pipeline import STEPS, Step, Work, process
from cdp.read_ahead import ReadAhead
from cdp.read_batch import read_batch
from cdp.read_posted import Identify
from cdp.runtime.clock import now
from cdp.runtime.logs import get_logger
from cdp.runtime.memory import collect_rarely
from cdp.settings import Settings
from cdp.storage.clashes_store import Outcome, count_clash
from cdp.storage.database import Database, driver
from cdp.storage.partitions import ensure_partitions
from cdp.storage.positions import StalePosition, read_positions

_log = get_logger(__name__)

LineName = tuple[int, int, int]
"""Partition, offset, line number."""


class Worker:
    """Works off the partitions that it holds. Used by one thread."""

    def __init__(
        self,
        database: Database,
        log: Log,
        sources: SourceDirectory,
        identity: IdentityStore,
        identify_claims: Identify,
        *,
        batch_events: int = 4000,
        currency: str = "CNY",
        steps: Iterable[Step] = STEPS,
        worker_id: str | None = None,
    ) -> None:
        self._database = database
        self._log = log
        self._sources = sources
        self._identity = identity
        self._identify = identify_claims
        self._ahead = ReadAhead(
            log,
            sources.by_id,
            identify_claims,
            max_bytes=batch_events * 1024,
            currency=currency,
        )
        self._currency = currency
        self._steps = tuple(steps)
        self.worker_id = worker_id or f"{socket.gethostname()}-{os.getpid()}"
        self._leases = Leases(database, log.name, log.partitions, self.worker_id)
        self._positions: dict[int, int] | None = None
        self._held: frozenset[int] = frozenset()
        self._days: set[date] = set()

    def run(self, stop: threading.Event, *, poll_seconds: float = 0.25) -> None:
        """Work until ``stop`` is set; the batch under way is finished first. Never gives up:

        when Postgres or the log is away it says so and tries again.
        """
        patience = _Patience()
        while not stop.is_set():
            try:
                worked = self.step(poll_seconds)
                patience.reset()
                if not self._held and not worked:
                    stop.wait(poll_seconds)
            except StalePosition:
                _log.info("worker_was_overtaken", worker=self.worker_id)
                self._positions = None
            except Exception as error:
                if not is_outage(error):
                    raise
                self._positions = None
                _log.warning("worker_waits", reason=name_error(error), seconds=patience.next())
                stop.wait(patience.seconds)
        self.close()

    def close(self) -> None:
        """Stop reading and let others have the partitions."""
        self._ahead.close()
        with suppress(Exception):
            self._leases.release()

    def step(self, wait_seconds: float) -> int:
        """Take the next records and work them off; return how many records that were."""
        self._held = self._leases.renew()
        if not self._held:
            self._positions = None
            return 0
        if self._positions is None or not self._held <= self._positions.keys():
            with self._database.transaction() as connection:
                stored = read_positions(driver(connection), self._log.name)
            self._positions = {p: stored.get(p, 0) for p in range(self._log.partitions)}
        wanted = {p: self._positions[p] for p in self._held}
        reading = self._ahead.take(wanted, wait_seconds)
        if reading.records:
            self._work_off(reading.records, reading.batch)
        return len(reading.records)

    def _work_off(self, records: Sequence[Record], batch: Batch | None = None) -> None:
        """Commit ``records``; halve them when they fail, until the one bad record is found."""
        fault = self._try(records, batch)
        rule = fault and name_broken_rule(fault)
        if rule:
            fault = self._try_again(records, rule)
        if fault is None:
            return
        reason = name_error(fault)
        if len(records) > 1:
            _log.warning("batch_is_halved", records=len(records), reason=reason)
            middle = len(records) // 2
            self._work_off(records[:middle])
            self._work_off(records[middle:])
            return
        if rule:
            self._count_clash(rule, "set_aside")
        self._set_aside(records[0], reason)

    def _try(self, records: Sequence[Record], batch: Batch | None = None) -> Exception | None:
        """Commit ``records``; return the error when their data is at fault."""
        try:
            self._commit(batch or self._read(records))
        except Exception as error:
            if not _is_poison(error):
                raise
            return error
        return None

    def _try_again(self, records: Sequence[Record], rule: str) -> Exception | None:
        """Commit ``records``, which broke a rule of the schema, in a transaction of their own.

        No data should be able to, so it is a fault of the program, and is told. Where it lay in
        what was remembered, or in who came between, they pass now.
        """
        _log.error("batch_clashed", records=len(records), rule=rule)
        self._identity.forget()
        fault = self._try(records)
        if fault is None:
            self._count_clash(rule, "passed")
        return fault

    def _count_clash(self, rule: str, outcome: Outcome) -> None:
        away = suppress(psycopg.Error, sa.exc.SQLAlchemyError)
        with away, self._database.transaction() as connection:
            count_clash(driver(connection), rule, outcome)

    def _set_aside(self, record: Record, reason: str) -> None:
        """Commit ``record`` without the lines that cannot be processed; keep those as dead letters.

        When the lines only fail together, the whole record becomes a dead letter.
        """
        lines = list(range(record.value.count(b"\n") + 1))
        bad = set(self._find_bad_lines(record, lines))
        _log.error(
            "record_set_aside",
            partition=record.partition,
            offset=record.offset,
            lines=len(bad) or len(lines),
            reason=reason,
        )
        try:
            self._commit(self._read([record], skip=bad, reason=reason))
        except Exception as error:
            if not _is_poison(error):
                raise
            whole = self._read([record], skip=self._name_lines(record, lines), reason=reason)
            self._commit(whole)

    def _find_bad_lines(self, record: Record, lines: Sequence[int]) -> Iterator[LineName]:
        """Try halves of the record's lines, rolling back each time; name those that fail alone."""
        others = set(range(record.value.count(b"\n") + 1)) - set(lines)
        batch = self._read([record], skip=self._name_lines(record, others))
        if self._would_pass(batch):
            return
        if len(lines) == 1:
            yield from self._name_lines(record, lines)
            return
        middle = len(lines) // 2
        yield from self._find_bad_lines(record, lines[:middle])
        yield from self._find_bad_lines(record, lines[middle:])

    def _would_pass(self, batch: Batch) -> bool:
        try:
            with self._database.engine.connect() as connection:
                try:
                    self._process(connection, batch)
                finally:
                    connection.rollback()
        except Exception as error:
            if not _is_poison(error):
                raise
            return False
        return True

    @staticmethod
    def _name_lines(record: Record, lines: Iterable[int]) -> set[LineName]:
        return {(record.partition, record.offset, line) for line in lines}

    def _read(
        self, records: Sequence[Record], *, skip: set[LineName] | None = None, reason: str = ""
    ) -> Batch:
        assert self._positions is not None
        return read_batch(
            self._log.name,
            records,
            self._positions,
            self._sources.by_id,
            self._identify,
            currency=self._currency,
            skip=skip or (),
            skip_reason=reason or "cannot_be_processed",
        )

    def _commit(self, batch: Batch) -> None:
        assert self._positions is not None
        try:
            work = self._write(batch)
        except psycopg.errors.CheckViolation:
            # Its day was archived and dropped since this worker made room for it.
            self._days.clear()
            work = self._write(batch)
        self._positions.update({p: after for p, (_, after) in batch.moves.items()})
        _log.debug("batch_committed", events=len(work.fresh), duplicates=len(work.duplicates))

    def _write(self, batch: Batch) -> Work:
        self._make_room(batch)
        with self._database.transaction() as connection:
            return self._process(connection, batch)

    def _make_room(self, batch: Batch) -> None:
        """Make the partitions that the batch's days of receipt need, once each."""
        days = {one.received_at.date() for one in batch.messages} - self._days
        if days:
            ensure_partitions(self._database, days)
            self._days |= days

    def _process(self, connection: sa.Connection, batch: Batch) -> Work:
        return process(
            driver(connection), Work(batch, self._identity, now(), self._currency), self._steps
        )


class _Patience:
    """Waiting times that double up to ten seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def next(self) -> float:
        self.seconds = min(10.0, max(0.25, self.seconds * 2))
        return self.seconds

    def reset(self) -> None:
        self.seconds = 0.0


def _is_poison(error: Exception) -> bool:
    """Whether the data is at fault, so that trying again cannot help."""
    return not isinstance(error, StalePosition) and not is_outage(error)


def run_worker(settings: Settings, stop: threading.Event) -> None:
    """Run one worker until ``stop`` is set. Raises ``SetupError`` when it cannot start."""
    database = Database(settings.database_url or "", pool_size=4, application_name="cdp-worker")
    log = open_log(settings, database)
    sources = SourceDirectory(database)
    sources.start()
    try:
        with database.transaction() as connection:
            rules = read_rules(driver(connection), settings.default_country)
            salt = ensure_salt(driver(connection))
        identity = IdentityStore(rules, salt)
        worker = Worker(
            database,
            log,
            sources,
            identity,
            lambda claims: identify(claims, identity.rules),
            batch_events=settings.worker_batch_events,
            currency=settings.currency,
        )
        collect_rarely()
        _log.info("worker_started", worker=worker.worker_id, log=log.name)
        for target, args in (
            (drop_old_days, (settings, database, log, stop)),
            (drop_old_refusals, (settings, database, stop)),
            (drop_old_tellings, (settings, database, stop)),
            (drop_old_tag_values, (settings, database, stop)),
            (keep_ledger_small, (settings, database, stop)),
            (keep_archive, (settings, database, stop)),
            (look_after_identity, (database, identity, stop)),
        ):
            threading.Thread(target=target, args=args, daemon=True).start()
        worker.run(stop, poll_seconds=settings.worker_poll_seconds)
        _log.info("worker_stopped", worker=worker.worker_id)
    finally:
        sources.close()
        log.close()
        database.close()
