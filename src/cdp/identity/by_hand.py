"""What people decided by hand, as facts for the replay. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import combinations
from typing import NamedTuple

from cdp.identity.facts import LinkFact


class Apart(NamedTuple):
    """Two nodes that are not one person, by a decision of this moment."""

    one: int
    other: int
    decided_at: datetime


def list_apart(links: Iterable[LinkFact]) -> list[Apart]:
    """Return the pairs of nodes that somebody parted by hand."""
    pairs: list[Apart] = []
    for link in links:
        if link.kind == "parted":
            pairs += [Apart(a, b, link.first_at) for a, b in combinations(link.node_ids, 2)]
        elif link.kind == "detached":
            first = link.node_ids[0]
            pairs += [Apart(first, other, link.first_at) for other in link.node_ids[1:]]
    return pairs
