"""Everybody at once: who is who where nothing can clash, decided by columns. Pure.

Of a million people nearly all are identifiers of different types that were seen together by one
link, or one alone. Counting says which: an identifier that one link names, or none. What ``plain``
finds out about each of them is found out here for all of them together; the rest has to be
replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdp.identity.blocked_many import find_blocked
from cdp.identity.default_types import HASHED_TYPES
from cdp.identity.rules import Rules
from cdp.identity.scopes import SEPARATOR
from cdp.identity.twins import is_variant
from cdp.model import Identifier

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Crowd:
    """All nodes and links, by columns; times in microseconds since 1970."""

    node_ids: Ints
    """Ascending."""
    types: Sequence[str]
    values: Sequence[str]
    first_seen: Ints
    link_ids: Ints
    are_seen: Bools
    """Whether a link tells what was seen, not what was decided."""
    are_trusted: Bools
    first_at: Ints
    ends: Ints
    """The nodes of all links, one link after the other."""
    starts: Ints
    """Where in ``ends`` the nodes of each link start; one more than there are links."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What was decided, by positions of nodes in the crowd."""

    owners: Ints
    """Per node the node that names its profile; -1 for those that have to be replayed."""
    joined_at: Ints
    """Per node that names a profile, when people met in it, in microseconds; ``NEVER``."""
    rest: Ints
    """The links that have to be replayed, by position."""


NEVER = int(np.iinfo(np.int64).min)


def settle(crowd: Crowd, rules: Rules) -> Settled:
    """Say who is who wherever nothing can clash: what ``resolve`` comes to there."""
    count = len(crowd.node_ids)
    owners = np.full(count, -1, dtype=np.int64)
    joined_at = np.full(count, NEVER, dtype=np.int64)
    names = list(dict.fromkeys(crowd.types))
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.fromiter(map(code_of.__getitem__, crowd.types), dtype=np.int64, count=count)
    odd = _find_odd(crowd, names, codes, rules)
    ends, is_known = _find_positions(crowd)
    uses = np.bincount(ends[is_known], minlength=count)
    alone = np.flatnonzero((uses == 0) & ~odd)
    owners[alone] = alone
    fit = (uses == 1) & ~odd
    links = _find_plain(crowd, fit[ends] & is_known, codes[ends], names, rules)
    chosen = np.flatnonzero(links)
    if chosen.size:
        own, met = _find_owners(crowd, chosen, ends, _rank(names, rules)[codes])
        sizes = np.diff(crowd.starts)[chosen]
        inside = np.repeat(links, np.diff(crowd.starts))
        owners[ends[inside]] = np.repeat(own, sizes)
        joined_at[own] = np.where(met, crowd.first_at[chosen], NEVER)
    return Settled(owners, joined_at, np.flatnonzero(~links))


def _find_odd(crowd: Crowd, names: Sequence[str], codes: Ints, rules: Rules) -> Bools:
    """Say of which nodes the replay has to judge: spellings of others, and what names nobody."""
    odd = np.zeros(len(codes), dtype=np.bool_)
    for code, name in enumerate(names):
        where = np.flatnonzero(codes == code)
        values = [crowd.values[n] for n in where.tolist()]
        odd[where[_list_variants(name, values)]] = True
        odd[where[find_blocked(name, values, rules)]] = True
    return odd


def _list_variants(type_name: str, values: Sequence[str]) -> list[int]:
    if type_name not in HASHED_TYPES and SEPARATOR not in "\n".join(values):
        return []
    return [n for n, value in enumerate(values) if is_variant(Identifier(type_name, value))]


def _find_positions(crowd: Crowd) -> tuple[Ints, Bools]:
    """Return the position of the node of each end, and whether it is there."""
    positions = np.searchsorted(crowd.node_ids, crowd.ends)
    positions = np.minimum(positions, len(crowd.node_ids) - 1)
    return positions, crowd.node_ids[positions] == crowd.ends


def _find_plain(crowd: Crowd, fit: Bools, codes: Ints, names: Sequence[str], rules: Rules) -> Bools:
    """Say which links hold one person and nobody else: ``plain.is_plain_set`` of each."""
    sizes = np.diff(crowd.starts)
    if not sizes.size:
        return np.zeros(0, dtype=np.bool_)
    of = np.repeat(np.arange(len(sizes)), sizes)
    strong = np.array([rules.rule_of(name).strength == "strong" for name in names], dtype=np.bool_)
    count_of = np.bincount(of, weights=fit, minlength=len(sizes))
    strong_of = np.bincount(of, weights=strong[codes], minlength=len(sizes))
    order = np.lexsort((codes, of))
    twice = (of[order][1:] == of[order][:-1]) & (codes[order][1:] == codes[order][:-1])
    has_twins = np.zeros(len(sizes), dtype=np.bool_)
    has_twins[of[order][1:][twice]] = True
    return np.asarray(
        crowd.are_seen
        & (sizes > 1)
        & (sizes <= rules.least_hot_limit + 1)
        & (count_of == sizes)
        & ~has_twins
        & (crowd.are_trusted | (strong_of < 2))
    )


def _rank(names: Sequence[str], rules: Rules) -> Ints:
    """Return the place of each type in the order of strength."""
    order = sorted(
        range(len(names)), key=[(rules.rule_of(n).priority, n) for n in names].__getitem__
    )
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _find_owners(crowd: Crowd, chosen: Ints, ends: Ints, ranks: Ints) -> tuple[Ints, Bools]:
    """Return of each chosen link the node seen first, the strongest of several; and whether two

    of its nodes had been seen before it.
    """
    sizes = np.diff(crowd.starts)
    is_chosen = np.zeros(len(sizes), dtype=np.bool_)
    is_chosen[chosen] = True
    inside = np.repeat(is_chosen, sizes)
    nodes = ends[inside]
    of = np.repeat(np.arange(len(chosen)), sizes[chosen])
    order = np.lexsort((ranks[nodes], crowd.first_seen[nodes], of))
    firsts = np.concatenate(([0], np.cumsum(sizes[chosen])[:-1]))
    before = crowd.first_seen[nodes] < np.repeat(crowd.first_at[chosen], sizes[chosen])
    return nodes[order][firsts], np.bincount(of, weights=before, minlength=len(chosen)) > 1
