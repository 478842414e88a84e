"""``cdp doctor``: looks at everything that the settings name, and says what to do about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx

from cdp.cli.client import open_client
from cdp.errors import SetupError
from cdp.preflight import find_database_url, reach_database, require_log, require_schema
from cdp.runtime.run_folder import read_run
from cdp.settings import Settings

_SECRETS = frozenset({"token", "kafka_sasl_password"})
_LOW_DISK_BYTES = 2 * 1024**3


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "failed", "skipped"]
    remark: str


def hide_secret(name: str, value: Any) -> Any:
    """Return a setting's value fit to be shown: no password, no token."""
    if value is None:
        return None
    if name in _SECRETS:
        return "(hidden)"
    if name == "database_url":
        head, at, tail = str(value).rpartition("@")
        scheme, _, user = head.partition("://")
        return f"{scheme}://{user.split(':', 1)[0]}@{tail}" if at else value
    return str(value) if isinstance(value, Path) else value


def examine(settings: Settings) -> Iterator[Check]:
    """Yield a check per part, in the order in which they depend on each other."""
    yield _check("data folder", lambda: _look_at_folder(settings.data_dir))
    yield _check("who runs here", lambda: _look_at_run(settings.data_dir))
    try:
        url = find_database_url(settings)
    except SetupError as error:
        # Not yet started is no failure: `cdp up` brings its own Postgres.
        yield Check("Postgres", "skipped", str(error))
        return
    yield from _examine_database(settings, url)
    yield _check("server", lambda: _look_at_server(settings))


def _examine_database(settings: Settings, url: str) -> Iterator[Check]:
    try:
        with reach_database(url) as database:
            with database.engine.connect() as connection:
                version = connection.exec_driver_sql("SHOW server_version").scalar()
            yield Check("Postgres", "ok", f"version {version}")
            require_schema(database)
            yield Check("schema", "ok", "up to date")
            require_log(settings, database)
            yield Check("log", "ok", settings.kafka_bootstrap_servers or "a table in Postgres")
    except SetupError as error:
        yield Check("database and log", "failed", str(error))


def _check(what: str, look: Callable[[], object]) -> Check:
    try:
        return Check(what, "ok", str(look()))
    except SetupError as error:
        return Check(what, "failed", str(error))


def _look_at_folder(folder: Path) -> str:
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    if not os.access(existing, os.W_OK):
        raise SetupError(f"{existing} is not writable; set CDP_DATA_DIR to a folder that is")
    free = shutil.disk_usage(existing).free
    remark = f"{folder.absolute()}, {free / 1024**3:.1f} GiB free"
    if free < _LOW_DISK_BYTES:
        raise SetupError(f"{remark}: make room, or set CDP_DATA_DIR to another disk")
    return remark


def _look_at_run(folder: Path) -> str:
    run = read_run(folder)
    return f"process {run['pid']} at {run['url']}" if run.get("pid") else "nobody"


def _look_at_server(settings: Settings) -> str:
    with open_client(settings) as client:
        answer = client.send("GET", "/health/ready")
        if answer.status_code != httpx.codes.OK:
            raise SetupError(f"{client.url} is not ready: {answer.text[:300]}")
        return f"{client.url} is ready"
