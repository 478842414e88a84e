"""Sets of profiles and how they combine.

A leaf gives the profiles for which it holds, or, where it holds for profiles that nothing is known
about (``not_exists``, "fewer than three orders"), the profiles for which it does *not* hold. So
``not`` costs nothing, and no set of all profiles is made before the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# More sets than this are combined by counting, which the planner takes flat.
MOST_JOINED = 12
_NOBODY = "SELECT 0::BIGINT AS profile_no WHERE FALSE"


class Members(NamedTuple):
    """The profiles in the relation ``name`` (distinct ``profile_no``), or all others."""

    name: str
    is_complement: bool = False

    def inverted(self) -> Members:
        """Return the set of the other profiles."""
        return Members(self.name, not self.is_complement)


@dataclass(slots=True)
class Relations:
    """The named subqueries (``WITH``) of a statement; equal ones are written once."""

    _names: dict[str, str] = field(default_factory=dict)

    def add(self, sql: str) -> str:
        """Return the name of the subquery ``sql``."""
        return self._names.setdefault(sql, f"s{len(self._names) + 1}")

    def prefix(self) -> str:
        """Return the WITH clause; empty when nothing was added."""
        parts = [f"{name} AS ({sql})" for sql, name in self._names.items()]
        return f"WITH {', '.join(parts)} " if parts else ""


def intersect(members: Sequence[Members], relations: Relations) -> Members:
    """Return the profiles that are in every set; all profiles when there is no set."""
    inside = list(dict.fromkeys(m.name for m in members if not m.is_complement))
    outside = list(dict.fromkeys(m.name for m in members if m.is_complement))
    nobody = relations.add(_NOBODY)
    if nobody in inside or not set(inside).isdisjoint(outside):
        return Members(nobody)
    outside = [name for name in outside if name != nobody]
    if not inside:
        return Members(_union(outside, relations), is_complement=True)
    if len(inside) == 1 and not outside:
        return Members(inside[0])
    if len(inside) + len(outside) > MOST_JOINED:
        return Members(_counted(inside, outside, relations))
    joins = [f"SEMI JOIN {name} USING (profile_no)" for name in inside[1:]]
    joins += [f"ANTI JOIN {name} USING (profile_no)" for name in outside]
    return Members(relations.add(f"SELECT profile_no FROM {inside[0]} {' '.join(joins)}"))


def unite(members: Sequence[Members], relations: Relations) -> Members:
    """Return the profiles that are in at least one set; none when there is no set."""
    return intersect([m.inverted() for m in members], relations).inverted()


def _union(names: list[str], relations: Relations) -> str:
    if not names:
        return relations.add(_NOBODY)
    if len(names) == 1:
        return names[0]
    stacked = _stacked([f"SELECT profile_no FROM {name}" for name in names])
    return relations.add(f"SELECT DISTINCT profile_no FROM ({stacked})")


def _counted(inside: list[str], outside: list[str], relations: Relations) -> str:
    rows = [f"SELECT profile_no, 1 AS inside FROM {name}" for name in inside]
    rows += [f"SELECT profile_no, -1 AS inside FROM {name}" for name in outside]
    return relations.add(
        f"SELECT profile_no FROM ({_stacked(rows)}) GROUP BY profile_no "
        f"HAVING sum(inside) = {len(inside)} AND min(inside) = 1"
    )


def _stacked(queries: list[str]) -> str:
    """Return the UNION ALL of the queries as a balanced tree: a chain would nest too deep."""
    if len(queries) == 1:
        return queries[0]
    middle = len(queries) // 2
    return f"({_stacked(queries[:middle])}) UNION ALL ({_stacked(queries[middle:])})"
