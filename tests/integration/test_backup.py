"""A backup holds everything that cannot be worked out again, and comes back whole or not at all."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest

from cdp.backup import restore_backup, write_backup
from cdp.errors import SetupError
from cdp.ingest.sources_store import create_source
from cdp.runtime.run_folder import claim_folder
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.postgres import PostgresServer

FreshUrl = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def data(database: Database, tmp_path: Path) -> Path:
    """A data folder with something in every place, and a source in the database."""
    with database.transaction() as connection:
        create_source(driver(connection), "商店", "shop", {})
    folder = tmp_path / "data"
    for name in ("archive/events/date=2026-03-01/part.parquet", "exports/x.zip", "imports/i"):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
    (folder / "credentials.json").write_text("{}")
    (folder / "analytics.duckdb").write_bytes(b"worked out again")
    return folder


def read_sources(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM sources")]


def test_what_was_backed_up_comes_back_into_an_empty_place(
    database: Database, data: Path, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    target = tmp_path / "backup.tar"
    made = write_backup(Settings(data_dir=data), database.libpq_url, target)
    with postgres_server.fresh_url(migrated=False) as url:
        settings = Settings(data_dir=tmp_path / "other", database_url=url)
        restored = restore_backup(settings, target, replace=False)
        libpq = Database(url).libpq_url

        assert read_sources(libpq) == ["商店"]
        assert restored["counts"] == made["counts"]
        assert made["counts"]["sources"] == 1
        with pytest.raises(SetupError, match="in use"):
            restore_backup(settings, target, replace=True)
    other = tmp_path / "other"
    assert (other / "archive/events/date=2026-03-01/part.parquet").read_bytes()
    assert (other / "credentials.json").exists()
    assert not list(other.glob("analytics.duckdb*"))
    assert not list(other.glob(".restoring-*"))
    assert target.stat().st_mode & 0o077 == 0


def test_a_backup_never_takes_the_place_of_another(
    database: Database, data: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backup.tar"
    target.write_bytes(b"an older one")
    with pytest.raises(SetupError, match="exists already"):
        write_backup(Settings(data_dir=data), database.libpq_url, target)
    assert target.read_bytes() == b"an older one"


def test_nothing_is_restored_below_a_running_program(tmp_path: Path) -> None:
    with claim_folder(tmp_path / "data"), pytest.raises(SetupError, match="using"):
        restore_backup(Settings(data_dir=tmp_path / "data"), tmp_path / "b.tar", replace=True)


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\0" * 10240])
def test_what_is_no_backup_changes_nothing(
    data: Path, tmp_path: Path, database: Database, content: bytes
) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(content)
    settings = Settings(data_dir=data, database_url=database.url)
    with pytest.raises(SetupError):
        restore_backup(settings, broken, replace=True)
    assert (data / "credentials.json").exists()
    assert (data / "analytics.duckdb").exists()
    assert read_sources(database.libpq_url) == ["商店"]


def test_a_backup_that_was_cut_short_changes_nothing(
    database: Database, data: Path, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    target = tmp_path / "backup.tar"
    write_backup(Settings(data_dir=data), database.libpq_url, target)
    whole = target.read_bytes()
    with tarfile.open(target) as tar:
        dump = tar.getmember("postgres.dump")
    target.write_bytes(whole[: dump.offset_data + dump.size // 2])
    with postgres_server.fresh_url(migrated=False) as url:
        settings = Settings(data_dir=tmp_path / "other", database_url=url)
        with pytest.raises(SetupError):
            restore_backup(settings, target, replace=False)
        with psycopg.connect(Database(url).libpq_url) as connection:
            row = connection.execute("SELECT to_regclass('sources')").fetchone()
    assert row == (None,)
