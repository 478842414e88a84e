"""Identity at size: the whole graph, a large one against a small one, one large component.

Graphs are written by SQL as the worker would have written them: each person is a user id and a
browser that were seen together once.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bench.payload import make_track
from bench.ratios import compare, take_turns
from bench.worker import BATCH, Ours, open_database
from cdp.identity.by_hand_store import Hand
from cdp.identity.components_store import group_nodes
from cdp.identity.crowd import Crowd as Facts
from cdp.identity.crowd import settle
from cdp.identity.crowd_store import read_crowd
from cdp.identity.explain_store import explain
from cdp.identity.identity_store import IdentityStore, ensure_salt
from cdp.identity.recompute import replay
from cdp.identity.rules import Rules, default_rules
from cdp.model import Identifier, Observation
from cdp.runtime.clock import now
from cdp.runtime.memory import collect_rarely
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Database, driver

COMPONENT = 1_000
"""Identifiers of the large component, and people that one identifier ties together."""

_FILL = """
WITH person AS (
  SELECT i, 2 * i - 1 AS a, 2 * i AS b, '2026-02-01Z'::timestamptz AS at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i),
node AS (
  INSERT INTO nodes (node_id, type, value, profile_id, component_id, first_seen, last_seen,
                     events, source_numbers)
  OVERRIDING SYSTEM VALUE
  SELECT v.id, v.type, v.value, 'prf_' || v.id, p.a, p.at, p.at, v.events, '{1}'
    FROM person p, LATERAL (VALUES (p.a, 'user_id', 'user-' || p.i, 1),
                                   (p.b, 'anonymous_id', 'anon-' || p.i || '-7f3a', 0))
                           AS v (id, type, value, events)),
link AS (
  INSERT INTO links (link_key, kind, node_ids, component_id, first_at, first_message_id,
                     first_source_number, active_days)
  SELECT '1:' || a || ',' || b, 'seen', ARRAY[a, b], a, at, 'm-' || i, 1,
         '{[2026-02-01,2026-02-02)}' FROM person),
profile AS (
  INSERT INTO profiles (profile_no, profile_id, joined_at) SELECT a, 'prf_' || a, at FROM person)
INSERT INTO node_profiles (node_id, since, until, profile_no)
SELECT n, '-infinity', 'infinity', a FROM person, LATERAL (VALUES (a), (b)) AS v (n)
"""


def fill(database: Database, people: int) -> None:
    """Write a graph of ``people`` with two identifiers each."""
    for first in range(1, people + 1, 100_000):
        with database.transaction() as connection:
            tx = driver(connection)
            tx.execute("SET LOCAL statement_timeout = 0")
            tx.execute(_FILL, {"first": first, "last": min(people, first + 99_999)})
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "SELECT setval(pg_get_serial_sequence('nodes', 'node_id'), max(node_id)) FROM nodes"
        )
        connection.exec_driver_sql("ANALYZE nodes, links, profiles, node_profiles")


def measure_restitch(database: Database, rules: Rules, rounds: int) -> list[dict[str, Any]]:
    """Goal 10: a component for each node of the whole graph, to scipy on the same list of edges.

    And who is who under the rules, which scipy does not know: of what is in memory as columns, and
    with reading all of it from Postgres, which scipy then does too.
    """

    def read_edges() -> list[tuple[int, int]]:
        with database.snapshot() as connection:
            rows = driver(connection).execute("SELECT node_ids[1], node_ids[2] FROM links")
            return [(row[0], row[1]) for row in rows]

    def read() -> Facts:
        with database.snapshot() as connection:
            return read_crowd(driver(connection))

    edges, facts = read_edges(), read()
    size = max(map(max, edges)) + 1

    def scipy(pairs: list[tuple[int, int]]) -> None:
        ends = np.array(pairs)
        ones = np.ones(len(pairs), dtype=np.int8)
        connected_components(coo_matrix((ones, (ends[:, 0], ends[:, 1])), (size, size)))

    def in_memory() -> float:
        return _time(lambda: scipy(edges))

    rows = []
    for goal, name, ours, theirs in (
        (10, "components", lambda: group_nodes(edges, {}), in_memory),
        ("10 with rules", "who is who under the rules", lambda: settle(facts, rules), in_memory),
        (
            "10 with rules, read",
            "reading it, and who is who under the rules",
            lambda: settle(read(), rules),
            lambda: _time(lambda: scipy(read_edges())),
        ),
    ):
        pairs = take_turns(rounds, lambda: _time(ours), theirs)  # noqa: B023
        rows.append(
            compare(
                goal,
                f"a graph of {len(edges):,} links: {name}, to scipy",
                [mine / other for mine, other in pairs],
                at_most=6,
                links_per_second=[len(edges) / mine for mine, _ in pairs],
            )
        )
    return rows


class Crowd:
    """A worker whose database holds many people already, any of whom may come again."""

    def __init__(self, database: Database, people: int) -> None:
        fill(database, people)
        self._ours = Ours(database)
        self._people = people
        self._number = 0
        self._draw = random.Random(1).randrange

    def work_off(self) -> float:
        """Return the seconds of a batch: five events each of people who were not seen lately."""
        lines = []
        for _ in range(BATCH // 5):
            person = 1 + self._draw(self._people)
            for _ in range(5):
                event = make_track(person, self._number, "2026-03-01T08:00:00.000Z")
                lines.append(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
                self._number += 1
        self._ours.append_lines(lines)
        started = time.perf_counter()
        while self._ours.worker.step(0):
            pass
        return time.perf_counter() - started

    def close(self) -> None:
        """Stop the worker."""
        self._ours.worker.close()
        self._ours.log.close()


def measure_growth(people: int, rounds: int) -> dict[str, Any]:
    """Time per event in a graph ten times as large."""
    with open_database() as small_database, open_database() as large_database:
        small, large = Crowd(small_database, people // 10), Crowd(large_database, people)
        for crowd in (small, large):
            crowd.work_off()
        pairs = take_turns(rounds, large.work_off, small.work_off)
        for crowd in (small, large):
            crowd.close()
    return compare(
        "growth",
        f"time per event at {2 * people:,} identifiers, to that at {2 * people // 10:,}",
        [mine / other for mine, other in pairs],
        at_most=1.2,
    )


def measure_component(database: Database, rules: Rules, rounds: int) -> list[dict[str, Any]]:
    """One person of a thousand identifiers; a telephone that ties a thousand people together."""
    with database.transaction() as connection:
        salt = ensure_salt(driver(connection))
    store = IdentityStore(rules, salt)
    person = Identifier("user_id", "traveller")
    devices = [Identifier("anonymous_id", f"browser-{n}") for n in range(COMPONENT - 1)]
    phone = Identifier("phone", "+8613800138000")
    visitors = [Identifier("anonymous_id", f"visitor-{n}") for n in range(COMPONENT)]
    _see(database, store, [(person, device) for device in devices])
    _see(database, store, [(phone, visitor) for visitor in visitors])
    ids = _find(database, [person, devices[0], devices[-1]])

    def recompute() -> float:
        with database.transaction() as connection:
            tx = driver(connection)
            batch_id = open_batch(tx)
            return _time(lambda: replay(tx, rules, salt, ids[:1], batch_id, BatchChanges(), now()))

    def explain_it() -> float:
        with database.snapshot() as connection:
            tx = driver(connection)
            return _time(lambda: explain(tx, rules, ids[1:2], ids[2:], same=True))

    blocked: list[float] = []
    for change in ("block", "unblock") * rounds:
        with database.transaction() as connection:
            hand = Hand(driver(connection), rules.country, "bench", "too many", now())
            blocked.append(_time(lambda: getattr(hand, change)(phone.type, phone.value)))  # noqa: B023
    return [
        _limit("recompute", f"replay of {COMPONENT:,} identifiers", recompute, 0.050, rounds),
        _limit("explain", f"explain among {COMPONENT:,} identifiers", explain_it, 0.020, rounds),
        _limit(
            "block",
            f"(un)blocking what tied {COMPONENT:,} people together, until followers may read it",
            iter(blocked).__next__,
            5.0,
            len(blocked),
        ),
    ]


def _see(database: Database, store: IdentityStore, pairs: list[tuple[Identifier, ...]]) -> None:
    at = now()
    seen = [Observation(pair, at, f"{pair[1]}", 1, trusted=True) for pair in pairs]
    changes = BatchChanges()
    with database.transaction() as connection:
        tx = driver(connection)
        batch_id = open_batch(tx)
        store.apply(tx, batch_id, seen, changes, at)
        close_batch(tx, batch_id, changes)


def _find(database: Database, identifiers: list[Identifier]) -> list[int]:
    found = []
    with database.snapshot() as connection:
        for one in identifiers:
            row = (
                driver(connection)
                .execute("SELECT node_id FROM nodes WHERE (type, value) = (%s, %s)", tuple(one))
                .fetchone()
            )
            assert row is not None
            found.append(row[0])
    return found


def _time(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _limit(
    goal: str, name: str, measure: Callable[[], float], seconds: float, rounds: int
) -> dict[str, Any]:
    """Return the row of a goal in seconds: a share of them, as on a processor of one's own."""
    took = [measure() for _ in range(rounds)]
    return compare(
        goal,
        f"{name}: share of {seconds * 1000:.0f} ms",
        [one / seconds for one in took],
        at_most=1.0,
        milliseconds=1000 * statistics.median(took),
    )


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure goal 10, growth, and what one large component costs."""
    rounds, people = (5, 100_000) if quick else (9, 2_500_000)
    rules = default_rules("CN")
    collect_rarely()
    with open_database() as database:
        fill(database, people // 2)
        rows = measure_restitch(database, rules, rounds)
        rows += measure_component(database, rules, rounds)
    return [*rows, measure_growth(people, rounds)]
