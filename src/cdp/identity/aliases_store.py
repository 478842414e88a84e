"""What a caller says somebody was known by: an alias of a person who is known already.

``previousId`` carries no type and is read as an anonymous id. Where a trusted source names so
somebody who has that user id, it asks to make one person of two. That is refused, and is to be seen
among what was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from cdp.model import Identifier, Observation
from cdp.storage.database import Driver

_KNOWN, _READ_AS = "user_id", "anonymous_id"


def name_known(
    conn: Driver, aliases: Sequence[Observation], others: Iterable[Observation]
) -> list[Observation]:
    """Return the observations of alias calls, with user ids where others' were meant.

    Known is whoever was so before, or is by ``others``, what arrives with them.
    """
    asked = {
        name.value
        for one in aliases
        if one.trusted and _has_user(one)
        for name in one.identifiers
        if name.type == _READ_AS
    }
    known = _find_known(conn, asked) if asked else set()
    if asked:
        named = (name for one in others for name in one.identifiers if name.type == _KNOWN)
        known.update(name.value for name in named if name.value in asked)
    return [_name(one, known) if known else one for one in aliases]


def _has_user(seen: Observation) -> bool:
    return any(name.type == _KNOWN for name in seen.identifiers)


def _name(seen: Observation, known: Collection[str]) -> Observation:
    if not seen.trusted or not _has_user(seen):
        return seen
    own = {name.value for name in seen.identifiers if name.type == _KNOWN}
    meant: Mapping[Identifier, Identifier] = {
        name: Identifier(_KNOWN, name.value)
        for name in seen.identifiers
        if name.type == _READ_AS and name.value in known and name.value not in own
    }
    if not meant:
        return seen
    # The caller's own user id stays first: there the event hangs.
    names = dict.fromkeys(meant.get(name, name) for name in seen.identifiers)
    return msgspec.structs.replace(seen, identifiers=tuple(names))


def _find_known(conn: Driver, values: Collection[str]) -> set[str]:
    rows = conn.execute(
        "SELECT value FROM nodes WHERE type = %s AND value = ANY(%s) AND variant = ''",
        (_KNOWN, sorted(values)),
    )
    return {row[0] for row in rows}
