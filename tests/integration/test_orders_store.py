"""Orders in Postgres: folded anew at every report, whoever reports at the same time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from cdp.orders.order import Report
from cdp.orders.orders_store import PlacedReport, write_reports
from cdp.storage.database import Database, driver

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def report(hours: int, total: int, node_id: int | None = None, order_id: str = "1") -> PlacedReport:
    at = NOON + timedelta(hours=hours)
    said = Report(order_id, "record", at, f"m{hours}-{total}", currency="CNY", total=total)
    return PlacedReport("", 1, node_id, said)


def read_totals(database: Database) -> list[tuple[str, int, int | None]]:
    with database.transaction() as connection:
        rows = connection.exec_driver_sql("SELECT order_id, total, node_id FROM orders ORDER BY 1")
        return [(row[0], row[1], row[2]) for row in rows]


def test_a_late_old_version_changes_nothing(database: Database) -> None:
    for placed in (report(1, 100, node_id=7), report(3, 300), report(2, 200)):
        with database.transaction() as connection:
            write_reports(driver(connection), [placed], "CNY")
    assert read_totals(database) == [("1", 300, 7)]


def test_a_report_that_comes_twice_counts_once(database: Database) -> None:
    for _ in range(2):
        with database.transaction() as connection:
            numbers = write_reports(driver(connection), [report(1, 100)], "CNY")
    assert len(numbers) == 1
    with database.transaction() as connection:
        kept = connection.exec_driver_sql("SELECT count(*) FROM order_reports").scalar_one()
    assert kept == 1


def test_reports_from_two_transactions_at_once_are_both_folded_in(database: Database) -> None:
    """Each sees only its own report unless it waits for the other's lock before reading."""
    both_started = threading.Barrier(2)

    def tell(hours: int) -> None:
        with database.transaction() as connection:
            both_started.wait(10)
            write_reports(driver(connection), [report(hours, hours * 100)], "CNY")

    threads = [threading.Thread(target=tell, args=(hours,)) for hours in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert read_totals(database) == [("1", 200, None)]
