"""Hot identifiers: those that tie together too many people to belong to any. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cdp.identity.facts import LinkFact, Node
from cdp.identity.rules import Rules


def find_hot(by_id: Mapping[int, Node], links: Sequence[LinkFact], rules: Rules) -> frozenset[int]:
    """Return the nodes that tie together too many people to belong to any."""
    hot = {node.node_id for node in by_id.values() if node.quarantined}
    if len(by_id) <= rules.least_hot_limit + 1:
        return frozenset(hot)
    counted = count_people(by_id, links, rules)
    hot.update(n for n, people in counted.items() if people > rules.hot_limit_of(by_id[n].type))
    return frozenset(hot)


def count_people(
    by_id: Mapping[int, Node], links: Iterable[LinkFact], rules: Rules
) -> dict[int, int]:
    """Return how many people each node was seen with: of one type, the most different values."""
    seen: dict[int, dict[str, set[int]]] = {}
    for link in links:
        if link.kind == "twin":
            continue
        present = [by_id[node_id] for node_id in link.node_ids if node_id in by_id]
        for node in present:
            for other in present:
                if other.type != node.type and _names_person(node, other, rules):
                    seen.setdefault(node.node_id, {}).setdefault(other.type, set()).add(
                        other.node_id
                    )
    return {node_id: max(map(len, by_type.values())) for node_id, by_type in seen.items()}


def _names_person(node: Node, other: Node, rules: Rules) -> bool:
    """Whether many of ``other``'s type beside ``node`` mean that ``node`` is not one person's."""
    rule = rules.rule_of(other.type)
    if rule.unique:
        return True
    return rule.strength == "contact" and rules.rule_of(node.type).strength != "strong"
