"""A component that a hot identifier held together comes apart with it.

Without this, thousands of strangers whom one poisonous import tied together would stay one
component: too full to take anything in, and replayed as a whole for every one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from cdp.identity.components_store import group_nodes
from cdp.identity.facts import LinkFact
from cdp.storage.database import Driver


def find_parts(
    members: Collection[int],
    links: Iterable[LinkFact],
    hot: Collection[int],
    shared_nodes: Mapping[int, int],
) -> dict[int, int]:
    """Return the component of each of ``members``, now that those ``hot`` tie nobody together.

    ``links`` are those of the component; a shared device's profile stays with the device, and
    twins stay together: what is hot in one spelling is so in the other. Empty when they stay one
    component. Pure.
    """
    inside = set(members)
    ties = [
        [n for n in link.node_ids if n in inside and (link.kind == "twin" or n not in hot)]
        for link in links
    ]
    ties += [[device, node] for device, node in shared_nodes.items() if device in inside]
    parts = {node_id: node_id for node_id in members}
    parts.update(group_nodes(ties, {}))
    return parts if len(set(parts.values())) > 1 else {}


def find_home(link: LinkFact, parts: Mapping[int, int], hot: Collection[int]) -> int:
    """Return the part that a link belongs to: that of the nodes which it ties together. Pure."""
    inside = [node_id for node_id in link.node_ids if node_id in parts]
    return min(parts[n] for n in ([n for n in inside if n not in hot] or inside))


def move_links(conn: Driver, homes: Mapping[int, int]) -> None:
    """Write the new components of links (link → component), in the order of the links."""
    moved = sorted(homes.items())
    conn.execute(
        """UPDATE links l SET component_id = m.component_id
             FROM unnest(%b::bigint[], %b::bigint[]) AS m (link_id, component_id)
            WHERE l.link_id = m.link_id""",
        ([link_id for link_id, _ in moved], [component_id for _, component_id in moved]),
    )
