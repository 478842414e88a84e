"""Observations written shortly, and who is who after them, told by identifiers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cdp.identity.facts import Assignment, LinkFact, LinkKind, Node, Resolution
from cdp.identity.resolve import resolve
from cdp.identity.rules import Rules, default_rules
from cdp.identity.sightings import sum_links, sum_up
from cdp.model import Identifier, Observation

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = default_rules("CN")


def names(text: str, rules: Rules = RULES) -> tuple[Identifier, ...]:
    """Read ``"user_id:a anonymous_id:c"``, strongest first."""
    found = [Identifier(*word.split(":", 1)) for word in text.split()]
    return tuple(sorted(found, key=rules.order_of))


def saw(
    text: str,
    day: float,
    *,
    message: str | None = None,
    public: bool = False,
    received: float | None = None,
    source: int = 1,
) -> Observation:
    """One event on ``day`` (days after the start) that carries the identifiers of ``text``."""
    return Observation(
        names(text),
        START + timedelta(days=day),
        message or f"{text}@{day}",
        source,
        trusted=not public,
        received_at=None if received is None else START + timedelta(days=received),
    )


def build_facts(
    observations: Iterable[Observation],
) -> tuple[dict[int, Node], list[LinkFact]]:
    """Return the nodes and links that ``observations`` make, numbered in order of arrival."""
    sightings = sum_up(list(observations))
    ids = {identifier: number for number, identifier in enumerate(sightings.nodes, 1)}
    nodes = {
        ids[name]: Node(ids[name], *name, node.first) for name, node in sightings.nodes.items()
    }
    links = [
        LinkFact(
            number,
            link.trusted,
            link.node_ids,
            link.first_at,
            link.message_id,
            tuple((day, day + 1) for day in sorted(link.days)),
        )
        for number, link in enumerate(sum_links(sightings.groups, ids).values(), 1)
    ]
    return nodes, links


Decision = tuple[LinkKind, str, float]
"""What was decided by hand, about which identifiers, and on which day."""


class World:
    """Who is who after some observations and decisions, by the pure resolver alone."""

    def __init__(
        self,
        *observations: Observation,
        rules: Rules = RULES,
        decided: Iterable[Decision] = (),
    ) -> None:
        self.nodes, self.links = build_facts(observations)
        self.ids = {Identifier(node.type, node.value): node.node_id for node in self.nodes.values()}
        for number, (kind, text, day) in enumerate(decided, len(self.links) + 1):
            node_ids = tuple(self.ids[Identifier(*word.split(":", 1))] for word in text.split())
            at = START + timedelta(days=day)
            self.links.append(LinkFact(number, True, node_ids, at, f"by hand {number}", (), kind))
        self.resolution: Resolution = resolve(self.nodes.values(), self.links, rules)

    def owner(self, text: str, day: float | None = None) -> str:
        """Return who names the profile of an identifier now, or on ``day``.

        A shared device's own profile is ``shared(type:value)``.
        """
        parts = self.resolution.assignments[self.ids[names(text)[0]]]
        part = parts[-1] if day is None else _part_at(parts, START + timedelta(days=day))
        node = self.nodes[part.profile.node_id]
        name = f"{node.type}:{node.value}"
        return f"shared({name})" if part.profile.shared else name

    def people(self) -> set[frozenset[str]]:
        """Return the identifiers of each profile as they resolve now."""
        found: dict[str, set[str]] = {}
        for name in self.ids:
            found.setdefault(self.owner(str(name)), set()).add(str(name))
        return {frozenset(members) for members in found.values()}

    def refused(self) -> set[tuple[str, str, str]]:
        """Return (strong, weak, reason) of each refusal."""
        return {
            (self._name(refusal.strong), self._name(refusal.weak), refusal.reason)
            for refusal in self.resolution.refusals
        }

    def _name(self, node_id: int) -> str:
        node = self.nodes[node_id]
        return f"{node.type}:{node.value}"


def _part_at(parts: tuple[Assignment, ...], at: datetime) -> Assignment:
    return next(
        part
        for part in parts
        if (part.since is None or part.since <= at) and (part.until is None or at < part.until)
    )


def people(*texts: str) -> set[frozenset[str]]:
    """Return profiles from ``"user_id:a anonymous_id:c"`` each."""
    return {frozenset(text.split()) for text in texts}
