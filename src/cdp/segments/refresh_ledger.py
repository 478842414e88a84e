"""The ledger in Postgres and its mirror in DuckDB, opened together and written together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from cdp.segments import mirror_engine as mirror
from cdp.segments.evaluation_engine import Evaluator
from cdp.segments.membership_store import (
    RefreshHead,
    move_head,
    read_head,
    take_refresh_lock,
    write_membership_changes,
    write_tag_changes,
)
from cdp.segments.mirror_engine import Duck
from cdp.segments.refresh_reached import Engine
from cdp.storage.database import Database, Driver, driver
from cdp.storage.tag_horizon_store import read_tag_horizon


@dataclass(frozen=True, slots=True)
class Opened:
    """Both transactions; the mirror is where the ledger is."""

    duck: Duck
    tx: Driver
    head: RefreshHead
    is_evaluator: bool
    """Whether this one may write: one evaluator works at a time, in all processes."""

    def write(self, evaluator: Evaluator, seq: int, evaluated_at: datetime | None) -> int:
        """Write the changes into the ledger, move its head to the batch ``seq``, and say so in

        the mirror. Return how many they are. Raises ``LedgerDiffers``.
        """
        head = self.head
        memberships, tags = evaluator.number_changes(head.change_no)
        write_membership_changes(self.tx, memberships)
        write_tag_changes(self.tx, tags)
        count: int = memberships.num_rows + tags.num_rows
        moved = replace(head, seq=seq, change_no=head.change_no + count, evaluated_at=evaluated_at)
        if moved != head:
            move_head(self.tx, moved)
        if (moved.change_no, moved.seq) != (head.change_no, head.seq):
            mirror.mark_mirror(self.duck, moved.change_no, moved.seq)
        return count


class Ledger:
    """Opens both."""

    def __init__(
        self, database: Database, engine: Engine, before_mirror_commit: Callable[[], None]
    ) -> None:
        """``before_mirror_commit`` is called between the two commits."""
        self._database = database
        self._engine = engine
        self._before_mirror_commit = before_mirror_commit

    @contextmanager
    def open(self) -> Iterator[Opened]:
        """Both transactions: Postgres commits first, DuckDB after it."""
        with self._engine.write() as duck:
            with self._database.transaction() as connection:
                tx = driver(connection)
                is_evaluator = take_refresh_lock(tx)
                # Read after the lock: until then another evaluator may move it.
                head = read_head(tx)
                url = self._database.libpq_url
                mirror.catch_up(
                    duck,
                    url,
                    head.change_no,
                    head.seq,
                    lambda: read_tag_horizon(tx).dropped_until,
                )
                yield Opened(duck, tx, head, is_evaluator)
            self._before_mirror_commit()
