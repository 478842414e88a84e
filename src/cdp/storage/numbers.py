"""Numbers of rows that are yet to be written."""

from __future__ import annotations

from cdp.storage.database import Driver


def take_numbers(conn: Driver, table: str, column: str, count: int) -> list[int]:
    """Return ``count`` numbers, ascending, for ``column`` of rows that ``table`` does not have."""
    # The sequence is looked up once: for each number that would take most of the time.
    row = conn.execute(
        """SELECT array_agg(nextval(s.sequence))
             FROM (SELECT pg_get_serial_sequence(%s, %s)::regclass OFFSET 0) AS s (sequence),
                  generate_series(1, %s)""",
        (table, column, count),
    ).fetchone()
    numbers: list[int] = (row[0] if row else None) or []
    return sorted(numbers)
