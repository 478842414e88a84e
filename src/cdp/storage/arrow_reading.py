"""Large answers of Postgres as streams of Arrow, by ADBC: rows never become Python objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
from sqlalchemy.engine import make_url

_OPTIONS = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=600s -c timezone=UTC"


class ArrowSnapshot:
    """Statements that all see the same moment."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def read(self, sql: str) -> pa.RecordBatchReader:
        """Run one SELECT; its rows come as they are read. One at a time."""
        self._cursor.execute(sql)
        return self._cursor.fetch_record_batch()

    def read_number(self, sql: str) -> int:
        """Return the one number that a SELECT answers."""
        self._cursor.execute(sql)
        return int(self._cursor.fetchone()[0])


@contextmanager
def open_arrow_snapshot(libpq_url: str, name: str) -> Iterator[ArrowSnapshot]:
    """A read-only transaction on a connection of its own, called ``name`` in Postgres."""
    url = make_url(libpq_url).update_query_dict(
        {"application_name": name, "connect_timeout": "5", "options": _OPTIONS}
    )
    base, _, query = url.render_as_string(hide_password=False).partition("?")
    # libpq reads a plus sign as a plus sign.
    text = f"{base}?{query.replace('+', '%20')}"
    with adbc.connect(text, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield ArrowSnapshot(cursor)
