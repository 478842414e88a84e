"""The identifiers that tie most people together, for a steward to look at before they hurt."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from cdp.identity.facts import LinkFact, Node
from cdp.identity.hot import count_beside, count_people
from cdp.identity.identifiers import is_blocked
from cdp.identity.links_store import read_component_links, read_links_of
from cdp.identity.rules import DEFAULT_TYPE, Rules
from cdp.model import Identifier
from cdp.storage.database import Driver

_MOST_COMPONENTS = 5000
_MOST_NODES = 100_000
"""People are looked for in components of so many such nodes together; those with most first."""
_MOST_EXAMPLES = 5
_CROWD = 8
"""Devices or contacts beside a strong identifier, in times of its ``hot_limit``, worth a look."""
_NEAR = 0.6
"""From this share of ``hot_limit`` on an identifier is worth a look."""

Level = Literal["blocked", "hot", "warning", "normal"]


class HotIdentifier(NamedTuple):
    identifier: Identifier
    people: int
    """Different values of one type that names people, seen together with it."""
    events: int
    """That hang on it."""
    first_seen: datetime
    last_seen: datetime
    sources: tuple[str, ...]
    """Ids of those that reported it."""
    quarantined: bool
    """Its links are withdrawn, because of how many people it ties together."""
    level: Level
    examples: tuple[Identifier, ...]
    """Some of those that it was seen with, the strongest of each link."""

    @property
    def blocked(self) -> bool:
        return self.level == "blocked"


class _Row(NamedTuple):
    node_id: int
    type: str
    value: str
    first_seen: datetime
    last_seen: datetime
    events: int
    source_numbers: Sequence[int]
    quarantined: bool


def list_hot(conn: Driver, rules: Rules, *, limit: int) -> list[HotIdentifier]:
    """Return identifiers that were seen with more than one person, and all quarantined ones, most

    people first. Reads all nodes, and all links when any identifier is quarantined.
    """
    hot = {row[0] for row in conn.execute("SELECT node_id FROM nodes WHERE quarantined")}
    components = _list_crowded(conn, rules)
    seen = [link for link in read_component_links(conn, components) if link.kind == "seen"]
    if hot:
        seen += read_links_of(conn, hot)
    links = list({link.link_id: link for link in seen}.values())
    nodes, inside = _read_nodes(conn, links, set(components))
    counted = count_people(nodes, links, rules)
    people = {**counted}
    for node_id, count in _count_strong(nodes, links, rules).items():
        people[node_id] = max(count, people.get(node_id, 0))
    for node_id, crowd in _count_crowds(nodes, links, rules).items():
        people[node_id] = max(crowd, people.get(node_id, 0))
    chosen = [n for n in inside if people.get(n, 0) > 1 and n not in hot] + list(hot)
    chosen.sort(key=lambda n: (-people.get(n, 0), nodes[n].type if n in nodes else "", n))
    rows = _read_rows(conn, chosen[:limit])
    examples = _list_examples(chosen[:limit], nodes, links, rules)
    sources = _name_sources(conn, rows)
    return [
        HotIdentifier(
            Identifier(row.type, row.value),
            people.get(row.node_id, 0),
            row.events,
            row.first_seen,
            row.last_seen,
            tuple(sources[number] for number in row.source_numbers if number in sources),
            row.quarantined,
            _judge(row, people.get(row.node_id, 0), counted.get(row.node_id, 0), rules),
            examples.get(row.node_id, ()),
        )
        for row in rows
    ]


def count_quarantined(conn: Driver) -> int:
    """Return how many identifiers are hot."""
    row = conn.execute("SELECT count(*) FROM nodes WHERE quarantined").fetchone()
    assert row is not None
    return int(row[0])


def _list_crowded(conn: Driver, rules: Rules) -> list[int]:
    """Return components that hold several values of one type that names people."""
    naming = [name for name in rules.types if _names_people(name, rules)]
    rows = conn.execute(
        """SELECT component_id, count(*) FROM nodes
            WHERE variant = ''
            GROUP BY component_id, type
           HAVING count(*) > CASE WHEN type = ANY(%(naming)s)
                                    OR %(others)s AND NOT type = ANY(%(known)s)
                                  THEN 1 ELSE %(crowd)s END
            ORDER BY count(*) DESC, component_id LIMIT %(limit)s""",
        {
            "naming": naming,
            "others": DEFAULT_TYPE in naming,
            "known": list(rules.types),
            "crowd": _CROWD * rules.least_hot_limit,
            "limit": _MOST_COMPONENTS,
        },
    ).fetchall()
    found: dict[int, None] = {}
    size = 0
    for component_id, count in rows:
        found[component_id] = None
        size += count
        if size >= _MOST_NODES:
            break
    return list(found)


def _names_people(type_name: str, rules: Rules) -> bool:
    rule = rules.rule_of(type_name)
    return rule.strength in ("strong", "contact") or rule.unique


def _read_nodes(
    conn: Driver, links: Iterable[LinkFact], components: Collection[int]
) -> tuple[dict[int, Node], list[int]]:
    """Return the nodes of ``links``, and which of them lie in ``components``."""
    around = sorted({node_id for link in links for node_id in link.node_ids})
    nodes: dict[int, Node] = {}
    inside: list[int] = []
    for row in conn.execute(
        "SELECT node_id, type, value, first_seen, component_id FROM nodes WHERE node_id = ANY(%b)",
        (around,),
    ):
        nodes[row[0]] = Node(*row[:4])
        if row[4] in components:
            inside.append(row[0])
    return nodes, inside


def _read_rows(conn: Driver, node_ids: Sequence[int]) -> list[_Row]:
    """Return the rows of nodes, in their order."""
    rows = conn.execute(
        """SELECT node_id, type, value, first_seen, last_seen, events, source_numbers, quarantined
             FROM nodes WHERE node_id = ANY(%b)""",
        (sorted(node_ids),),
    ).fetchall()
    found = {row[0]: _Row(*row) for row in rows}
    return [found[node_id] for node_id in node_ids]


def _count_strong(
    nodes: Mapping[int, Node], links: Iterable[LinkFact], rules: Rules
) -> dict[int, int]:
    """Return with how many values of one strong type each contact or device was seen.

    The rules do not call it hot when a person may have several of that type; a steward may.
    """
    seen: dict[int, dict[str, set[int]]] = {}
    for link in links:
        present = [nodes[n] for n in link.node_ids if n in nodes]
        strong = [one for one in present if rules.rule_of(one.type).strength == "strong"]
        for node in present:
            if rules.rule_of(node.type).strength != "strong":
                for other in strong:
                    by_type = seen.setdefault(node.node_id, {})
                    by_type.setdefault(other.type, set()).add(other.node_id)
    return {node_id: max(map(len, by_type.values())) for node_id, by_type in seen.items()}


def _count_crowds(
    nodes: Mapping[int, Node], links: Sequence[LinkFact], rules: Rules
) -> dict[int, int]:
    """Return of the strong identifiers that were seen with a crowd beside how many.

    A test user on the devices of a whole shop is withdrawn once they are twice too many; a steward
    sees it before.
    """
    strong = {n for n, one in nodes.items() if rules.rule_of(one.type).strength == "strong"}
    crowds = {}
    for node_id, by_type in count_beside(nodes, links, strong).items():
        most = max(by_type.values(), default=0)
        if most > _CROWD * rules.hot_limit_of(nodes[node_id].type):
            crowds[node_id] = most
    return crowds


def _judge(row: _Row, people: int, counted: int, rules: Rules) -> Level:
    if is_blocked(Identifier(row.type, row.value), rules):
        return "blocked"
    limit = rules.hot_limit_of(row.type)
    if row.quarantined or counted > limit:
        return "hot"
    return "warning" if people >= max(2, _NEAR * limit) else "normal"


def _list_examples(
    wanted: Iterable[int], nodes: Mapping[int, Node], links: Iterable[LinkFact], rules: Rules
) -> dict[int, tuple[Identifier, ...]]:
    """Return some of those that each was seen with: the strongest of a link, the newest first."""
    left = set(wanted)
    found: dict[int, dict[Identifier, None]] = {}
    for link in sorted(links, key=lambda link: (link.first_at, link.link_id), reverse=True):
        for node_id in left.intersection(link.node_ids):
            others = [
                Identifier(nodes[n].type, nodes[n].value)
                for n in link.node_ids
                if n in nodes and n != node_id
            ]
            seen = found.setdefault(node_id, {})
            if others:
                seen[min(others, key=rules.order_of)] = None
            if len(seen) >= _MOST_EXAMPLES:
                left.discard(node_id)
    return {node_id: tuple(names) for node_id, names in found.items()}


def _name_sources(conn: Driver, rows: Iterable[_Row]) -> dict[int, str]:
    numbers = sorted({number for row in rows for number in row.source_numbers})
    return dict(
        conn.execute(
            "SELECT number, source_id FROM sources WHERE number = ANY(%b)", (numbers,)
        ).fetchall()
    )
