"""What running deletions look for, kept in Postgres until their sweep is over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from cdp.model import Identifier
from cdp.privacy.people_store import Slice
from cdp.privacy.traces import Traces
from cdp.storage.database import Driver

_encode = msgspec.json.Encoder().encode
_read_slice = msgspec.json.Decoder(Slice).decode


@dataclass(slots=True)
class Kept:
    """What some deletions look for."""

    names: list[Identifier] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    profile_ids: list[str] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)

    def traces(self) -> Traces:
        """Return what recognises these people in bytes."""
        return Traces(self.names, self.messages)


def keep_traces(
    conn: Driver,
    job_id: str,
    names: Iterable[Identifier],
    messages: Iterable[str],
    profile_ids: Iterable[str],
    nodes: Iterable[int] = (),
    slices: Iterable[Slice] = (),
) -> None:
    """Remember what a deletion has to look for, in the transaction that erases the people."""
    rows = [
        *(("identifier", name.type, name.value) for name in names),
        *(("message", "", message) for message in messages),
        *(("profile", "", profile_id) for profile_id in profile_ids),
        *(("node", "", str(node_id)) for node_id in nodes),
        *(("slice", "", _encode(one).decode()) for one in slices),
    ]
    conn.execute(
        """INSERT INTO privacy_traces (job_id, kind, type, value)
           SELECT %s, t.* FROM unnest(%s::text[], %s::text[], %s::text[]) AS t""",
        (job_id, [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]),
    )


def read_traces(conn: Driver, job_ids: Sequence[str]) -> Kept:
    """Return what some deletions have to look for."""
    kept = Kept()
    for kind, type_name, value in conn.execute(
        "SELECT DISTINCT kind, type, value FROM privacy_traces WHERE job_id = ANY(%s)",
        (list(job_ids),),
    ):
        if kind == "identifier":
            kept.names.append(Identifier(type_name, value))
        elif kind == "message":
            kept.messages.append(value)
        elif kind == "node":
            kept.nodes.append(int(value))
        elif kind == "slice":
            kept.slices.append(_read_slice(value))
        else:
            kept.profile_ids.append(value)
    return kept


def drop_traces(conn: Driver, job_id: str) -> None:
    """Forget what a deletion looked for."""
    conn.execute("DELETE FROM privacy_traces WHERE job_id = %s", (job_id,))
