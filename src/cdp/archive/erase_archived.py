"""Take people out of the archive: the files that hold them are written anew without them.

File by file, each in a transaction of its own: killed in between, the next process does the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from cdp.archive import archive_store as store
from cdp.archive.archive_folder import ArchiveFolder
from cdp.archive.layout import Part
from cdp.archive.maps_folder import write_maps
from cdp.archive.read_parts import read_nodes
from cdp.archive.rewrite_part import rewrite_part, tidy
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, Driver, driver

Span = tuple[int, datetime | None, datetime | None]
"""A node, and from when to when what hung on it was somebody's; ``None`` has no bound."""


@dataclass(slots=True)
class Gone:
    """What was removed with one file."""

    rows: int = 0
    messages: list[str] = field(default_factory=list)
    seq: int | None = None
    """The batch by which followers learn of it, where they would not know already."""


Note = Callable[[Driver, Gone], None]
"""Writes down what was removed, in the transaction that removes it."""


def erase_archived(
    database: Database,
    folder: ArchiveFolder,
    nodes: Sequence[int],
    spans: Sequence[Span],
    note: Note,
    now: datetime,
) -> bool:
    """Remove all rows of ``nodes``, and of others within ``spans``; return whether it was done.

    Not while somebody else is at the archive.
    """
    wanted = sorted({*nodes, *(span[0] for span in spans)})
    if not wanted:
        return True
    try:
        with store.hold_archive(database.libpq_url):
            with database.transaction() as connection:
                parts = store.list_parts(driver(connection))
            for part in parts:
                if part.first_node is not None and _may_hold(part, wanted):
                    _erase_part(database, folder, part, nodes, spans, note)
            tidy(database, folder)
            write_maps(database, folder, now)
    except store.ArchiveBusy:
        return False
    return True


def _may_hold(part: Part, wanted: Sequence[int]) -> bool:
    assert part.first_node is not None
    assert part.last_node is not None
    return part.first_node <= wanted[-1] and part.last_node >= wanted[0]


def _erase_part(
    database: Database,
    folder: ArchiveFolder,
    part: Part,
    nodes: Sequence[int],
    spans: Sequence[Span],
    note: Note,
) -> None:
    wanted = sorted({*nodes, *(span[0] for span in spans)})
    found = read_nodes(folder, part, wanted, ["node_id", "timestamp"])
    if not any(pc.any(mask_rows(one, nodes, spans)).as_py() for one in found.to_batches()):
        return
    gone, shared, theirs = Gone(), Counter[int](), frozenset(nodes)

    def choose(rows: pa.RecordBatch) -> pa.Array:
        """Say which rows stay."""
        mask = mask_rows(rows, nodes, spans)
        removed = rows.filter(mask)
        gone.rows += removed.num_rows
        gone.messages += removed.column("message_id").to_pylist()
        shared.update(one for one in removed.column("node_id").to_pylist() if one not in theirs)
        return pc.invert(mask)

    rewritten = rewrite_part(folder, part, choose)
    if rewritten is None:
        return
    with database.transaction() as connection:
        tx = driver(connection)
        is_dropped = store.list_days(tx)[part.day].dropped_at is not None
        store.exchange_part(tx, part, rewritten.part, counts_as_removal=bool(shared))
        if shared and is_dropped:
            gone.seq = _tell(tx, shared)
        note(tx, gone)
    folder.remove(part.path)


def _tell(tx: Driver, shared: Counter[int]) -> int:
    """Count off what is gone from shared devices, whose other people go on; return the batch.

    Postgres had these rows no more, so nobody has counted them yet.
    """
    batch_id, changes = open_batch(tx), BatchChanges()
    changes.nodes.update(shared)
    changes.profiles.update(
        row[0]
        for row in tx.execute(
            "SELECT profile_no FROM node_profiles WHERE node_id = ANY(%s)", (list(shared),)
        )
    )
    tx.execute(
        """UPDATE nodes n SET events = greatest(0, n.events - g.events)
             FROM unnest(%s::bigint[], %s::bigint[]) AS g (node_id, events)
            WHERE n.node_id = g.node_id""",
        (list(shared), list(shared.values())),
    )
    return close_batch(tx, batch_id, changes)


def mask_rows(rows: pa.RecordBatch, nodes: Sequence[int], spans: Sequence[Span]) -> pa.Array:
    """Return which rows are of ``nodes``, or within ``spans``. Pure."""
    node_ids, times = rows.column("node_id"), rows.column("timestamp")
    mask = pc.is_in(node_ids, value_set=pa.array(nodes, pa.int64()))
    for node_id, since, until in spans:
        one = pc.equal(node_ids, node_id)
        if since is not None:
            one = pc.and_(one, pc.greater_equal(times, pa.scalar(since, times.type)))
        if until is not None:
            one = pc.and_(one, pc.less(times, pa.scalar(until, times.type)))
        mask = pc.or_(mask, pc.fill_null(one, False))
    return mask
