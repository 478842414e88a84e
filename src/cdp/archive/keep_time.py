"""★ Events whose time is over go: from DuckDB, from Postgres, from the archive.

    announce up to when ─► rows of each day in Postgres ─► files of the archive

Registers, orders and counters stay: they are what the events came to. Killed between any two
lines, the next run does what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from cdp.archive import archive_store as store
from cdp.archive import retention_store as retention
from cdp.archive.archive_folder import ArchiveFolder
from cdp.archive.layout import EVENTS, Part
from cdp.archive.maps_folder import write_maps
from cdp.archive.retention import Cutoff, list_cutoffs
from cdp.archive.rewrite_part import rewrite_part, tidy
from cdp.runtime.logs import get_logger
from cdp.storage.database import Database, driver
from cdp.storage.partitions import list_partitions

_log = get_logger(__name__)


def read_cutoffs(database: Database, now: datetime) -> list[Cutoff]:
    """Return up to when events are to go today, by the rules in force."""
    with database.transaction() as connection:
        tx = driver(connection)
        rules = [*retention.read_rules(tx), *retention.read_source_rules(tx)]
        return list_cutoffs(rules, retention.read_sources(tx), _round(now))


def let_go(
    database: Database, folder: ArchiveFolder | None, cutoffs: Sequence[Cutoff], now: datetime
) -> int:
    """Remove all events that are before their cutoff; return how many were.

    Raises ``ArchiveBusy``.
    """
    if not cutoffs:
        return 0
    with store.hold_archive(database.libpq_url):
        with database.transaction() as connection:
            retention.announce(driver(connection), cutoffs)
            days = list_partitions(driver(connection), EVENTS)
        removed = 0
        for _, day in days:
            with database.transaction() as connection:
                removed += retention.remove_from_day(driver(connection), day, cutoffs, now)
        if folder is not None:
            removed += _let_go_of_files(database, folder, cutoffs, now)
    if removed:
        _log.info("events_past_retention_removed", events=removed)
    return removed


def _round(now: datetime) -> datetime:
    """Return the beginning of the day: whatever is removed is removed once a day."""
    return datetime(now.year, now.month, now.day, tzinfo=UTC)


def _let_go_of_files(
    database: Database, folder: ArchiveFolder, cutoffs: Sequence[Cutoff], now: datetime
) -> int:
    with database.transaction() as connection:
        parts = store.list_parts(driver(connection))
    latest = max(one.before for one in cutoffs)
    removed = sum(
        _let_go_of_part(database, folder, part, cutoffs, now)
        for part in parts
        if part.first_at < latest
    )
    if removed:
        tidy(database, folder)
        write_maps(database, folder, now)
    return removed


def _let_go_of_part(
    database: Database, folder: ArchiveFolder, part: Part, cutoffs: Sequence[Cutoff], now: datetime
) -> int:
    counts = retention.Counts()
    nodes: set[int] = set()

    def choose(rows: pa.RecordBatch) -> pa.Array:
        gone = pa.array([False] * rows.num_rows)
        for one in cutoffs:
            mask = pc.and_not(mask_past(rows, one), gone)
            count = pc.sum(mask).as_py() or 0
            if count:
                counts[one.source_number, one.event] += count
                nodes.update(pc.unique(rows.filter(mask).column("node_id")).drop_null().to_pylist())
                gone = pc.or_(gone, mask)
        return pc.invert(gone)

    rewritten = rewrite_part(folder, part, choose)
    if rewritten is None:
        return 0
    with database.transaction() as connection:
        tx = driver(connection)
        is_dropped = store.list_days(tx)[part.day].dropped_at is not None
        store.exchange_part(tx, part, rewritten.part, counts_as_removal=False)
        # Of a day that Postgres has too, its rows were counted there.
        retention.note_removed(tx, counts if is_dropped else retention.Counts(), nodes, now)
    folder.remove(part.path)
    return counts.total() if is_dropped else 0


def mask_past(rows: pa.RecordBatch, cutoff: Cutoff) -> pa.Array:
    """Return which rows a cutoff lets go. Pure."""
    times = rows.column("timestamp")
    mask = pc.and_(
        pc.equal(rows.column("source_number"), cutoff.source_number),
        pc.less(times, pa.scalar(cutoff.before, times.type)),
    )
    if cutoff.event:
        mask = pc.and_(mask, pc.fill_null(pc.equal(rows.column("event"), cutoff.event), False))
    return pc.fill_null(mask, False)
