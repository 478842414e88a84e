"""Events as rows of the timeline: nothing in them may be taken for a row's own bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cdp.model import Event, EventType, Source
from cdp.profiles.profile_write_store import write_events
from cdp.runtime.clock import now
from cdp.storage.database import Database, driver
from cdp.storage.partitions import ensure_partitions

RECEIVED = now()
SHOP = Source("src_1", 3, "shop", "server")
PLAIN = (SHOP, "m1", "track", None, RECEIVED, RECEIVED, (), b"{}", b"{}")


def make_event(**said: object) -> Event:
    plain = dict(zip(Event.__struct_fields__, PLAIN, strict=False))
    return Event(**{**plain, **said})  # type: ignore[arg-type]


ODD = [
    make_event(message_id="tab\tnew\nline\\back\r", name='quote"d\\N'),
    make_event(name="\\N", group_id="", original_at="\\.", type="group"),
    make_event(name="", properties='{"a": "\\n 真丝 \\ud83d\\ude00\\t"}'.encode()),
    make_event(context=b'{ "price" : 1.10, "b":\t1, "a" : [ ] }'),
    make_event(at=datetime(1, 1, 3, 4, 5, 6, 7, tzinfo=UTC)),
    make_event(at=datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    make_event(at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    *[make_event(type=kind) for kind in EventType.__args__],  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("node", [7, None, 2**40])
def test_what_is_written_of_an_event_is_read_back_to_the_byte(
    database: Database, node: int | None
) -> None:
    ensure_partitions(database, [RECEIVED.date()])
    with database.transaction() as connection:
        tx = driver(connection)
        links = [None if ordinal % 2 else 2**40 + ordinal for ordinal in range(len(ODD))]
        write_events(tx, 5, [(event, node) for event in ODD], links)
        rows = tx.execute(
            """SELECT ordinal, batch_id, node_id, source_number, message_id, type, name,
                      to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), received_at,
                      link_id, original_at, group_id, properties::text, context::text
                 FROM events ORDER BY ordinal"""
        ).fetchall()
    assert rows == [
        (
            ordinal, 5, node, 3, one.message_id, one.type, one.name,
            one.at.replace(tzinfo=None).isoformat(timespec="microseconds"), one.received_at,
            links[ordinal], one.original_at, one.group_id,
            one.properties.decode(), one.context.decode(),
        )
        for ordinal, one in enumerate(ODD)
    ]  # fmt: skip
