"""What destinations see of people: members, tag values, and what changed since they looked.

Rows come out of DuckDB, what changed and why out of Postgres' ledger. The stage of destinations
knows neither rules nor tables of others; this joins them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from cdp.activation.destination import Destination, Stream
from cdp.activation.difference import Cause, Row
from cdp.activation.plan_deliveries import Head
from cdp.errors import Unprocessable
from cdp.runtime.clock import now
from cdp.segments import members_engine, segments_store, tags_store
from cdp.segments.export import read_rows
from cdp.segments.member_fields import MemberField, parse_fields
from cdp.segments.members_engine import Pull
from cdp.segments.membership_store import read_touched
from cdp.segments.person_engine import Reader
from cdp.storage.database import Database, Driver, driver
from cdp.storage.tag_horizon_store import read_tag_horizon

_READ_CAUSES = {
    "segment": """SELECT DISTINCT ON (profile_no) profile_no, cause, at FROM membership_changes
                   WHERE segment = %(key)s AND change_no > %(after)s AND change_no <= %(until)s
                     AND profile_no = ANY (%(profiles)s)
                   ORDER BY profile_no, change_no DESC""",
    "tag": """SELECT DISTINCT ON (profile_no) profile_no, cause, at FROM tag_changes
               WHERE key = %(key)s AND change_no > %(after)s AND change_no <= %(until)s
                 AND profile_no = ANY (%(profiles)s)
               ORDER BY profile_no, change_no DESC""",
}

# Of everybody whom a batch touched, only who is in one of the sets, or was when we last told.
_CONCERNED = """
SELECT t.profile_no FROM unnest(%(touched)s::bigint[]) AS t (profile_no)
 WHERE EXISTS (SELECT FROM destination_rows d
                WHERE d.destination_id = %(id)s AND d.stream = ANY (%(streams)s)
                  AND d.profile_no = t.profile_no)
    OR EXISTS (SELECT FROM nodes n JOIN memberships m ON m.profile_id = n.profile_id
                WHERE n.node_id = t.profile_no AND m.segment = ANY (%(segments)s))
    OR EXISTS (SELECT FROM nodes n JOIN tag_values v ON v.profile_id = n.profile_id
                WHERE n.node_id = t.profile_no AND v.key = ANY (%(tags)s))
"""
_CHANGED = """
SELECT profile_no FROM membership_changes
 WHERE segment = ANY (%(segments)s) AND change_no > %(after)s AND change_no <= %(until)s
UNION
SELECT profile_no FROM tag_changes
 WHERE key = ANY (%(tags)s) AND change_no > %(after)s AND change_no <= %(until)s
"""
_TOLD = "SELECT profile_no FROM destination_rows WHERE destination_id = %(id)s"


class DestinationPeople:
    """``cdp.activation.plan_deliveries.People`` over DuckDB and Postgres."""

    def __init__(self, database: Database, reader: Reader, timezone: str) -> None:
        self._database = database
        self._reader = reader
        self._timezone = timezone

    def read_head(self) -> Head:
        """Return how far the ledger's mirror in DuckDB has come."""
        found = self._reader.read("SELECT change_no, seq FROM core.ledger_mirror").to_pylist()
        return Head(found[0]["change_no"], found[0]["seq"]) if found else Head(0, 0)

    def read_rows(
        self, destination: Destination, stream: Stream, profiles: Sequence[int]
    ) -> list[Row]:
        """Return the rows of those of ``profiles`` who are in ``stream``."""
        return self._read(destination, stream, after=-1, most=len(profiles), among=profiles)

    def read_page(
        self, destination: Destination, stream: Stream, after: int, most: int
    ) -> list[Row]:
        """Return up to ``most`` rows of profiles beyond ``after``, in order."""
        return self._read(destination, stream, after=after, most=most, among=None)

    def list_touched(self, connection: Driver, destination: Destination, head: Head) -> list[int]:
        """Return the profiles of which something changed since the destination's last look."""
        streams = destination.streams
        params: dict[str, Any] = {
            "id": destination.destination_id,
            "streams": [stream.name for stream in streams],
            "segments": [stream.key for stream in streams if stream.kind == "segment"],
            "tags": self._list_tags(connection, destination),
            "after": destination.change_no,
            "until": head.change_no,
        }
        found = {row[0] for row in connection.execute(_CHANGED, params)}
        if destination.change_no < read_tag_horizon(connection).dropped_until:
            # It rested for so long that nobody knows who lost a value meanwhile.
            told = connection.execute(_TOLD, {"id": destination.destination_id})
            found.update(row[0] for row in told)
        if head.seq > destination.seq:
            touched = read_touched(connection, destination.seq, head.seq).profiles
            concerned = connection.execute(_CONCERNED, {**params, "touched": touched})
            found.update(row[0] for row in concerned)
        return sorted(found)

    def read_causes(
        self, connection: Driver, stream: Stream, profiles: Sequence[int], after: int, until: int
    ) -> Mapping[int, Cause]:
        """Return the cause of each profile's newest change in (after, until]."""
        rows = connection.execute(
            _READ_CAUSES[stream.kind],
            {"key": stream.key, "after": after, "until": until, "profiles": list(profiles)},
        )
        return {profile_no: Cause(cause, at) for profile_no, cause, at in rows}

    def _read(
        self,
        destination: Destination,
        stream: Stream,
        *,
        after: int,
        most: int,
        among: Sequence[int] | None,
    ) -> list[Row]:
        with self._database.transaction() as connection:
            tx = driver(connection)
            keys = {tag.key for tag in tags_store.list_tags(tx)}
            segment = segments_store.find_segment(tx, stream.key)
        purposes = list(destination.consent)
        if stream.kind == "segment" and segment is not None and segment.consent is not None:
            purposes.append(segment.consent)
        fields = parse_fields(join_fields(destination.fields), keys)
        pull = Pull(
            segment=stream.key,
            pinned=members_engine.read_pin(self._reader),
            fields=fields,
            purposes=list(dict.fromkeys(purposes)),
            now=now(),
            timezone=self._timezone,
        )
        if stream.kind == "segment":
            page = members_engine.read_page(self._reader, pull, after=after, most=most, among=among)
        else:
            page = members_engine.read_tagged_page(
                self._reader, stream.key, pull, after=after, most=most, among=among
            )
        return list(_read_page(page, fields, is_masked=destination.is_masked))

    def _list_tags(self, connection: Driver, destination: Destination) -> list[str]:
        """Return the tags whose changes concern a destination, those in its fields included."""
        keys = {tag.key for tag in tags_store.list_tags(connection)}
        fields = parse_fields(join_fields(destination.fields), keys)
        named = {field.key for field in fields if field.kind == "tag"}
        return sorted(named | set(destination.tags))


def join_fields(fields: Sequence[str]) -> str:
    r"""Return ``fields`` as one list, as pulls take it: a comma within a name is ``\,``."""
    return ",".join(field.replace(",", "\\,") for field in fields)


def check_references(
    connection: Driver, segments: Sequence[str], tags: Sequence[str], fields: Sequence[str]
) -> None:
    """Raise ``Unprocessable`` at the first segment, tag or field that does not exist.

    None of them can vanish until the caller's transaction ends.
    """
    segments_store.lock_definitions(connection)
    known = {segment.key for segment in segments_store.list_segments(connection)}
    keys = {tag.key for tag in tags_store.list_tags(connection)}
    for kind, named, there in (("segment", segments, known), ("tag", tags, keys)):
        for index, key in enumerate(named):
            if key not in there:
                raise Unprocessable(
                    f"unknown_{kind}", f"there is no {kind} {key}", path=f"/{kind}s/{index}"
                )
    parse_fields(join_fields(fields), keys)


def _read_page(page: pa.Table, fields: Sequence[MemberField], *, is_masked: bool) -> list[Row]:
    numbers = page["profile_no"].to_pylist()
    values: list[Any] = [None] * page.num_rows
    if "value" in page.column_names:
        values = [msgspec.json.decode(text) for text in page["value"].to_pylist()]
    return [
        Row(number, profile_id, at, value, _name_fields(fields, found))
        for number, value, (profile_id, at, found) in zip(
            numbers, values, read_rows(page, fields, is_masked=is_masked), strict=True
        )
    ]


def _name_fields(fields: Sequence[MemberField], values: Sequence[Any]) -> dict[str, Any]:
    return {field.column: value for field, value in zip(fields, values, strict=True)}
