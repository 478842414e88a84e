"""Whether two clusters may become one, and if not, by which rule. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from cdp.identity.by_hand import Apart
from cdp.identity.clusters import Cluster, Clusters
from cdp.identity.facts import LinkFact, Reason
from cdp.identity.rules import Rules, TypeRule


class Verdicts:
    """Judges joins by the rules and by what was parted by hand."""

    def __init__(self, clusters: Clusters, rules: Rules, apart: Iterable[Apart]) -> None:
        self._clusters = clusters
        self._rules = rules
        self._apart: dict[int, dict[int, datetime]] = {}
        """Per node those that are not one person with it, and when that was decided last."""
        for one, other, decided_at in apart:
            if one in clusters.by_id and other in clusters.by_id:
                for node_id, from_id in ((one, other), (other, one)):
                    since = self._apart.setdefault(node_id, {})
                    since[from_id] = max(decided_at, since.get(from_id, decided_at))

    def were_parted(
        self, ours: Cluster, theirs: Cluster, link: LinkFact, one: int | None = None
    ) -> bool:
        """Whether somebody parted the two by hand: a node of each, ``one`` of theirs if given.

        Who merges by hand overrides what was decided before.
        """
        if ours is theirs or not self._apart:
            return False
        if one is not None:
            return self._is_apart(one, ours, link)
        few, many = sorted((ours, theirs), key=_size)
        return any(self._is_apart(node_id, many, link) for node_id in _list_members(few))

    def _is_apart(self, node_id: int, cluster: Cluster, link: LinkFact) -> bool:
        since = self._apart.get(node_id)
        if since is None:
            return False
        find = self._clusters.find
        among = since if len(since) <= _size(cluster) else _list_members(cluster)
        return any(
            other in since
            and find(other) is cluster
            and not (link.joins_by_hand and since[other] < link.first_at)
            for other in among
        )

    def object_to(
        self, ours: Cluster, theirs: Cluster, link: LinkFact, *, by_device: bool
    ) -> Reason | None:
        """Say why the two may not become one, or ``None``; ``by_device``: it alone ties them."""
        if ours.shared or theirs.shared:
            return "shared_device"
        if self.were_parted(ours, theirs, link):
            return "parted_by_hand"
        reason: Reason | None = None
        for type_name in ours.values.keys() & theirs.values.keys():
            rule = self._rules.rule_of(type_name)
            if rule.unique and link.kind != "exception":
                return "unique_conflict"
            if link.joins_by_hand:
                continue
            if by_device and rule.strength == "contact":
                reason = "other_contact"
            elif rule.limit is not None and rule.limit < sum(
                self._count(side.values[type_name], rule, link) for side in (ours, theirs)
            ):
                reason = reason or "limit"
        if not link.trusted and all(
            side.known and side.first_seen < link.first_at for side in (ours, theirs)
        ):
            return "public_source"
        return reason

    def _count(self, values: Collection[int], rule: TypeRule, link: LinkFact) -> int:
        """Count those of ``values`` that a limit counts: all, or those new within its window."""
        if rule.window is None:
            return len(values)
        since = link.first_at - rule.window
        by_id = self._clusters.by_id
        return sum(by_id[node_id].first_seen > since for node_id in values)


def _size(cluster: Cluster) -> int:
    return len(cluster.elements)


def _list_members(cluster: Cluster) -> Iterator[int]:
    """Give the nodes that belong to a cluster now."""
    for node_ids in cluster.values.values():
        yield from node_ids
