"""What the replays of all processes came to, added up in Postgres: workers are not scraped."""

from __future__ import annotations

from cdp.identity.change_rules_store import find_newest
from cdp.identity.hot_store import count_quarantined
from cdp.identity.replay_tally import Counts, ReplayTally
from cdp.storage.database import Database, Driver, driver


def flush(database: Database, tally: ReplayTally) -> None:
    """Add what this process has counted to the sums; counts it again when that fails."""
    taken = tally.take()
    if not taken:
        return
    try:
        with database.transaction() as connection:
            _add(driver(connection), taken)
    except BaseException:
        tally.give_back(taken)
        raise


def _add(conn: Driver, counts: Counts) -> None:
    rows = sorted((name, label, number) for (name, label), number in counts.items())
    conn.execute(
        """INSERT INTO identity_tallies AS t (name, label, value)
           SELECT * FROM unnest(%s::text[], %s::text[], %s::float8[])
           ON CONFLICT (name, label) DO UPDATE SET value = t.value + excluded.value""",
        tuple([list(column) for column in zip(*rows, strict=True)]),
    )


def read_counts(conn: Driver) -> Counts:
    """Return the sums."""
    rows = conn.execute("SELECT name, label, value FROM identity_tallies").fetchall()
    return {(row[0], row[1]): row[2] for row in rows}


def read_gauges(conn: Driver) -> dict[str, float]:
    """Return what is so just now: hot identifiers, and how far the newest rules have come."""
    newest = find_newest(conn)
    gauges = {"hot_identifiers": float(count_quarantined(conn)), "rules_version": 1.0}
    if newest is not None:
        gauges["rules_version"] = float(newest.version)
        gauges["rules_components_done"] = float(newest.components)
        gauges["rules_components_total"] = float(newest.components_total or 0)
        gauges["rules_applying"] = float(newest.state == "applying")
    return gauges
