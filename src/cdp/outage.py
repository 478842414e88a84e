"""Whose fault an error is: the data's, or that of a database or log that cannot be asked now."""

from __future__ import annotations

import psycopg
import sqlalchemy as sa

from cdp.log.port import LogUnavailable

_DATABASE_ERRORS = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
# Postgres' class for "too long for an index" and the like: the data's fault, though psycopg files
# it under operational errors.
_LIMIT_EXCEEDED = "54"
# Nor are these the data's fault, though psycopg files them elsewhere: a server that takes no writes
# for want of disk or as a standby (25006), damage (XX001, XX002), another schema, a missing right.
_NOT_THE_DATA = ("25006", "53", "58", "XX001", "XX002", "42P01", "42703", "42501")


def is_outage(error: BaseException) -> bool:
    """Whether trying again later can help, because the data is not at fault."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    state = getattr(cause, "sqlstate", None) or ""
    if isinstance(cause, _DATABASE_ERRORS):
        return not state.startswith(_LIMIT_EXCEEDED)
    if state:
        return state.startswith(_NOT_THE_DATA)
    return isinstance(error, LogUnavailable | sa.exc.TimeoutError | OSError | MemoryError)


def name_broken_rule(error: BaseException) -> str | None:
    """Name the constraint that the error broke, or its SQLSTATE; ``None`` for other errors.

    Names of the schema, never values.
    """
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if not isinstance(cause, psycopg.IntegrityError):
        return None
    return cause.diag.constraint_name or cause.sqlstate or type(cause).__name__


def name_error(error: BaseException) -> str:
    """Name the error without its values, which may be personal."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    state = getattr(cause, "sqlstate", None)
    return f"{type(cause).__name__} {state}" if state else type(cause).__name__
