"""What was said of service is kept no longer than its events are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cdp.archive.retention import Cutoff
from cdp.archive.retention_store import announce
from cdp.model import Event, Source
from cdp.service.service_store import write_service
from cdp.storage.database import Database, driver

NOW = datetime(2026, 3, 31, tzinfo=UTC)


def test_tickets_whose_events_go_by_retention_go_with_them(database: Database) -> None:
    told = [
        (number, days, f"{number}-{days}-{name}")
        for number in (1, 2)
        for days in (5, 50)
        for name in ("Ticket Created", "Product Reviewed")
    ]
    with database.transaction() as connection:
        tx = driver(connection)
        for number, days, message_id in told:
            source, at = Source("s", number, "s", "service"), NOW - timedelta(days=days)
            name = message_id.rpartition("-")[2]
            event = Event(source, message_id, "track", name, at, at, (), b"{}", b"{}")
            write_service(tx, [(event, 7)])
        before = NOW - timedelta(days=30)
        announce(tx, [Cutoff(1, "", before), Cutoff(2, "Ticket Created", before)])
        left = tx.execute("SELECT message_id FROM service_events ORDER BY 1").fetchall()
    assert [row[0] for row in left] == [
        "1-5-Product Reviewed", "1-5-Ticket Created", "2-5-Product Reviewed",
        "2-5-Ticket Created", "2-50-Product Reviewed",
    ]  # fmt: skip
