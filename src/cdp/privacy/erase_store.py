"""Take people out of Postgres: every row that hangs on them, in the caller's transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cdp.privacy.erase_identity_store import (
    erase_history,
    erase_links,
    erase_nodes,
    list_existing,
)
from cdp.privacy.people_store import Person, Slice
from cdp.storage.batches import BatchChanges
from cdp.storage.database import Driver

STORES = (
    "events", "traits", "consents", "consent_statements", "account_members", "manual_tag_values",
    "service_events", "touch_facts", "shared_device_facts", "orders", "order_reports", "links",
    "refusals", "profile_changes", "identifiers", "profiles",
)  # fmt: skip
_SAID = (
    "traits", "consents", "consent_statements", "account_members", "manual_tag_values",
    "service_events", "touch_facts", "shared_device_facts",
)  # fmt: skip
MOST_MESSAGES = 20_000
"""Messages of theirs that are looked for by name in the log."""


@dataclass(slots=True)
class Erased:
    """What went, and what that leaves to do."""

    counts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(STORES, 0)))
    """Rows by table."""
    partitions: list[str] = field(default_factory=list)
    """Parts of the timeline that held some of it."""
    messages: list[str] = field(default_factory=list)
    """Ids of their messages."""
    events_of: Counter[int] = field(default_factory=Counter)
    """Rows of the timeline by node."""
    neighbours: list[int] = field(default_factory=list)
    """Nodes of others that were seen with theirs: who is who among them is to be settled anew."""
    changed_orders: list[int] = field(default_factory=list)
    """Orders of others of which one of them had told something too."""


def erase_people(conn: Driver, people: Sequence[Person], changes: BatchChanges) -> Erased:
    """Remove ``people``; fill ``changes``. The caller holds who is who alone."""
    erased = Erased()
    nodes = sorted(node_id for person in people for node_id in person.nodes)
    slices = [one for person in people for one in person.slices]
    changes.erased_nodes.update(nodes, (one.node_id for one in slices))
    changes.profiles.update(person.profile_no for person in people)
    # A shared device's own profile is only emptied.
    changes.erased_profiles.update(person.profile_id for person in people if person.nodes)
    changes.moved_nodes.update(one.node_id for one in slices)
    _erase_facts(conn, nodes, slices, erased)
    _erase_orders(conn, nodes, slices, changes, erased)
    _erase_identity(conn, people, nodes, erased)
    count_off(conn, {one.node_id: erased.events_of[one.node_id] for one in slices})
    return erased


_THEIRS = "node_id = ANY(%(nodes)s::bigint[])"
_IN_SLICE = """EXISTS (SELECT FROM unnest(%(slices)s::bigint[], %(sinces)s::timestamptz[],
                              %(untils)s::timestamptz[]) AS s (node_id, since, until)
                WHERE s.node_id = t.node_id AND t.{at} >= coalesce(s.since, '-infinity')
                  AND t.{at} < coalesce(s.until, 'infinity'))"""


def _parameters(nodes: Sequence[int], slices: Sequence[Slice]) -> dict[str, object]:
    return {
        "nodes": list(nodes),
        "slices": [one.node_id for one in slices],
        "sinces": [one.since for one in slices],
        "untils": [one.until for one in slices],
    }


def _erase_facts(
    conn: Driver, nodes: Sequence[int], slices: Sequence[Slice], erased: Erased
) -> None:
    parameters = _parameters(nodes, slices)
    any_node = [*nodes, *(one.node_id for one in slices)]
    told = conn.execute(
        f"""DELETE FROM events t
             WHERE node_id = ANY(%(any)s::bigint[])
               AND ({_THEIRS} OR {_IN_SLICE.format(at="at")})
            RETURNING message_id, tableoid::regclass::text, node_id""",
        {**parameters, "any": any_node},
    ).fetchall()
    erased.counts["events"] += len(told)
    erased.messages += [row[0] for row in told[:MOST_MESSAGES]]
    erased.partitions = sorted({row[1] for row in told})
    erased.events_of.update(row[2] for row in told)
    for table in _SAID:
        done = conn.execute(
            f"""DELETE FROM {table} t
                 WHERE node_id = ANY(%(any)s::bigint[])
                   AND ({_THEIRS} OR {_IN_SLICE.format(at="at")})""",
            {**parameters, "any": any_node},
        )
        erased.counts[table] += done.rowcount


def _erase_orders(
    conn: Driver,
    nodes: Sequence[int],
    slices: Sequence[Slice],
    changes: BatchChanges,
    erased: Erased,
) -> None:
    parameters = _parameters(nodes, slices)
    any_node = [*nodes, *(one.node_id for one in slices)]
    gone = conn.execute(
        f"""DELETE FROM orders t
             WHERE node_id = ANY(%(any)s::bigint[])
               AND ({_THEIRS} OR {_IN_SLICE.format(at="placed_at")})
            RETURNING order_no, scope, order_id""",
        {**parameters, "any": any_node},
    ).fetchall()
    reports = conn.execute(
        """DELETE FROM order_reports r USING unnest(%s::text[], %s::text[]) AS g (scope, order_id)
            WHERE r.scope = g.scope AND r.order_id = g.order_id""",
        ([row[1] for row in gone], [row[2] for row in gone]),
    ).rowcount
    told = conn.execute(
        "DELETE FROM order_reports WHERE node_id = ANY(%s) RETURNING scope, order_id",
        (list(nodes),),
    ).fetchall()
    rest = conn.execute(
        """SELECT o.order_no, EXISTS (SELECT FROM order_reports r
                                       WHERE r.scope = o.scope AND r.order_id = o.order_id)
             FROM orders o JOIN unnest(%s::text[], %s::text[]) AS g (scope, order_id)
               ON g.scope = o.scope AND g.order_id = o.order_id""",
        ([row[0] for row in told], [row[1] for row in told]),
    ).fetchall()
    untold = sorted({number for number, is_told in rest if not is_told})
    conn.execute("DELETE FROM orders WHERE order_no = ANY(%s)", (untold,))
    erased.changed_orders = sorted({number for number, is_told in rest if is_told})
    erased.counts["orders"] += len(gone) + len(untold)
    erased.counts["order_reports"] += reports + len(told)
    changes.orders.update(row[0] for row in gone)
    changes.orders.update(untold, erased.changed_orders)


def _erase_identity(
    conn: Driver, people: Sequence[Person], nodes: Sequence[int], erased: Erased
) -> None:
    devices = {one.node_id for person in people for one in person.slices}
    links = erase_links(conn, nodes, devices)
    erased.counts["links"] += links.links
    erased.counts["refusals"] += links.refusals
    erased.counts["profile_changes"] += erase_history(conn, people)
    identifiers, profiles = erase_nodes(conn, people, nodes, links.shadows)
    erased.counts["identifiers"] += identifiers
    erased.counts["profiles"] += profiles
    erased.neighbours = list_existing(conn, links.around | links.shadows | devices)


def count_off(conn: Driver, events_of: Mapping[int, int]) -> None:
    """Let the counters of shared devices say what is left on them, in Postgres or archived."""
    conn.execute(
        """UPDATE nodes n SET events = greatest(0, n.events - g.events)
             FROM unnest(%s::bigint[], %s::bigint[]) AS g (node_id, events)
            WHERE n.node_id = g.node_id""",
        (list(events_of), list(events_of.values())),
    )
