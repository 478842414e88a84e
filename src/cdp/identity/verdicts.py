"""Whether two clusters may become one, and if not, by which rule. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cdp.identity.by_hand import Apart
from cdp.identity.clusters import Cluster, Clusters
from cdp.identity.facts import LinkFact, Reason
from cdp.identity.rules import Rules, TypeRule


class Verdicts:
    """Judges joins by the rules and by what was parted by hand."""

    def __init__(self, clusters: Clusters, rules: Rules, apart: Sequence[Apart]) -> None:
        self._clusters = clusters
        self._rules = rules
        self._apart = apart

    def were_parted(
        self, ours: Cluster, theirs: Cluster, link: LinkFact, one: int | None = None
    ) -> bool:
        """Whether somebody parted the two by hand: a node of each, ``one`` being either if given.

        Who merges by hand overrides what was decided before.
        """
        if ours is theirs or not self._apart:
            return False
        find, by_id = self._clusters.find, self._clusters.by_id
        for a, b, decided_at in self._apart:
            if one is not None and one not in (a, b):
                continue
            if link.joins_by_hand and decided_at < link.first_at:
                continue
            if a in by_id and b in by_id:
                sides = find(a), find(b)
                if sides == (ours, theirs) or sides == (theirs, ours):
                    return True
        return False

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
