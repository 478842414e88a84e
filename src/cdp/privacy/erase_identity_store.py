"""Take people out of who is who, so that nothing changes for those they shared a device with.

A device is shared because two people were seen on it. When one of them is erased, a shadow stays in
their place: a node without a value, which nothing leads to and nobody sees. Without it, what the
device did while nobody was known would fall to the other.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from cdp.privacy.people_store import Person
from cdp.storage.database import Driver

SHADOW = "erased"
"""The variant of a node that stands for somebody who was erased."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class ErasedLinks(NamedTuple):
    """What became of the links of some nodes."""

    links: int
    refusals: int
    shadows: frozenset[int]
    """Nodes of which a shadow stays."""
    around: frozenset[int]
    """Nodes of others that were seen with them."""


def erase_links(conn: Driver, nodes: Sequence[int], devices: Collection[int]) -> ErasedLinks:
    """Remove the links of ``nodes``, except those that make a device of ``devices`` shared."""
    components = {
        row[0]: row[1]
        for row in conn.execute(
            """SELECT component_id, bool_or(quarantined) FROM nodes
                WHERE node_id = ANY(%s) GROUP BY component_id""",
            (list(nodes),),
        )
    }
    # Links with an identifier that ties too many together lie where the others are.
    where = "" if any(components.values()) else "component_id = ANY(%(components)s) AND"
    found: list[tuple[int, list[int]]] = conn.execute(
        f"""SELECT link_id, node_ids FROM links
             WHERE {where} node_ids && %(nodes)s::bigint[] ORDER BY link_id""",
        {"components": sorted(components), "nodes": list(nodes)},
    ).fetchall()
    theirs = frozenset(nodes)
    around = frozenset(node_id for _, node_ids in found for node_id in node_ids) - theirs
    devices = {*devices, *_list_shared(conn, around)}
    shadows = frozenset(
        node_id
        for _, node_ids in found
        if not devices.isdisjoint(node_ids)
        for node_id in node_ids
        if node_id in theirs
    )
    gone = [link for link, node_ids in found if not (theirs & set(node_ids)) <= shadows]
    conn.execute("DELETE FROM links WHERE link_id = ANY(%s)", (gone,))
    # Of two first observations the message id decides; who is who must not hang on what it said.
    conn.execute(
        "UPDATE links SET first_message_id = 'erased-' || link_id WHERE link_id = ANY(%s)",
        ([link for link, _ in found if link not in set(gone)],),
    )
    refusals = conn.execute(
        """DELETE FROM refusals WHERE link_id = ANY(%(gone)s) OR (
                component_id = ANY(%(components)s)
                AND (node_a = ANY(%(nodes)s) OR node_b = ANY(%(nodes)s)))""",
        {
            "gone": gone,
            "components": sorted(components),
            "nodes": sorted(theirs - shadows),
        },
    ).rowcount
    return ErasedLinks(len(gone), refusals, shadows, around)


def _list_shared(conn: Driver, node_ids: Collection[int]) -> list[int]:
    """Return those of ``node_ids`` that are not one person's for all time."""
    rows = conn.execute(
        """SELECT node_id FROM node_profiles WHERE node_id = ANY(%s)
            GROUP BY node_id HAVING count(*) > 1""",
        (sorted(node_ids),),
    )
    return [row[0] for row in rows]


def erase_nodes(
    conn: Driver, people: Sequence[Person], nodes: Sequence[int], shadows: Collection[int]
) -> tuple[int, int]:
    """Remove nodes and profiles, or leave shadows; return how many identifiers and profiles went.

    Whatever id led to one of these people leads nowhere afterwards.
    """
    _erase_forms(conn, nodes)
    # Some of their nodes stay, without a name: what was suggested of them does not.
    sides = [*nodes, *(person.profile_no for person in people)]
    conn.execute(
        "DELETE FROM identity_suggestions WHERE node_a = ANY(%(sides)s) OR node_b = ANY(%(sides)s)",
        {"sides": sides},
    )
    identifiers = conn.execute(
        "DELETE FROM nodes WHERE node_id = ANY(%s)", (sorted(set(nodes) - set(shadows)),)
    ).rowcount
    for node_id in sorted(shadows):
        conn.execute(
            """UPDATE nodes SET value = 'erased:' || node_id, variant = %s, profile_id = %s,
                      last_seen = first_seen, events = 0, source_numbers = '{}'
                WHERE node_id = %s""",
            (SHADOW, _make_nameless_id(), node_id),
        )
    profiles = 0
    for person in people:
        # A shared device's own profile is only emptied: the device goes on.
        if person.nodes:
            profiles += 1
            conn.execute("DELETE FROM node_profiles WHERE profile_no = %s", (person.profile_no,))
            conn.execute("DELETE FROM profiles WHERE profile_no = %s", (person.profile_no,))
            # A device that was theirs first may have named them: it gets a name nobody was told.
            conn.execute(
                "UPDATE nodes SET profile_id = %s WHERE node_id = %s",
                (_make_nameless_id(), person.profile_no),
            )
    conn.execute("DELETE FROM node_profiles WHERE node_id = ANY(%s)", (sorted(nodes),))
    return identifiers + len(shadows), profiles


def _make_nameless_id() -> str:
    return "prf_" + "".join(secrets.choice(_ALPHABET) for _ in range(26))


def erase_history(conn: Driver, people: Sequence[Person]) -> int:
    """Remove what the history of profiles says of these people; return how many lines."""
    ids = [one for person in people for one in (person.profile_id, *person.profile_ids)]
    return conn.execute(
        """DELETE FROM profile_changes
            WHERE profile_id = ANY(%(ids)s) OR details ->> 'from' = ANY(%(ids)s)
               OR details ->> 'into' = ANY(%(ids)s)""",
        {"ids": ids},
    ).rowcount


def hide_shadows(conn: Driver, batch_id: int) -> None:
    """Let no history tell that shadows came to be."""
    conn.execute(
        """DELETE FROM profile_changes c
            USING profiles p
             JOIN node_profiles m ON m.profile_no = p.profile_no
             JOIN nodes n ON n.node_id = m.node_id
            WHERE c.batch_id = %s AND c.profile_id = p.profile_id AND n.variant = %s""",
        (batch_id, SHADOW),
    )


def list_existing(conn: Driver, node_ids: Collection[int]) -> list[int]:
    """Return those of ``node_ids`` that exist, in order."""
    rows: list[Any] = conn.execute(
        "SELECT node_id FROM nodes WHERE node_id = ANY(%s) ORDER BY node_id", (sorted(node_ids),)
    ).fetchall()
    return [row[0] for row in rows]


def _erase_forms(conn: Driver, nodes: Sequence[int]) -> None:
    """Forget how ``nodes`` are also written; what others share with them stays theirs."""
    conn.execute(
        """UPDATE identifier_forms
              SET node_ids = ARRAY(SELECT n FROM unnest(node_ids) n
                                    WHERE n <> ALL(%(nodes)s::bigint[]) ORDER BY n)
            WHERE node_ids && %(nodes)s::bigint[]""",
        {"nodes": list(nodes)},
    )
    conn.execute("DELETE FROM identifier_forms WHERE node_ids = '{}'")
