"""Who may be reached, of many at once: for whatever hands people to somebody else."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from cdp.model import DEFAULT_CONSENT_AT
from cdp.reach import list_names, write_reach_query
from cdp.storage.database import Driver

_OWNERS = "(SELECT * FROM node_profiles WHERE profile_no = ANY(%(people)s::bigint[]))"


def find_reachable(
    connection: Driver, profile_nos: Collection[int], name: str, at: datetime
) -> frozenset[int]:
    """Return those of some people who may be reached for ``name`` at ``at``.

    ``name`` is a purpose, or a channel of one as ``cdp.reach.name_statement`` writes it.
    """
    names = list_names(name)
    query = write_reach_query(
        "postgres",
        names=[f"%(name{place})s" for place in range(len(names))],
        at="%(at)s",
        default_at="%(default_at)s",
        owners=_OWNERS,
    )
    rows = connection.execute(
        f"SELECT profile_no FROM ({query}) AS verdicts WHERE granted",
        {
            "people": list(profile_nos),
            "at": at,
            "default_at": DEFAULT_CONSENT_AT,
            **{f"name{place}": one for place, one in enumerate(names)},
        },
    )
    return frozenset(number for (number,) in rows)
