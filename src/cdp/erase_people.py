"""Erase people from everything that hangs on who is who, in one transaction.

    hold who is who ─► whom does it mean ─► tombstones ─► rows ─► replay the others ─► tell

Whoever writes people waits meanwhile, and knows the tombstones afterwards. What is left then are
copies in places that know no people: see ``cdp.privacy.sweep``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from cdp.activation.deliveries_store import forget_people
from cdp.identity.recompute import replay
from cdp.identity.rules_store import ensure_salt, hold_rules, read_rules
from cdp.model import Identifier
from cdp.orders.orders_store import fold_again
from cdp.privacy.erase_identity_store import hide_shadows
from cdp.privacy.erase_store import Erased, erase_people
from cdp.privacy.people_store import Person, Slice, find_person, list_names, merge_people
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Driver
from cdp.storage.tombstones_store import bury, ensure_privacy_salt, hash_identifier

# Where the workspace says by which batch somebody was erased last.
_ERASED_UNTIL = "erased_until"
_LAST_MOMENT = timedelta(microseconds=1)


class Outcome(NamedTuple):
    """What a deletion removed, and what else is to be looked for."""

    erased: Erased
    names: list[Identifier]
    profile_ids: list[str]
    seq: int | None
    """The batch by which followers learn of it; ``None``: nobody was there."""
    nodes: Sequence[int] = ()
    """Nodes that were theirs alone."""
    slices: Sequence[Slice] = ()
    """What was theirs of shared devices."""


def erase(
    conn: Driver, asked: Sequence[Identifier], *, country: str, currency: str, now: datetime
) -> Outcome:
    """Erase whoever ``asked`` lead to; part of the caller's transaction.

    Somebody unknown leaves a tombstone all the same: what is on its way makes nobody of them.
    """
    hold_rules(conn)
    found = [(one, find_person(conn, one)) for one in asked]
    people = merge_people(person for _, person in found if person is not None)
    names = list(dict.fromkeys(name for one, who in found for name in list_names(one, who)))
    _bury(conn, names, people, now)
    if not people:
        return Outcome(Erased(), names, [], None)
    batch_id, changes = open_batch(conn), BatchChanges()
    erased = erase_people(conn, people, changes)
    fold_again(conn, erased.changed_orders, currency)
    if erased.neighbours:
        rules = read_rules(conn, country)
        replay(conn, rules, ensure_salt(conn), erased.neighbours, batch_id, changes, now)
        hide_shadows(conn, batch_id)
    seq = close_batch(conn, batch_id, changes)
    conn.execute(
        """INSERT INTO workspace (name, value) VALUES (%s, to_jsonb(%s::bigint))
           ON CONFLICT (name) DO UPDATE SET value = excluded.value""",
        (_ERASED_UNTIL, seq),
    )
    profile_ids = [one for who in people for one in (who.profile_id, *who.profile_ids)]
    erased.counts["deliveries"] = forget_people(conn, profile_ids)
    nodes = [node_id for who in people for node_id in who.nodes]
    slices = [one for who in people for one in who.slices]
    return Outcome(erased, names, profile_ids, seq, nodes, slices)


def read_erased_until(conn: Driver) -> int | None:
    """Return the batch by which somebody was erased last; ``None`` when nobody ever was."""
    row = conn.execute("SELECT value FROM workspace WHERE name = %s", (_ERASED_UNTIL,)).fetchone()
    return None if row is None else int(row[0])


def _bury(
    conn: Driver, names: Sequence[Identifier], people: Sequence[Person], now: datetime
) -> None:
    salt = ensure_privacy_salt(conn)
    bury(conn, [hash_identifier(salt, name) for name in names], now)
    # What a shared device told until others came to it was theirs.
    for person in people:
        for one in person.slices:
            if one.since is None and one.until is not None and person.nodes:
                row = conn.execute(
                    "SELECT type, value FROM nodes WHERE node_id = %s", (one.node_id,)
                ).fetchone()
                assert row is not None
                device = hash_identifier(salt, Identifier(row[0], row[1]))
                bury(conn, [device], one.until - _LAST_MOMENT)
