"""Newcomers: the people of a batch whom nothing ties to anybody known so far. Pure.

All that is known of such a person is new: identifiers of different types, seen together by one
link, or one alone. What ``plain`` would find out about each is found out here for thousands, and
needs no look at what is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from cdp.identity.clusters import find_meeting
from cdp.identity.identifiers import is_blocked
from cdp.identity.nodes_store import FreshNode
from cdp.identity.plain import is_plain_set
from cdp.identity.rules import Rules
from cdp.identity.sightings import LinkKey, LinkSighting
from cdp.identity.twins import is_variant


class Newcomer(NamedTuple):
    """A person who is new with all identifiers."""

    nodes: Sequence[FreshNode]
    owner: FreshNode
    """The node that names the profile."""
    link: LinkSighting | None

    @property
    def joined_at(self) -> datetime | None:
        """When several of the identifiers, each seen before by itself, were seen together."""
        if self.link is None:
            return None
        return find_meeting([node.sighting.first for node in self.nodes], self.link.first_at)


@dataclass(slots=True)
class Newcomers:
    """The newcomers of a batch, and what else is new."""

    people: list[Newcomer] = field(default_factory=list)
    fresh: Mapping[int, FreshNode] = field(default_factory=dict)
    """Nodes that are no newcomer's."""
    new_links: Mapping[LinkKey, LinkSighting] = field(default_factory=dict)


def find_newcomers(
    fresh: Mapping[int, FreshNode],
    new_links: Mapping[LinkKey, LinkSighting],
    entangled: Collection[int],
    rules: Rules,
    component_cap: int,
) -> Newcomers:
    """Part the newcomers from everything else that is new.

    ``entangled`` are nodes that something other than ``new_links`` concerns. A cap under two nodes
    lets nobody join.
    """
    if not fresh or component_cap < 2:
        return Newcomers([], fresh, new_links)
    uses = Counter(chain.from_iterable(node_ids for _, node_ids in new_links))
    shapes: dict[tuple[bool, tuple[str, ...]], tuple[int, ...] | None] = {}
    found = Newcomers()
    rest = dict(fresh)
    links: dict[LinkKey, LinkSighting] = {}
    concerned = set(entangled)

    def look_at(nodes: list[FreshNode], link: LinkSighting | None) -> bool:
        home = nodes[0].node_id
        for node in nodes:
            if node.component_id != home or node.node_id in concerned or _is_odd(node, rules):
                return False
        shape = link is None or link.trusted, tuple([node.identifier.type for node in nodes])
        if shape not in shapes:
            shapes[shape] = _rank(shape[1], rules, trusted=shape[0])
        order = shapes[shape]
        if order is None:
            return False
        # Of those seen first the strongest: the order is by strength.
        owner = min([nodes[n] for n in order], key=_first_seen)
        found.people.append(Newcomer(nodes, owner, link))
        for node in nodes:
            del rest[node.node_id]
        return True

    for key, link in new_links.items():
        nodes = [fresh[n] for n in key[1] if uses[n] == 1 and n in fresh]
        if len(nodes) < len(key[1]) or not look_at(nodes, link):
            links[key] = link
    for node_id, node in fresh.items():
        if node_id not in uses:
            look_at([node], None)
    found.fresh, found.new_links = rest, links
    return found


def _rank(types: Sequence[str], rules: Rules, *, trusted: bool) -> tuple[int, ...] | None:
    """Return the positions of ``types``, the strongest first; ``None`` if they might clash."""
    if not is_plain_set(types, rules, trusted=trusted):
        return None
    order = [(rules.rule_of(name).priority, name, n) for n, name in enumerate(types)]
    return tuple(n for _, _, n in sorted(order))


def _is_odd(node: FreshNode, rules: Rules) -> bool:
    return is_variant(node.identifier) or is_blocked(node.identifier, rules)


def _first_seen(node: FreshNode) -> datetime:
    return node.sighting.first
