"""May a person be reached for a purpose, by a channel, at a time? The one answer to that. Pure.

A statement is about a *purpose* (``marketing``), for every channel, or about one *channel* of it,
named ``marketing.email``. The lattice, per purpose P and channel C:

- For P itself only statements about P count; for C of P those about P and those about ``P.C``: the
  newest of them, so that a purpose-wide statement covers every channel until the channel's own
  newer one, and a later purpose-wide one covers that again. Of one message the refusal counts, so
  a message that denies P denies every channel of it.
- When people were joined, the newest statement of each counts, and a refusal among them wins, until
  somebody states anything after the join: meet of {granted, denied} with denied below granted.
- What a source's setting takes for granted counts only while nobody has said anything.
- Where nothing was stated nobody may be reached.

All of it is a maximum, then a minimum, over a set, so neither order of arrival nor repetition
matters. ``may_be_reached`` says it of one person, ``write_reach_query`` of all of a database's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from cdp.model import DEFAULT_CONSENT_AT

CHANNELS = ("email", "sms", "wechat", "push", "phone")
"""By which a person can be reached."""

Dialect = Literal["duckdb", "postgres"]


class Statement(NamedTuple):
    """What one message said of one purpose; ``node_id`` tells whose statement it was.

    ``purpose`` is the name of a purpose, or of one channel of it: ``marketing.email``.
    """

    purpose: str
    granted: bool
    at: datetime
    message_id: str
    source_number: int
    node_id: int
    evidence: Any = None
    """What the statement is proved by, as it was given; ``None`` when it is only the message."""

    @property
    def stamp(self) -> tuple[datetime, str, int]:
        """What decides which is newer: event time, then message id, then source."""
        return self.at, self.message_id, self.source_number

    @property
    def weight(self) -> tuple[datetime, str, int, bool]:
        """The stamp, and for two of one message the refusal."""
        return self.at, self.message_id, self.source_number, not self.granted

    @property
    def is_default(self) -> bool:
        """Whether nobody said it: it stands in the settings of a source."""
        return self.at == DEFAULT_CONSENT_AT


def name_statement(purpose: str, channel: str | None) -> str:
    """Return the name under which a statement is kept: ``marketing`` or ``marketing.email``."""
    return purpose if channel is None else f"{purpose}.{channel}"


def split_name(name: str) -> tuple[str, str | None]:
    """Return purpose and channel of a statement's name; only the known channels are channels."""
    purpose, dot, channel = name.rpartition(".")
    return (purpose, channel) if dot and purpose and channel in CHANNELS else (name, None)


def list_names(name: str) -> tuple[str, ...]:
    """Return the names of the statements that decide about ``name``: the purpose's, its own."""
    purpose, channel = split_name(name)
    return (purpose,) if channel is None else (purpose, name)


def decide_consent(
    statements: Iterable[Statement], joined_at: datetime | None, name: str, at: datetime
) -> Statement | None:
    """Return the statement that counts at ``at`` for ``name``, a purpose or ``purpose.channel``.

    ``joined_at`` is the event time of the newest link that made one of two people who had both
    been seen before, and ``None`` without one. Statements later than ``at`` do not count yet.
    ``None``: nothing stated.
    """
    names = list_names(name)
    heard = [one for one in statements if one.purpose in names and one.at <= at]
    heard = [one for one in heard if not one.is_default] or heard
    if not heard:
        return None
    newest = max(heard, key=lambda one: one.weight)
    if joined_at is None or newest.at > joined_at:
        return newest
    of_each: dict[int, Statement] = {}
    for statement in heard:
        known = of_each.get(statement.node_id)
        if known is None or statement.weight > known.weight:
            of_each[statement.node_id] = statement
    refusals = [one for one in of_each.values() if not one.granted]
    return max(refusals or of_each.values(), key=lambda one: one.weight)


def may_be_reached(
    statements: Iterable[Statement],
    joined_at: datetime | None,
    purpose: str,
    channel: str | None,
    at: datetime,
) -> bool:
    """Say whether a person may be reached for ``purpose`` by ``channel`` (``None``: at all).

    ``statements`` are all the person's, ``joined_at`` as for ``decide_consent``. Whoever hands
    people to another system asks this, or ``write_reach_query``, at the time of handing over.
    """
    found = decide_consent(statements, joined_at, name_statement(purpose, channel), at)
    return found is not None and found.granted


# From consents and owners to one verdict a person, in words that both databases understand.
# First level: the newest of each node, by the weight of ``Statement``; second: the person's.
_NEWEST = {
    "duckdb": 'arg_max({value}, ("at", message_id, source_number, NOT granted))',
    "postgres": (
        '(array_agg({value} ORDER BY "at" DESC, message_id COLLATE "C" DESC, source_number DESC,'
        " granted))[1]"
    ),
}
_QUERY = """
SELECT profile_no, granted FROM (
    SELECT profile_no,
           CASE WHEN coalesce(max("at") > min(joined_at), TRUE) THEN {newest_granted}
                ELSE coalesce(bool_and(granted) FILTER (WHERE "at" > {default_at}),
                              bool_and(granted))
           END AS granted
      FROM ({of_each}) AS of_each
     GROUP BY profile_no) AS verdicts
"""
_STATED = """
SELECT o.profile_no, c.node_id, c.granted, c."at", c.message_id, c.source_number, p.joined_at
  FROM {consents} c
  JOIN {owners} o ON o.node_id = c.node_id AND c."at" >= o.since AND c."at" < o.until
  JOIN {profiles} p ON p.profile_no = o.profile_no
 WHERE c.purpose IN ({names}) AND c."at" <= {at}
"""
_OF_EACH = """
SELECT profile_no, node_id, {granted} AS granted, max("at") AS "at",
       {message_id} AS message_id, {source_number} AS source_number, min(joined_at) AS joined_at
  FROM ({stated}) AS stated
 GROUP BY profile_no, node_id
"""


def write_reach_query(
    dialect: Dialect,
    *,
    names: Sequence[str],
    at: str,
    default_at: str,
    consents: str = "consents",
    owners: str = "node_profiles",
    profiles: str = "profiles",
) -> str:
    """Return SQL that selects ``profile_no, granted`` for everybody who stated anything.

    ``names`` are placeholders for ``list_names(name)``; ``at`` one for the time, ``default_at`` one
    for ``DEFAULT_CONSENT_AT``. The tables are those of the schema, or subsets of them (in DuckDB
    ``core.node_consents``, ``core.node_profiles``, ``core.profiles``). Whoever is not granted, or
    not among the rows, may not be reached. Decides as ``may_be_reached`` does; registers only, so
    a statement dated after now hides the one before it until its time comes.
    """
    newest = _NEWEST[dialect]
    of_each = _STATED.format(
        consents=consents, owners=owners, profiles=profiles, names=", ".join(names), at=at
    )
    # A purpose's register is one row a node: nothing to choose.
    if len(names) > 1:
        of_each = _OF_EACH.format(
            stated=of_each,
            **{
                column: newest.format(value=column)
                for column in ("granted", "message_id", "source_number")
            },
        )
    return _QUERY.format(
        of_each=of_each, newest_granted=newest.format(value="granted"), default_at=default_at
    )
