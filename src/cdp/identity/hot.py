"""Hot identifiers: those that tie together too many people to belong to any. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from cdp.identity.facts import LinkFact, Node
from cdp.identity.rules import Rules

_FAR = 2
_CROWD = 8
"""So many times ``hot_limit`` of others are a crowd; fewer are not, however strict a limit is."""
_NEVER = 1 << 62


def find_hot(by_id: Mapping[int, Node], links: Sequence[LinkFact], rules: Rules) -> frozenset[int]:
    """Return the nodes that tie together too many people to belong to any."""
    hot = {node.node_id for node in by_id.values() if node.quarantined}
    if len(by_id) <= rules.least_hot_limit + 1:
        return frozenset(hot)
    # A node has seen no more people than others beside it, and most have seen few.
    beside: Counter[int] = Counter()
    for link in links:
        more = len(link.node_ids) - 1
        for node_id in link.node_ids:
            beside[node_id] += more
    doubtful = {n for n, others in beside.items() if others > rules.least_hot_limit and n in by_id}
    if not doubtful:
        return frozenset(hot)
    counted = count_people(by_id, links, rules, only=doubtful)
    hot.update(n for n, people in counted.items() if people > rules.hot_limit_of(by_id[n].type))
    least = min((_most_of(name, rules) or _NEVER for name in rules.types), default=_NEVER)
    crowded = {n for n in doubtful - hot if beside[n] > least}
    if crowded:
        hot.update(_find_crowded(by_id, links, rules, crowded))
    return frozenset(hot)


def _most_of(type_name: str, rules: Rules) -> int | None:
    """Return beside how many of a type an identifier may still be one person's; ``None``: any.

    Twice as many as a person may have: who has a few too many only gets no more.
    """
    rule = rules.rule_of(type_name)
    if rule.unique or rule.limit is None or rule.window is not None:
        return None
    return max(_FAR * rule.limit, _CROWD * rules.least_hot_limit)


def _find_crowded(
    by_id: Mapping[int, Node], links: Iterable[LinkFact], rules: Rules, only: Collection[int]
) -> set[int]:
    """Return those of ``only`` that nobody can be: a test user on the devices of a whole shop."""
    return {
        node_id
        for node_id, by_type in count_beside(by_id, links, only).items()
        for name, count in by_type.items()
        if (most := _most_of(name, rules)) is not None
        and count > max(most, _CROWD * rules.hot_limit_of(by_id[node_id].type))
    }


def count_beside(
    by_id: Mapping[int, Node], links: Iterable[LinkFact], only: Collection[int]
) -> dict[int, dict[str, int]]:
    """Return how many identifiers of each other type were seen with each of ``only``."""
    seen: dict[int, dict[str, set[int]]] = {}
    for link in links:
        if link.kind == "twin":
            continue
        present = [by_id[node_id] for node_id in link.node_ids if node_id in by_id]
        for node in present:
            if node.node_id in only:
                by_type = seen.setdefault(node.node_id, {})
                for other in present:
                    if other.type != node.type:
                        by_type.setdefault(other.type, set()).add(other.node_id)
    return {n: {name: len(found) for name, found in types.items()} for n, types in seen.items()}


def count_people(
    by_id: Mapping[int, Node],
    links: Iterable[LinkFact],
    rules: Rules,
    *,
    only: Collection[int] | None = None,
) -> dict[int, int]:
    """Return how many people each node was seen with: of one type, the most different values.

    ``only`` names those to count for.
    """
    seen: dict[int, dict[str, set[int]]] = {}
    names_person: dict[tuple[str, str], bool] = {}
    for link in links:
        if link.kind == "twin":
            continue
        present = [by_id[node_id] for node_id in link.node_ids if node_id in by_id]
        for node in present:
            if only is not None and node.node_id not in only:
                continue
            for other in present:
                pair = node.type, other.type
                counts = names_person.get(pair)
                if counts is None:
                    counts = names_person[pair] = _names_person(node, other, rules)
                if counts:
                    seen.setdefault(node.node_id, {}).setdefault(other.type, set()).add(
                        other.node_id
                    )
    return {node_id: max(map(len, by_type.values())) for node_id, by_type in seen.items()}


def _names_person(node: Node, other: Node, rules: Rules) -> bool:
    """Whether many of ``other``'s type beside ``node`` mean that ``node`` is not one person's."""
    if other.type == node.type:
        return False
    rule = rules.rule_of(other.type)
    if rule.unique:
        return True
    return rule.strength == "contact" and rules.rule_of(node.type).strength != "strong"
