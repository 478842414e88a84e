"""``cdp serve``, ``cdp worker`` and ``cdp migrate``: one role of the program per process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import uvicorn

from cdp.credentials_store import ensure_credentials
from cdp.errors import SetupError
from cdp.preflight import (
    bring_schema,
    find_database_url,
    listen,
    reach_database,
    require_log,
    require_schema,
)
from cdp.runtime.bounded_http import bound_http
from cdp.runtime.credentials import Credentials
from cdp.runtime.embedded_postgres import EmbeddedPostgres
from cdp.runtime.logs import configure_logs
from cdp.runtime.memory import collect_rarely
from cdp.runtime.open_files import allow_connections
from cdp.runtime.run_folder import claim_folder
from cdp.runtime.stop import follow_parent, stop_on_signals
from cdp.settings import Settings

ROLES = ("ingest", "api")
# Under the supervisor's patience, so that requests under way end here rather than by force.
GRACE_SECONDS = 10


def read_roles(text: str) -> frozenset[str]:
    """Read ``ingest,api``. Raises ``SetupError`` for another role, or none."""
    roles = frozenset(part.strip() for part in text.split(",") if part.strip())
    unknown = sorted(roles - set(ROLES))
    if unknown or not roles:
        raise SetupError(f"--role takes {' and '.join(ROLES)}, not {', '.join(unknown) or 'none'}")
    return roles


def run_server(
    settings: Settings, roles: frozenset[str], *, listen_fd: int | None, parent: int | None
) -> None:
    """Serve ``roles`` until SIGTERM, on ``listen_fd`` when a supervisor hands one over."""
    configure_logs(settings.log_format, settings.log_level, process="server")
    # DuckDB makes its write-ahead and spill files anew all the time, and people are in them.
    os.umask(0o077)
    if parent is not None:
        follow_parent(parent)
    settings = _prepare(settings)
    listener = (
        socket.socket(fileno=listen_fd)
        if listen_fd is not None
        else listen(settings.host, settings.port)
    )
    # Late: it loads every stage, which the checks above do not need.
    from cdp.app import build_app

    app = build_app(settings, roles)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=bound_http(
            max_connections=settings.max_connections,
            max_header_bytes=settings.max_header_bytes,
            header_seconds=settings.header_seconds,
            leftover_seconds=settings.body_seconds,
        ),
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=75,
        backlog=2048,
    )
    allow_connections(settings.max_connections)
    collect_rarely()
    with stop_on_signals():
        # The server sets its own handlers and passes the signal on when it is done; ours then
        # swallow it, so that a wanted stop ends with exit code 0.
        _Server(config, app.services.end_streams).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Waits for requests under way; those that never end by themselves are told to."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._end_streams()


def run_worker_process(settings: Settings, *, parent: int | None) -> None:
    """Work the log off until SIGTERM; the batch under way is finished first."""
    configure_logs(settings.log_format, settings.log_level, process="worker")
    if parent is not None:
        follow_parent(parent)
    with stop_on_signals() as stop:
        settings = _prepare(settings)
        from cdp.worker import run_worker

        run_worker(settings, stop)


def run_migrations(settings: Settings) -> str:
    """Bring the database to this program's schema; return its description for the operator."""
    with _some_database(settings) as url, reach_database(url) as database:
        bring_schema(database)
        return database.engine.url.render_as_string(hide_password=True)


def make_credentials(settings: Settings) -> Credentials:
    """Return the first source's key and token, made when missing, and keep them in their file."""
    url = settings.url or settings.public_url or f"http://{settings.host}:{settings.port}"
    with reach_database(find_database_url(settings)) as database:
        require_schema(database)
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"cannot make {settings.data_dir}: {error.strerror}") from error
        return ensure_credentials(database, settings.data_dir, url.rstrip("/"))


def _prepare(settings: Settings) -> Settings:
    """Check everything that the role needs; return settings with the database filled in."""
    url = find_database_url(settings)
    settings = settings.model_copy(update={"database_url": url})
    with reach_database(url) as database:
        require_schema(database)
        require_log(settings, database)
    return settings


@contextmanager
def _some_database(settings: Settings) -> Iterator[str]:
    """Yield the configured or running database, else start the embedded one for the block."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    with ExitStack() as stack:
        try:
            run = stack.enter_context(claim_folder(settings.data_dir))
        except SetupError:
            # Somebody runs here, so its database is up.
            url = find_database_url(settings)
        else:
            postgres = EmbeddedPostgres(run.folder / "postgres")
            stack.callback(postgres.stop)
            url = postgres.start()
        yield url
