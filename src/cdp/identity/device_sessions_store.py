"""When people were authenticated on shared devices, read from the events in Postgres.

An event keeps the link that says what it carried, so the facts are there before anybody asks for
them, and the default setting costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from cdp.identity.device_sessions import (
    Run,
    Use,
    are_sessions_kept,
    assign_sessions,
    list_uses,
)
from cdp.identity.facts import LinkFact, Node, Resolution
from cdp.identity.rules import Rules
from cdp.identity.sightings import BACKDATING_LIMIT
from cdp.storage.database import Driver

Moments = Mapping[int, Sequence[datetime]]
"""Per link, when it was seen, in events that are not written yet."""
_NONE: Moments = {}


def settle_sessions(
    conn: Driver,
    resolutions: Mapping[int, Resolution],
    by_id: Mapping[int, Node],
    links: Iterable[LinkFact],
    rules: Rules,
    *,
    moments: Moments = _NONE,
    lock: bool = False,
) -> dict[int, Resolution]:
    """Give shared devices to the people last authenticated on them, if the rules say so.

    ``resolutions`` are by any number, ``links`` those of all. ``lock`` waits for whoever is writing
    events of these devices, and keeps others from it until the transaction ends.
    """
    if not are_sessions_kept(rules):
        return dict(resolutions)
    uses = _list_uses(resolutions, by_id, links, rules)
    every = [use for found in uses.values() for use in found]
    if not every:
        return dict(resolutions)
    if lock:
        _lock_devices(conn, {use.device for use in every})
    runs = _read_runs(conn, every, rules, moments)
    settled = dict(resolutions)
    for label, found in uses.items():
        mine = {use.device: runs[use.device] for use in found if use.device in runs}
        settled[label] = assign_sessions(resolutions[label], mine, rules.session_timeout)
    return settled


def _list_uses(
    resolutions: Mapping[int, Resolution],
    by_id: Mapping[int, Node],
    links: Iterable[LinkFact],
    rules: Rules,
) -> dict[int, list[Use]]:
    label_of = {
        key.node_id: label
        for label, resolution in resolutions.items()
        for key in resolution.joined_at
        if key.shared
    }
    concerned: dict[int, list[LinkFact]] = {}
    for link in links if label_of else ():
        for label in {label_of[n] for n in link.node_ids if n in label_of}:
            concerned.setdefault(label, []).append(link)
    return {
        label: list_uses(resolutions[label], by_id, found, rules)
        for label, found in concerned.items()
    }


def find_shared(conn: Driver, node_ids: Collection[int]) -> set[int]:
    """Return those devices among some nodes that are or were shared."""
    if not node_ids:
        return set()
    rows = conn.execute(
        """SELECT n.node_id
             FROM nodes n
             JOIN nodes s ON s.type = n.type AND s.value = n.value AND s.variant = 'shared'
            WHERE n.node_id = ANY(%b) AND n.variant <> 'shared'""",
        (sorted(node_ids),),
    ).fetchall()
    return {row[0] for row in rows}


def _lock_devices(conn: Driver, node_ids: Iterable[int]) -> None:
    # Whoever writes an event counts it on its nodes first, and so holds their rows.
    conn.execute(
        "SELECT FROM nodes WHERE node_id = ANY(%b) ORDER BY node_id FOR NO KEY UPDATE",
        (sorted(node_ids),),
    )


def _read_runs(
    conn: Driver, uses: Sequence[Use], rules: Rules, moments: Moments
) -> dict[int, list[Run]]:
    """Return per device who used it when. ``uses`` are in order: of one moment the last counts."""
    links = {use.link.link_id: use.link for use in uses}
    fresh = [(link_id, at) for link_id in links for at in moments.get(link_id, ())]
    rows = conn.execute(
        """WITH seen AS (
               SELECT e.link_id, e.at FROM events e
                 JOIN unnest(%b::bigint[], %b::bool[]) AS l (link_id, trusted) USING (link_id)
                WHERE e.node_id = ANY(%b) AND e.at >= %b
                  AND (l.trusted OR e.at >= e.received_at - %b::interval)
               UNION ALL
               SELECT * FROM unnest(%b::bigint[], %b::timestamptz[])),
           ordered AS (
               SELECT u.device, u.top, s.at, u.rank,
                      u.top = lag(u.top) OVER mine AND s.at <= lag(s.at) OVER mine + %b::interval
                          AS goes_on
                 FROM unnest(%b::bigint[], %b::timestamptz[], %b::bigint[], %b::bigint[])
                      WITH ORDINALITY AS u (device, since, link_id, top, rank)
                 JOIN seen s ON s.link_id = u.link_id AND s.at >= u.since
               WINDOW mine AS (PARTITION BY u.device ORDER BY s.at, u.rank)),
           numbered AS (
               SELECT device, top, at,
                      count(*) FILTER (WHERE goes_on IS NOT TRUE)
                          OVER (PARTITION BY device ORDER BY at, rank) AS run
                 FROM ordered)
           SELECT device, top, min(at), max(at) FROM numbered
            GROUP BY device, top, run ORDER BY device, run""",
        (
            [link.link_id for link in links.values()],
            [link.trusted for link in links.values()],
            sorted({node_id for link in links.values() for node_id in link.node_ids}),
            min(use.since for use in uses),
            BACKDATING_LIMIT,
            [link_id for link_id, _ in fresh],
            [at for _, at in fresh],
            rules.session_timeout,
            [use.device for use in uses],
            [use.since for use in uses],
            [use.link.link_id for use in uses],
            [use.top for use in uses],
        ),
    ).fetchall()
    runs: dict[int, list[Run]] = {}
    for device, top, first, last in rows:
        runs.setdefault(device, []).append(Run(top, first, last))
    return runs
