"""``cdp up``: everything on this machine, in one command. Read ``run_everything`` first."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from cdp.credentials_store import ensure_credentials
from cdp.preflight import bring_schema, describe_url, listen, reach_database, require_log
from cdp.runtime.credentials import FILE_NAME, Credentials
from cdp.runtime.embedded_postgres import EmbeddedPostgres
from cdp.runtime.run_folder import RunFolder, claim_folder
from cdp.runtime.stop import StopRequested, stop_on_signals
from cdp.runtime.supervise import Child, Supervisor, say
from cdp.settings import Settings


def run_everything(settings: Settings) -> None:
    """Start Postgres, bring its schema, make credentials, then keep server and worker running

    until SIGTERM or SIGINT. Raises ``SetupError`` with one line when something is in the way.
    """
    with stop_on_signals() as stop, claim_folder(settings.data_dir) as run:
        for name in run.end_leftovers():
            say(f"ended a {name} left by an earlier run")
        try:
            _start_and_watch(settings, run, stop)
        except StopRequested:
            pass
        finally:
            run.clear()
        say("stopped")


def _start_and_watch(settings: Settings, run: RunFolder, stop: threading.Event) -> None:
    with (
        listen(settings.host, settings.port) as listener,
        _postgres(settings, run, stop) as (url, postgres),
    ):
        run.url = describe_url(settings, listener)
        settings = settings.model_copy(update={"database_url": url})
        with reach_database(url) as database:
            bring_schema(database)
            require_log(settings, database)
            credentials = ensure_credentials(database, run.folder, run.url)
        _supervise(settings, run, listener, postgres, credentials, stop)


@contextmanager
def _postgres(
    settings: Settings, run: RunFolder, stop: threading.Event
) -> Iterator[tuple[str, EmbeddedPostgres | None]]:
    """Yield the URL of the configured server, or of an embedded one that ends with the block."""
    if settings.database_url is not None:
        yield settings.database_url, None
        return
    postgres = EmbeddedPostgres(run.folder / "postgres")
    try:
        run.database_url = postgres.start(say=say, stop=stop)
        if postgres.pid is not None:
            run.record("postgres", postgres.pid)
        yield run.database_url, postgres
    finally:
        postgres.stop()


def _supervise(
    settings: Settings,
    run: RunFolder,
    listener: socket.socket,
    postgres: EmbeddedPostgres | None,
    credentials: Credentials,
    stop: threading.Event,
) -> None:
    as_text = settings.log_format == "text" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    environment = _child_environment(settings, run, "text" if as_text else "json")
    program = [sys.executable, "-m", "cdp"]
    parent = ["--parent", str(os.getpid())]
    handle = listener.fileno()
    children = [
        Child(
            "server",
            [*program, "serve", "--role", "ingest,api", "--listen-fd", str(handle), *parent],
            environment,
            inherited=(handle,),
        ),
        *(
            Child(name, [*program, "worker", *parent], environment)
            for name in name_workers(settings.worker_processes)
        ),
    ]
    supervisor = Supervisor(run, children, postgres=postgres, prefix=as_text)
    local = _local_url(listener)
    try:
        supervisor.watch(
            stop,
            is_ready=lambda: _is_ready(local),
            on_ready=_announcer(credentials, run),
        )
    finally:
        # Closed first, so that callers are refused rather than kept waiting for nobody.
        listener.close()
        supervisor.end()


def name_workers(count: int) -> list[str]:
    """Return the names of ``count`` worker processes: worker, worker-2, …"""
    return ["worker", *(f"worker-{number}" for number in range(2, count + 1))]


def _child_environment(settings: Settings, run: RunFolder, log_format: str) -> dict[str, str]:
    """This environment, with what the children must not work out a second time."""
    given = {
        "CDP_DATA_DIR": str(run.folder),
        "CDP_DATABASE_URL": settings.database_url or "",
        "CDP_LOG_FORMAT": log_format,
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **given}


def _local_url(listener: socket.socket) -> str:
    """Where this process reaches the server, whatever stands in front of it for others."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _announcer(credentials: Credentials, run: RunFolder) -> Callable[[], None]:
    def announce() -> None:
        with suppress(OSError):
            print(describe_run(credentials, str(run.folder), name_command()), flush=True)

    return announce


def name_command() -> str:
    """Return how this program is called in the next terminal: as it was called in this one."""
    called = Path(sys.argv[0])
    if called.name != "cdp":
        return f"{shlex.quote(sys.executable)} -m cdp"
    found = shutil.which("cdp")
    is_on_path = found is not None and called.exists() and os.path.samefile(found, called)
    return "cdp" if is_on_path else shlex.quote(sys.argv[0])


def describe_run(credentials: Credentials, folder: str, command: str = "cdp") -> str:
    """Return what a newcomer reads once everything runs: where, by which keys, a first call."""
    body = '{"userId": "42", "traits": {"email": "ann@example.com", "name": "Ann", "plan": "pro"}}'
    call = " ".join(
        [
            f"curl -sS {shlex.quote(credentials.url + '/v1/identify')}",
            f"-u {shlex.quote(credentials.write_key + ':')}",
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(body)}",
        ]
    )
    return f"""
cdp is ready

  URL        {credentials.url}
  Write key  {credentials.write_key}
  Token      {credentials.token}
  Example    {credentials.url}/example
  API        {credentials.url}/docs

Post a first person, then look at them:

  {call}
  {command} profile show email:ann@example.com

Keys and token are also in {folder}/{FILE_NAME}. Stop with Ctrl-C.
"""
