"""What must be true before a process starts. Each failure is one line that says what to do."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.engine import make_url

from cdp.errors import SetupError
from cdp.log.port import LogUnavailable
from cdp.runtime.run_folder import read_run
from cdp.settings import Settings
from cdp.storage.database import Database
from cdp.storage.migrate import check_schema, migrate


def find_database_url(settings: Settings) -> str:
    """Return the configured database, or the one that ``cdp up`` runs on this data folder.

    Raises ``SetupError`` when there is neither.
    """
    if settings.database_url:
        return settings.database_url
    running = read_run(settings.data_dir).get("database_url")
    if running:
        return str(running)
    raise SetupError("no database: set CDP_DATABASE_URL, or start everything here with `cdp up`")


@contextmanager
def reach_database(url: str, *, application_name: str = "cdp") -> Iterator[Database]:
    """Yield a pool on a database that answers. Raises ``SetupError`` when it does not."""
    try:
        database = Database(url, pool_size=2, application_name=application_name)
    except (ValueError, sa.exc.ArgumentError) as error:
        raise SetupError(
            "CDP_DATABASE_URL is not a Postgres URL; it looks like "
            "postgresql://user:password@host:5432/name"
        ) from error
    try:
        with database.engine.connect():
            pass
    except sa.exc.OperationalError as error:
        database.close()
        raise SetupError(
            f"Postgres at {_describe(url)} cannot be reached ({_reason(error)}); "
            "start it, or correct CDP_DATABASE_URL"
        ) from error
    try:
        yield database
    finally:
        database.close()


def bring_schema(database: Database) -> None:
    """Migrate. Raises ``SetupError`` when the database is newer than this program, or locked."""
    try:
        migrate(database)
    except CommandError as error:
        raise SetupError(
            f"the database was made by a newer cdp ({error}); install that version"
        ) from error
    except sa.exc.OperationalError as error:
        raise SetupError(
            f"the migration was given up ({_reason(error)}); run `cdp migrate` again"
        ) from error


def require_schema(database: Database) -> None:
    """Raise ``SetupError`` unless the database has exactly this program's schema."""
    check_schema(database)


def require_log(settings: Settings, database: Database) -> None:
    """Raise ``SetupError`` unless the log answers; makes its topic or tables when missing."""
    # Late: it loads the Kafka client, which most commands never use.
    from cdp.log.open import open_log

    where = settings.kafka_bootstrap_servers
    try:
        log = open_log(settings, database)
        try:
            log.check()
        finally:
            log.close()
    except LogUnavailable as error:
        if where is None:
            raise SetupError(f"the log in Postgres does not answer: {error}") from error
        raise SetupError(
            f"Kafka at {where} cannot be reached ({error}); "
            "start it, or correct CDP_KAFKA_BOOTSTRAP_SERVERS"
        ) from error


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket on ``host``:``port`` (0: any free one).

    Raises ``SetupError`` when the port is taken or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise SetupError(_explain_bind(host, port, error)) from error
    return listener


def describe_url(settings: Settings, listener: socket.socket) -> str:
    """Return how this host is reached: the public URL, or the address that is listened on."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    port = listener.getsockname()[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{port}"


def _explain_bind(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another program; set CDP_PORT to a free one"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} may not be used by this account; set CDP_PORT to one above 1023"
    return f"cannot listen on {host}:{port} ({error.strerror or error}); set CDP_HOST and CDP_PORT"


def _describe(url: str) -> str:
    parsed = make_url(url)
    host = parsed.host or parsed.query.get("host") or "localhost"
    return f"{host}:{parsed.port or 5432}"


def _reason(error: sa.exc.OperationalError) -> str:
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return lines[-1] if lines else type(error.orig).__name__
