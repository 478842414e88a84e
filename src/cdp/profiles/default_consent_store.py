"""What the people of a source are taken to agree to while nobody has said anything.

A default is a statement dated before all others, with the source as its evidence. So whatever is
really said replaces it, in any order of arrival, and a refusal by default outranks a consent by
default.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cdp.model import DEFAULT_CONSENT_AT, Source
from cdp.profiles.consent import Statement
from cdp.profiles.profile_write_store import UPSERT_CONSENTS
from cdp.storage.database import Driver

# Of two defaults the one whose message id is greater counts.
_GRANTED, _REFUSED = "default-granted", "default-refused"


def write_default_consents(
    connection: Driver, seen: Iterable[tuple[Source, int | None]]
) -> set[int]:
    """Keep the defaults of the sources for the nodes seen; return the nodes that changed."""
    rows = sorted(
        {
            (node, purpose, source.number, bool(granted))
            for source, node in seen
            if node is not None
            for purpose, granted in (source.settings.get("default_consent") or {}).items()
        }
    )
    if not rows:
        return set()
    # One row a node and purpose: a statement cannot change a row twice.
    chosen = {(node, purpose): (number, granted) for node, purpose, number, granted in rows}
    for node, purpose, number, granted in rows:
        if not granted:
            chosen[node, purpose] = (number, granted)
    parameters = (
        [node for node, _ in chosen],
        [purpose for _, purpose in chosen],
        # Before all time is before any cut.
        [None for _ in chosen],
        [granted for _, granted in chosen.values()],
        [DEFAULT_CONSENT_AT for _ in chosen],
        [_GRANTED if granted else _REFUSED for _, granted in chosen.values()],
        [number for number, _ in chosen.values()],
    )
    return {node for (node,) in connection.execute(UPSERT_CONSENTS, parameters)}


# What is stated before all time belongs to whoever had the identifier first.
_DEFAULTS = """
SELECT n.node_id, d.key, d.value = 'true'::jsonb, s.number
  FROM node_profiles np
  JOIN nodes n ON n.node_id = np.node_id AND n.first_seen <= %s
 CROSS JOIN LATERAL unnest(n.source_numbers) AS seen (number)
  JOIN sources s ON s.number = seen.number
                AND jsonb_typeof(s.settings -> 'default_consent') = 'object'
 CROSS JOIN LATERAL jsonb_each(s.settings -> 'default_consent') d
 WHERE np.profile_no = %s AND np.since = '-infinity'
"""


def read_defaults(connection: Driver, profile_no: int, at: datetime) -> list[Statement]:
    """Return what is taken for granted of a person's identifiers seen by ``at``.

    The registers forget a default once somebody says anything; the settings of the sources do not.
    """
    return [
        Statement(
            purpose,
            granted,
            DEFAULT_CONSENT_AT,
            _GRANTED if granted else _REFUSED,
            number,
            node,
        )
        for node, purpose, granted, number in connection.execute(_DEFAULTS, (at, profile_no))
    ]
