"""Find people by what is known of them: scans from the side of the facts, decision 0014.

A scan reads each trait or identifier once, whoever it is of; Postgres begins with whichever
condition it takes for the rarest, and ends with the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cdp.model import Identifier
from cdp.storage.database import Driver


class TraitFilter(NamedTuple):
    """What a trait, or what ``path`` leads to in it, must be as text, or begin with.

    ``others`` are further names under which people have the same trait.
    """

    name: str
    path: tuple[str, ...]
    text: str
    is_prefix: bool = False
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that the trait may have."""
        return self.name, *self.others

    def accepts(self, found: str | None) -> bool:
        """Whether ``found`` is what is wanted."""
        if found is None:
            return False
        return found.startswith(self.text) if self.is_prefix else found == self.text


class IdentifierFilter(NamedTuple):
    """An identifier that leads to the person, or how the value of one of its type begins."""

    identifier: Identifier
    is_prefix: bool = False


# What was said by an operation is judged by the caller.
_HAS_TRAIT = """
EXISTS (SELECT 1 FROM node_profiles np
          JOIN traits t ON t.node_id = np.node_id AND t.at >= np.since AND t.at < np.until
         WHERE np.profile_no = p.profile_no AND t.name = {named}
           AND ({match} OR t.part LIKE '~%%'))
"""
_IS_TEXT = "t.value #>> %(path{n})s::text[] = %(value{n})s"
_BEGINS = "starts_with(t.value #>> %(path{n})s::text[], %(value{n})s)"

_HAS_IDENTIFIER = """
EXISTS (SELECT 1 FROM nodes n JOIN node_profiles np ON np.node_id = n.node_id
         WHERE np.profile_no = p.profile_no AND np.until = 'infinity' AND n.variant = ''
           AND n.type = %(type{n})s AND {match})
"""
_IS_IDENTIFIER = "n.value = %(value{n})s"
_IDENTIFIER_BEGINS = "starts_with(n.value, %(value{n})s)"

# Who was erased from a shared device leaves a shadow.
_IS_SOMEBODY = """
(NOT EXISTS (SELECT FROM privacy_tombstones)
 OR NOT EXISTS (SELECT FROM node_profiles np JOIN nodes n ON n.node_id = np.node_id
                 WHERE np.profile_no = p.profile_no AND n.variant = 'erased'))
"""

# The beginning of an identifier, or anything within a text.
_MENTIONS = """
p.profile_no IN (
    SELECT np.profile_no
      FROM nodes n JOIN node_profiles np ON np.node_id = n.node_id AND np.until = 'infinity'
     WHERE n.variant = '' AND n.value ILIKE %(start)s AND NOT (n.type = ANY(%(hidden)s::text[]))
       AND (NOT %(is_masked)s OR n.value NOT LIKE '%%@%%')
     UNION
    SELECT np.profile_no
      FROM traits t
      JOIN node_profiles np ON np.node_id = t.node_id AND t.at >= np.since AND t.at < np.until
     WHERE NOT %(is_masked)s
       -- As it is written costs less to look at than what it says; an escape may say anything.
       AND (t.value::text ILIKE %(written)s OR t.value::text LIKE '%%\\\\u%%')
       AND t.value #>> '{}' ILIKE %(within)s AND json_typeof(t.value) = 'string')
"""


def search_people(
    connection: Driver,
    *,
    traits: Iterable[TraitFilter] = (),
    identifiers: Iterable[IdentifierFilter] = (),
    words: str | None = None,
    hidden_types: Sequence[str] = (),
    after: int = 0,
    limit: int,
) -> list[int]:
    """Return the numbers of people above ``after``, ascending, that may match.

    Since a newer value of a trait may stand on another node of the person, the caller checks the
    joined traits. ``words`` is looked for within texts and at the beginning of identifiers.
    ``hidden_types`` are identifier types that the caller may not search; with any, neither traits
    nor e-mail addresses answer to ``words``.
    """
    conditions = ["p.profile_no > %(after)s", _IS_SOMEBODY]
    parameters: dict[str, object] = {"after": after, "limit": limit}
    for n, one in enumerate(traits):
        match = (_BEGINS if one.is_prefix else _IS_TEXT).format(n=n)
        named = f"ANY(%(name{n})s::text[])" if one.others else f"%(name{n})s"
        conditions.append(_HAS_TRAIT.format(n=n, match=match, named=named))
        name = list(one.names) if one.others else one.name
        parameters |= {f"name{n}": name, f"path{n}": list(one.path), f"value{n}": one.text}
    for n, asked in enumerate(identifiers, 1000):
        match = (_IDENTIFIER_BEGINS if asked.is_prefix else _IS_IDENTIFIER).format(n=n)
        conditions.append(_HAS_IDENTIFIER.format(n=n, match=match))
        parameters |= {f"type{n}": asked.identifier.type, f"value{n}": asked.identifier.value}
    if words:
        literal = _escape(words)
        conditions.append(_MENTIONS)
        parameters |= {
            "start": f"{literal}%",
            "within": f"%{literal}%",
            "written": f"%{literal}%" if _is_plain(words) else "%",
            "hidden": list(hidden_types),
            "is_masked": bool(hidden_types),
        }
    rows = connection.execute(
        f"""SELECT p.profile_no FROM profiles p WHERE {" AND ".join(conditions)}
             ORDER BY p.profile_no LIMIT %(limit)s""",
        parameters,
    )
    return [profile_no for (profile_no,) in rows]


def _escape(text: str) -> str:
    """Return the pattern of LIKE that means ``text`` itself."""
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def _is_plain(text: str) -> bool:
    return text.isprintable() and not set(text) & set('"\\/')
