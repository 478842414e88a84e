"""The one door to Postgres: a SQLAlchemy engine as pool, psycopg 3 below it for the hot path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from cdp.storage.arrays import use_flat_lists
from cdp.storage.quick_reads import QuickReads

use_flat_lists()

Cursor = psycopg.Cursor[tuple[Any, ...]]
Driver = psycopg.Connection[tuple[Any, ...]]
T = TypeVar("T")


def normalise_url(url: str) -> str:
    """Return ``url`` for SQLAlchemy with psycopg 3, from any ``postgres://`` spelling."""
    scheme, _, rest = url.partition("://")
    if scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        return f"postgresql+psycopg://{rest}"
    raise ValueError(f"{scheme!r} is not a Postgres URL")


class Database:
    """A pool of connections. Safe to share between threads, not between forked processes."""

    def __init__(self, url: str, *, pool_size: int = 8, application_name: str = "cdp") -> None:
        """``url`` is any Postgres URL; no connection is made yet."""
        self.url = url
        self.engine = sa.create_engine(
            make_url(normalise_url(url)),
            pool_size=pool_size,
            max_overflow=4,
            pool_timeout=10,
            pool_pre_ping=True,
            connect_args={
                "application_name": application_name,
                "connect_timeout": 5,
                "options": "-c timezone=UTC -c lock_timeout=30s -c statement_timeout=120s",
            },
        )
        self._quick = QuickReads(self.libpq_url, size=pool_size, application_name=application_name)

    @property
    def libpq_url(self) -> str:
        """The URL as libpq and ADBC want it."""
        return normalise_url(self.url).replace("postgresql+psycopg://", "postgresql://", 1)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Commit when the block ends, roll back when it raises."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A read-only transaction in which every statement sees the same moment."""
        with self.engine.connect().execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        ) as connection:
            yield connection

    def read(self, ask: Callable[[Driver], T]) -> T:
        """Return what ``ask`` returns from one statement that reads a few rows by key.

        Costs a tenth of a ``snapshot``. ``ask`` may be called twice; its connection is in no
        transaction.
        """
        return self._quick.run(ask)

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()
        self._quick.close()


def driver(connection: sa.Connection) -> Driver:
    """Return the psycopg connection under a SQLAlchemy one: same transaction, COPY and ``%b``."""
    return cast(Driver, connection.connection.driver_connection)
