"""Members of a segment out of DuckDB: pinned to a change, so that a pull is one moment's truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from cdp.segments.compile import Compiled, compile_rule
from cdp.segments.member_fields import MemberField
from cdp.segments.person_engine import Reader
from cdp.segments.rules import AllOf, Consent

CHUNK_ROWS = 20_000

# Members as of the change $pinned: today's without those that changed since, and those back that
# were in then and have left since.
_MEMBERS = """
later AS (
    SELECT profile_no, arg_min(change, change_no) AS change FROM core.membership_changes
     WHERE segment = $segment AND change_no > $pinned GROUP BY profile_no),
members AS (
    SELECT profile_no, profile_id, entered_at FROM core.memberships m
     WHERE segment = $segment AND NOT EXISTS (FROM later l WHERE l.profile_no = m.profile_no)
    UNION ALL
    SELECT c.profile_no, arg_max(c.profile_id, c.change_no), arg_max(c."at", c.change_no)
      FROM core.membership_changes c JOIN later l ON l.profile_no = c.profile_no
     WHERE c.segment = $segment AND c.change_no <= $pinned AND c.change = 'entered'
       AND l.change = 'left'
     GROUP BY c.profile_no),
page AS MATERIALIZED (
    SELECT profile_no, profile_id, entered_at FROM members
     WHERE profile_no > $after {among} {consented}
     ORDER BY profile_no LIMIT $most)
"""
_TAGGED = """
page AS MATERIALIZED (
    SELECT profile_no, profile_id, "at" AS entered_at, value FROM core.tag_values
     WHERE key = $tag AND profile_no > $after {among} {consented}
     ORDER BY profile_no LIMIT $most)
"""
_PEOPLE = """
page AS MATERIALIZED (
    SELECT profile_no, profile_id, NULL::TIMESTAMPTZ AS entered_at FROM core.profiles
     WHERE profile_no > $after {among} {consented}
     ORDER BY profile_no LIMIT $most)
"""
_AMONG = "AND profile_no IN (SELECT unnest($among))"

_IDENTIFIER = """
SELECT np.profile_no, to_json(arg_max(n.value, (n.last_seen, n.value)))::VARCHAR AS value
  FROM core.nodes n JOIN core.node_profiles np ON np.node_id = n.node_id
 WHERE n.type = {key} AND n.variant = '' AND np.until = 'infinity'
   AND np.profile_no IN (SELECT profile_no FROM page)
 GROUP BY np.profile_no
"""
_TRAIT = """
SELECT np.profile_no,
       core.trait_value(t.value, t.part, t.rank, t."at", t.message_id, t.source_number) AS value
  FROM core.node_traits t JOIN core.node_profiles np
    ON np.node_id = t.node_id AND t."at" >= np.since AND t."at" < np.until
 WHERE t.name = {key} AND t."at" <= $now AND np.profile_no IN (SELECT profile_no FROM page)
 GROUP BY np.profile_no
"""
_TAG = """
SELECT profile_no, value FROM core.tag_values
 WHERE key = {key} AND profile_no IN (SELECT profile_no FROM page)
"""


@dataclass(frozen=True, slots=True)
class Pull:
    """What a caller wants of a segment, and the moment it is pinned to."""

    segment: str
    pinned: int
    """The change after which nothing is seen."""
    fields: Sequence[MemberField]
    purposes: Sequence[str]
    """Only members who granted each of these."""
    now: datetime
    timezone: str


def read_pin(reader: Reader) -> int:
    """Return the newest change in the mirror."""
    found = reader.read("SELECT coalesce(max(change_no), 0) AS pin FROM core.ledger_mirror")
    return int(found["pin"][0].as_py())


def read_page(
    reader: Reader, pull: Pull, *, after: int, most: int, among: Sequence[int] | None = None
) -> pa.Table:
    """Return up to ``most`` members after the profile number ``after``, in order.

    Only those ``among`` some, when given. Columns: profile_no, profile_id, entered_at, and per
    field its value as JSON text.
    """
    params = {"segment": pull.segment, "pinned": pull.pinned}
    return _read(reader, _MEMBERS, params, pull, after=after, most=most, among=among)


def read_tagged_page(
    reader: Reader,
    key: str,
    pull: Pull,
    *,
    after: int,
    most: int,
    among: Sequence[int] | None = None,
) -> pa.Table:
    """Return people who have a value of the tag ``key``, as ``read_page`` returns members.

    ``entered_at`` is the time of the value, which comes last, as JSON text in ``value``.
    """
    params = {"tag": key}
    value = ", page.value"
    return _read(reader, _TAGGED, params, pull, after=after, most=most, among=among, value=value)


def read_people(reader: Reader, pull: Pull, among: Sequence[int]) -> pa.Table:
    """Return those of ``among`` who grant the purposes, as ``read_page`` returns members;

    ``entered_at`` is empty.
    """
    return _read(reader, _PEOPLE, {}, pull, after=-1, most=len(among), among=among)


def _read(
    reader: Reader,
    page: str,
    params: dict[str, Any],
    pull: Pull,
    *,
    after: int,
    most: int,
    among: Sequence[int] | None,
    value: str = "",
) -> pa.Table:
    consent = _compile_consent(pull)
    params |= {**(consent.params if consent else {}), "after": after, "most": most}
    if among is not None:
        params["among"] = list(among)
    page = page.format(
        among=_AMONG if among is not None else "",
        consented=f"AND profile_no IN ({consent.sql})" if consent else "",
    )
    columns, joins, common = [], [], []
    for index, field in enumerate(pull.fields):
        common.append(f"f{index} AS ({_select_field(field, index, params)})")
        columns.append(f", {_extract(field, index, params)} AS f{index}")
        joins.append(f" LEFT JOIN f{index} ON f{index}.profile_no = page.profile_no")
    if any(field.kind == "trait" for field in pull.fields):
        params["now"] = pull.now
    sql = (
        f"WITH {', '.join([page, *common])} "
        f"SELECT page.profile_no, page.profile_id, page.entered_at{''.join(columns)}{value} "
        f"FROM page{''.join(joins)} ORDER BY page.profile_no"
    )
    return reader.read(sql, params)


def read_chunks(reader: Reader, pull: Pull, *, rows: int = CHUNK_ROWS) -> Iterator[pa.Table]:
    """Yield the whole set in chunks of bounded size: memory stays flat however large it is."""
    after = -1
    while True:
        chunk = read_page(reader, pull, after=after, most=rows)
        if chunk.num_rows:
            yield chunk
        if chunk.num_rows < rows:
            return
        after = chunk["profile_no"][-1].as_py()


def count_by_segment(reader: Reader) -> dict[str, int]:
    """Return the size of every segment that has members."""
    found = reader.read(
        "SELECT segment, count(*) AS members FROM core.memberships GROUP BY segment"
    )
    return {row["segment"]: row["members"] for row in found.to_pylist()}


def find_membership(reader: Reader, segment: str, profile_no: int) -> datetime | None:
    """Return since when a profile is a member; ``None`` when it is not."""
    found = reader.read(
        "SELECT entered_at FROM core.memberships WHERE segment = $segment AND profile_no = $no",
        {"segment": segment, "no": profile_no},
    )
    return found["entered_at"][0].as_py() if found.num_rows else None


def count_members_at(reader: Reader, segment: str, at: datetime) -> int:
    """Return how many members a segment had at a moment."""
    found = reader.read(
        """SELECT count(*) FILTER (change = 'entered') - count(*) FILTER (change = 'left') AS size
             FROM core.membership_changes WHERE segment = $segment AND "at" <= $at""",
        {"segment": segment, "at": at},
    )
    return int(found["size"][0].as_py())


def read_history(
    reader: Reader, segment: str, *, after_change: int, interval: str
) -> list[dict[str, Any]]:
    """Return, per interval in which something changed and per version, entered, left and size."""
    found = reader.read(
        """SELECT bucket AS "at", version, entered, "left",
                  sum(entered - "left") OVER (ORDER BY bucket, version)::BIGINT AS "count"
             FROM (SELECT date_trunc($interval, "at") AS bucket, version,
                          count(*) FILTER (change = 'entered') AS entered,
                          count(*) FILTER (change = 'left') AS "left"
                     FROM core.membership_changes
                    WHERE segment = $segment AND change_no > $after
                    GROUP BY bucket, version)
            ORDER BY bucket, version""",
        {"segment": segment, "after": after_change, "interval": interval},
    )
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def count_overlap(reader: Reader, segments: Sequence[str]) -> list[tuple[list[str], int]]:
    """Return how many profiles are in exactly each combination of ``segments``."""
    found = reader.read(
        """SELECT combination, count(*) AS members
             FROM (SELECT profile_no, list_sort(list(segment)) AS combination
                     FROM core.memberships WHERE list_contains($segments, segment)
                    GROUP BY profile_no)
            GROUP BY combination ORDER BY len(combination), combination""",
        {"segments": list(segments)},
    )
    return [(row["combination"], row["members"]) for row in found.to_pylist()]


def _compile_consent(pull: Pull) -> Compiled | None:
    if not pull.purposes:
        return None
    rule = AllOf(tuple(Consent(purpose, True) for purpose in pull.purposes))
    return compile_rule(rule, pull.now, pull.timezone)


def _select_field(field: MemberField, index: int, params: dict[str, Any]) -> str:
    params[f"key_{index}"] = field.key
    key = f"$key_{index}"
    match field.kind:
        case "identifier":
            return _IDENTIFIER.format(key=key)
        case "trait":
            return _TRAIT.format(key=key)
        case "tag":
            return _TAG.format(key=key)


def _extract(field: MemberField, index: int, params: dict[str, Any]) -> str:
    if not field.path:
        return f"f{index}.value::VARCHAR"
    params[f"path_{index}"] = "".join(
        f"/{step.replace('~', '~0').replace('/', '~1')}" for step in field.path
    )
    return f"json_extract(f{index}.value, $path_{index})::VARCHAR"
