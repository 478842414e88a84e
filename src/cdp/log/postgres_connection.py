"""Connections of the embedded log: outside the pool, each used by one thread."""

from __future__ import annotations

import psycopg

from cdp.storage.database import Database, Driver

CHANNEL = "cdp_log"


def connect(database: Database, *, statement_timeout: str) -> Driver:
    """Open a connection in autocommit mode; raises ``psycopg.Error``."""
    return psycopg.connect(
        database.libpq_url,
        autocommit=True,
        connect_timeout=3,
        application_name="cdp-log",
        options=f"-c timezone=UTC -c statement_timeout={statement_timeout} -c lock_timeout=6s",
    )


def describe(error: BaseException) -> str:
    """Return what went wrong as one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
