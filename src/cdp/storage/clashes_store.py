"""What workers ran against in the schema: a fault of the program, which must not stay unseen."""

from __future__ import annotations

from typing import Literal

from cdp.storage.database import Driver

Outcome = Literal["passed", "set_aside"]
"""What became of it: it passed in a transaction of its own, or was kept aside."""


def count_clash(conn: Driver, rule: str, outcome: Outcome) -> None:
    """Count that a batch broke ``rule``, the name of a constraint, and what became of it."""
    conn.execute(
        """INSERT INTO worker_clashes AS c (rule, outcome, count) VALUES (%s, %s, 1)
           ON CONFLICT (rule, outcome) DO UPDATE
              SET count = c.count + 1, last_at = now()""",
        (rule, outcome),
    )


def read_clashes(conn: Driver) -> list[tuple[str, str, int]]:
    """Return rule, outcome and how often, of all workers there ever were."""
    rows = conn.execute("SELECT rule, outcome, count FROM worker_clashes ORDER BY 1, 2").fetchall()
    return [(str(rule), str(outcome), int(count)) for rule, outcome, count in rows]
