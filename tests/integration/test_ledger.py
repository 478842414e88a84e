"""The ledger: a message has its effect once, also when it comes again in another week."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cdp.model import Source
from cdp.storage.database import Database, driver
from cdp.storage.ledger import _CLAIM, claim_messages
from cdp.storage.partitions import drop_ledger_before, ensure_partitions, list_partitions

SOURCE = Source("s", 1, "shop", "web")
MONDAY = datetime(2026, 3, 2, 0, 0, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Message:
    message_id: str
    received_at: datetime
    source: Source = SOURCE


def claim(database: Database, *messages: Message) -> tuple[list[str], list[str]]:
    ensure_partitions(database, {message.received_at.date() for message in messages})
    with database.transaction() as connection:
        fresh, duplicates = claim_messages(driver(connection), messages)
    return [m.message_id for m in fresh], [m.message_id for m in duplicates]


def test_of_two_equal_messages_in_a_batch_the_first_counts(database: Database) -> None:
    assert claim(database, Message("a", MONDAY), Message("a", MONDAY)) == (["a"], ["a"])


def test_a_message_of_another_source_is_another_message(database: Database) -> None:
    other = Message("a", MONDAY, Source("t", 2, "till", "store"))
    assert claim(database, Message("a", MONDAY), other) == (["a", "a"], [])


def test_a_message_that_comes_again_across_a_week_is_a_duplicate_either_way(
    database: Database,
) -> None:
    sunday = MONDAY - timedelta(seconds=2)
    assert claim(database, Message("late", sunday), Message("early", MONDAY))[1] == []
    assert claim(database, Message("late", MONDAY), Message("early", sunday)) == (
        [],
        ["late", "early"],
    )


def test_weeks_outside_the_window_are_dropped_whole(database: Database) -> None:
    claim(database, Message("a", MONDAY), Message("b", MONDAY + timedelta(days=7)))
    drop_ledger_before(database, (MONDAY + timedelta(days=7)).date())
    with database.transaction() as connection:
        kept = [start for _, start in list_partitions(driver(connection), "ledger")]
    assert MONDAY.date() not in kept
    assert (MONDAY + timedelta(days=7)).date() in kept


def test_claiming_does_not_look_through_the_week_it_writes(database: Database) -> None:
    """Otherwise each batch would read all that came this week."""
    ensure_partitions(database, {MONDAY.date(), (MONDAY - timedelta(days=7)).date()})
    with database.transaction() as connection:
        tx = driver(connection)
        plan = tx.execute(
            "EXPLAIN " + _CLAIM, {"week": MONDAY.date(), "keys": [b"k" * 16]}
        ).fetchall()
    scanned = [row[0] for row in plan if "Scan" in row[0] and "ledger" in row[0]]
    assert any("ledger_20260223" in line for line in scanned)
    assert not any("ledger_20260302" in line for line in scanned)
