"""Rebuild who is who: worked out beside what is stored, compared, and put in its place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cdp.identity.check_store import Finding, compare_partitions
from cdp.identity.let_in_store import let_in_next
from cdp.identity.rebuild_store import Partition, read_partition, recompute_all
from cdp.identity.recompute import replay
from cdp.identity.rules_store import ensure_salt, read_rules, share_rules
from cdp.model import Identifier
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, Driver, driver

_NODES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """``before`` and ``after`` compare the stored profiles with the rebuilt ones."""

    before: list[Finding]
    replaced: int
    """Identifiers that had another profile, joined date or refusal than they should."""
    after: list[Finding]

    @property
    def is_equal(self) -> bool:
        return not any(finding.wrong for finding in self.after)


def rebuild_profiles(database: Database, country: str, now: datetime) -> Rebuilt:
    """Work everybody out from the facts alone, and replace those who are stored otherwise.

    Workers go on meanwhile: a component that differs is replayed under its own lock.
    """
    while _let_in(database, country, now):
        pass
    stored, rebuilt = _compute_both(database, country)
    before = compare_partitions(stored, rebuilt)
    wrong = _find_wrong(stored, rebuilt)
    for start in range(0, len(wrong), _NODES_AT_ONCE):
        with database.transaction() as connection:
            _replace(driver(connection), wrong[start : start + _NODES_AT_ONCE], country, now)
    after = compare_partitions(*_compute_both(database, country)) if wrong else before
    return Rebuilt(before, len(wrong), after)


def _let_in(database: Database, country: str, now: datetime) -> bool:
    with database.transaction() as connection:
        return let_in_next(driver(connection), country, now)


def _compute_both(database: Database, country: str) -> tuple[Partition, Partition]:
    with database.snapshot() as connection:
        tx = driver(connection)
        return read_partition(tx), recompute_all(tx, read_rules(tx, country))


def _find_wrong(stored: Partition, rebuilt: Partition) -> list[Identifier]:
    names = stored.owners.keys() | rebuilt.owners.keys()
    wrong = {name for name in names if stored.owners.get(name) != rebuilt.owners.get(name)}
    differing = stored.joined_at.items() ^ rebuilt.joined_at.items()
    wrong |= {Identifier(owner[0], owner[1]) for owner, _ in differing}
    wrong |= {refusal[0] for refusal in stored.refusals ^ rebuilt.refusals}
    return sorted(wrong)


def _replace(conn: Driver, names: list[Identifier], country: str, now: datetime) -> None:
    share_rules(conn)
    nodes = [
        row[0]
        for row in conn.execute(
            """SELECT n.node_id FROM unnest(%b::text[], %b::text[]) AS w (type, value)
                 JOIN nodes n ON n.type = w.type AND n.value = w.value AND n.variant = ''""",
            ([name.type for name in names], [name.value for name in names]),
        )
    ]
    batch_id, changes = open_batch(conn), BatchChanges()
    replay(conn, read_rules(conn, country), ensure_salt(conn), nodes, batch_id, changes, now)
    close_batch(conn, batch_id, changes)
