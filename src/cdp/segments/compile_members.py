"""Sets of profiles and how they combine.

A leaf gives the profiles for which it holds, or, where it holds for profiles that nothing is known
about (``not_exists``, "fewer than three orders"), the profiles for which it does *not* hold. So
``not`` costs nothing, and no set of all profiles is made before the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# More sets than this are combined by counting, which the planner takes flat.
MOST_JOINED = 12
NOBODY = "(SELECT 0::BIGINT AS profile_no WHERE FALSE)"


class Members(NamedTuple):
    """The profiles in ``relation`` (distinct; a name or a subquery), or all others."""

    relation: str
    is_complement: bool = False

    def inverted(self) -> Members:
        """Return the set of the other profiles."""
        return Members(self.relation, not self.is_complement)


class Ballot(NamedTuple):
    """Many sets in one relation: rows (``profile_no``, ``inside``), 1 for a profile that is in one
    of the ``inside`` sets, -1 for one in a set that members must not be in."""

    relation: str
    inside: int


def as_members(select: str, *, is_complement: bool = False) -> Members:
    """Return the set of the profiles that ``select`` gives."""
    return Members(f"({select})", is_complement)


def members_where(rows: str, test: str, absent_holds: bool) -> Members:
    """Return the profiles whose row satisfies ``test``, and those without one if the absent do."""
    wanted = f"NOT {test}" if absent_holds else test
    select = f"SELECT profile_no FROM ({rows}) WHERE {wanted}"
    return as_members(select, is_complement=absent_holds)


def intersect(members: Sequence[Members], ballots: Sequence[Ballot] = ()) -> Members:
    """Return the profiles that are in every set; all profiles when there is no set."""
    inside = list(dict.fromkeys(m.relation for m in members if not m.is_complement))
    outside = list(dict.fromkeys(m.relation for m in members if m.is_complement))
    if NOBODY in inside or not set(inside).isdisjoint(outside):
        return Members(NOBODY)
    outside = [relation for relation in outside if relation != NOBODY]
    if ballots or len(inside) + len(outside) > MOST_JOINED:
        return _counted(inside, outside, ballots)
    if not inside:
        return Members(_union(outside), is_complement=True)
    if len(inside) == 1 and not outside:
        return Members(inside[0])
    joins = [f"SEMI JOIN {relation} USING (profile_no)" for relation in inside[1:]]
    joins += [f"ANTI JOIN {relation} USING (profile_no)" for relation in outside]
    return as_members(f"SELECT profile_no FROM {inside[0]} {' '.join(joins)}")


def _union(relations: list[str]) -> str:
    if not relations:
        return NOBODY
    if len(relations) == 1:
        return relations[0]
    stacked = _stacked([f"SELECT profile_no FROM {relation}" for relation in relations])
    return f"(SELECT DISTINCT profile_no FROM ({stacked}))"


def _counted(inside: list[str], outside: list[str], ballots: Sequence[Ballot]) -> Members:
    """Intersect by counting rows: as many 1 as there are inside sets, and no -1."""
    rows = [f"SELECT profile_no, 1 AS inside FROM {relation}" for relation in inside]
    rows += [f"SELECT profile_no, -1 AS inside FROM {relation}" for relation in outside]
    rows += [f"SELECT profile_no, inside FROM {ballot.relation}" for ballot in ballots]
    wanted = len(inside) + sum(ballot.inside for ballot in ballots)
    if wanted == 0:
        distinct = f"SELECT DISTINCT profile_no FROM ({_stacked(rows)})"
        return as_members(distinct, is_complement=True)
    return as_members(
        f"SELECT profile_no FROM ({_stacked(rows)}) GROUP BY profile_no "
        f"HAVING sum(inside) = {wanted} AND min(inside) = 1"
    )


def _stacked(queries: list[str]) -> str:
    """Return the UNION ALL of the queries as a balanced tree: a chain would nest too deep."""
    if len(queries) == 1:
        return queries[0]
    middle = len(queries) // 2
    return f"({_stacked(queries[:middle])}) UNION ALL ({_stacked(queries[middle:])})"
