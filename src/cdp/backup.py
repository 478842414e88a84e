"""Everything that cannot be worked out again, in one file, and back.

    cdp-backup.tar
      manifest.json     by which program, when, which schema, how much of what
      postgres.dump     the database as of one moment
      credentials.json  the keys that `cdp up` made
      archive/ imports/ exports/ drops/

DuckDB's file is not in it: it is fed anew from Postgres and the archive. Neither is a log on Kafka,
which stays where it is; positions in it come back with the database. The database is copied first
and files after it, so that every file which the database names is there.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from cdp import __version__
from cdp.errors import SetupError
from cdp.runtime.clock import format_time, now
from cdp.runtime.credentials import FILE_NAME
from cdp.runtime.embedded_postgres import EmbeddedPostgres
from cdp.runtime.postgres_copy import dump_database, restore_database
from cdp.runtime.run_folder import claim_folder
from cdp.settings import Settings
from cdp.storage.database import Database

_FOLDERS = ("archive", "imports", "exports", "drops")
_DUMP, _MANIFEST = "postgres.dump", "manifest.json"
_COUNTED = ("events", "profiles", "orders", "segments", "tags", "sources")
_FORMAT = 1


def write_backup(settings: Settings, database_url: str, target: Path) -> dict[str, Any]:
    """Write a backup of what runs on ``database_url`` to ``target``; return its manifest.

    Others may go on writing. The file appears when it is whole, readable by its owner only. Raises
    ``SetupError``.
    """
    if target.exists():
        raise SetupError(f"{target} exists already; give a name that is free")
    try:
        with tempfile.TemporaryDirectory(prefix=".cdp-backup-", dir=target.parent) as folder:
            dump = Path(folder) / _DUMP
            dump_database(database_url, dump)
            manifest = _describe(database_url)
            draft = Path(folder) / "backup.tar"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                _pack(file, settings.data_dir, dump, manifest)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
    except OSError as error:
        raise SetupError(f"{target} cannot be written ({error.strerror or error})") from error
    return manifest | {"file": str(target), "bytes": target.stat().st_size}


def restore_backup(settings: Settings, source: Path, *, replace: bool) -> dict[str, Any]:
    """Put back what ``source`` holds; nothing may run on the data folder. Return the manifest.

    What is there already is only given up with ``replace``, and not before the backup has been read
    whole. Raises ``SetupError``.
    """
    with claim_folder(settings.data_dir) as run, _unpack(source, run.folder) as (manifest, staged):
        for name in run.end_leftovers():
            raise SetupError(f"a {name} was still running and has been ended; try again")
        with _open_database(settings, run.folder) as (url, fresh_url):
            _require_room(url, replace=replace, is_own=fresh_url is not None)
            restore_database(fresh_url or url, staged / _DUMP)
            if fresh_url is not None:
                _exchange(url, fresh_url)
        _place_files(staged, run.folder)
    return manifest


def _pack(file: Any, data_dir: Path, dump: Path, manifest: dict[str, Any]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        text = dump.with_name(_MANIFEST)
        text.write_text(json.dumps(manifest, indent=2) + "\n")
        # First, so that a look at the beginning says what it is.
        tar.add(text, _MANIFEST)
        tar.add(dump, _DUMP)
        if (data_dir / FILE_NAME).exists():
            tar.add(data_dir / FILE_NAME, FILE_NAME)
        for name in _FOLDERS:
            for path in sorted((data_dir / name).rglob("*")):
                # What is written just now has a name of its own until it is whole.
                if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                    try:
                        tar.add(path, str(path.relative_to(data_dir)))
                    except FileNotFoundError:
                        continue


def _describe(url: str) -> dict[str, Any]:
    with psycopg.connect(url) as connection:
        schema = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        counts = {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # type: ignore[index]
            for name in _COUNTED
        }
    return {
        "format": _FORMAT,
        "cdp": __version__,
        "made_at": format_time(now()),
        "schema": None if schema is None else schema[0],
        "counts": counts,
    }


@contextmanager
def _unpack(source: Path, folder: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    try:
        with tempfile.TemporaryDirectory(prefix=".restoring-", dir=folder) as name:
            staged = Path(name)
            with tarfile.open(source, "r:") as tar:
                # Nothing in it may lead out of the folder.
                tar.extractall(staged, filter="data")
            manifest = json.loads((staged / _MANIFEST).read_text())
            if manifest.get("format") != _FORMAT or not (staged / _DUMP).exists():
                raise SetupError(f"{source} was not made by this version of `cdp backup`")
            yield manifest, staged
    except (tarfile.TarError, ValueError, KeyError) as error:
        raise SetupError(f"{source} is no backup, or is damaged ({error})") from error
    except OSError as error:
        raise SetupError(f"{source}: {error.strerror or error}") from error


@contextmanager
def _open_database(settings: Settings, folder: Path) -> Iterator[tuple[str, str | None]]:
    """Yield the database, and an empty one beside it that takes its place when it is filled.

    A server of somebody else's has one database for us: there is none beside it.
    """
    if settings.database_url is not None:
        yield Database(settings.database_url).libpq_url, None
        return
    postgres = EmbeddedPostgres(folder / "postgres")
    try:
        url = postgres.start()
        with psycopg.connect(_beside(url, "postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS cdp_restoring")
            connection.execute("CREATE DATABASE cdp_restoring")
        yield url, _beside(url, "cdp_restoring")
    finally:
        postgres.stop()


def _require_room(url: str, *, replace: bool, is_own: bool) -> None:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
    is_used = row is not None and bool(row[0])
    if is_used and not is_own:
        raise SetupError("the database is in use; give an empty one in CDP_DATABASE_URL")
    if is_used and not replace:
        raise SetupError("there is something here already; `--replace` gives it up")


def _exchange(url: str, fresh_url: str) -> None:
    with psycopg.connect(_beside(url, "postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS cdp_replaced WITH (FORCE)")
        with connection.transaction():
            connection.execute("ALTER DATABASE cdp RENAME TO cdp_replaced")
            connection.execute("ALTER DATABASE cdp_restoring RENAME TO cdp")
        connection.execute("DROP DATABASE cdp_replaced WITH (FORCE)")


def _place_files(staged: Path, folder: Path) -> None:
    for leftover in folder.glob("analytics.duckdb*"):
        leftover.unlink()
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
        if (staged / name).exists():
            (staged / name).replace(folder / name)
    if (staged / FILE_NAME).exists():
        (staged / FILE_NAME).replace(folder / FILE_NAME)


def _beside(url: str, name: str) -> str:
    """Return the URL of another database of the embedded server, whose own is called ``cdp``."""
    return url.replace("/cdp?", f"/{name}?", 1)
