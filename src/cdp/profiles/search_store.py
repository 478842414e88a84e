"""Find people by what is known of them. A scan: right, and fast enough for a search box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdp.storage.database import Driver

# What was said by an operation is judged by the caller.
_HAS_TRAIT = """
EXISTS (SELECT 1 FROM node_profiles np
          JOIN traits t ON t.node_id = np.node_id AND t.at >= np.since AND t.at < np.until
         WHERE np.profile_no = p.profile_no AND t.name = %(name{n})s
           AND (t.value #>> %(path{n})s::text[] = %(value{n})s OR t.part LIKE '~%%'))
"""

# Who was erased from a shared device leaves a shadow.
_IS_SOMEBODY = """
NOT EXISTS (SELECT FROM node_profiles np JOIN nodes n ON n.node_id = np.node_id
             WHERE np.profile_no = p.profile_no AND n.variant = 'erased')
"""

# The beginning of a value or of a word in it.
_MENTIONS = """
EXISTS (SELECT 1 FROM node_profiles np
          JOIN nodes n ON n.node_id = np.node_id AND n.variant = ''
         WHERE np.profile_no = p.profile_no AND np.until = 'infinity'
           AND NOT (n.type = ANY(%(hidden)s::text[]))
           AND (NOT %(is_masked)s OR n.value NOT LIKE '%%@%%')
           AND n.value ILIKE %(start)s)
OR EXISTS (SELECT 1 FROM node_profiles np
             JOIN traits t ON t.node_id = np.node_id AND t.at >= np.since AND t.at < np.until
            WHERE np.profile_no = p.profile_no AND json_typeof(t.value) = 'string'
              AND NOT %(is_masked)s
              AND (t.value #>> '{}' ILIKE %(start)s OR t.value #>> '{}' ILIKE %(word)s))
"""


def search_people(
    connection: Driver,
    *,
    traits: Mapping[str, tuple[Sequence[str], str]],
    prefix: str | None,
    hidden_types: Sequence[str],
    after: int,
    limit: int,
) -> list[int]:
    """Return the numbers of people above ``after``, ascending, that may match.

    ``traits`` gives for a trait's name a path into its value and the value there as text. Since a
    newer value may stand on another node of the person, the caller checks the joined traits.
    ``hidden_types`` are identifier types that the caller may not search; with any, neither traits
    nor e-mail addresses answer to ``prefix``.
    """
    conditions = ["p.profile_no > %(after)s", _IS_SOMEBODY]
    parameters: dict[str, object] = {"after": after, "limit": limit}
    for n, (name, (path, value)) in enumerate(traits.items()):
        conditions.append(_HAS_TRAIT.format(n=n))
        parameters |= {f"name{n}": name, f"path{n}": list(path), f"value{n}": value}
    if prefix:
        conditions.append(f"({_MENTIONS})")
        literal = prefix.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        parameters |= {
            "start": f"{literal}%",
            "word": f"% {literal}%",
            "hidden": list(hidden_types),
            "is_masked": bool(hidden_types),
        }
    rows = connection.execute(
        f"""SELECT p.profile_no FROM profiles p WHERE {" AND ".join(conditions)}
             ORDER BY p.profile_no LIMIT %(limit)s""",
        parameters,
    )
    return [profile_no for (profile_no,) in rows]
