"""The migrations say exactly what the tables page says."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cdp.errors import SetupError
from cdp.storage.database import Database
from cdp.storage.migrate import _configure, check_schema, migrate
from cdp.storage.tables import metadata
from tests.support.postgres import PostgresServer


@pytest.fixture
def empty_database(postgres_server: PostgresServer) -> Iterator[Database]:
    with postgres_server.fresh_url(migrated=False) as url:
        database = Database(url)
        try:
            yield database
        finally:
            database.close()


def test_a_migrated_database_differs_in_nothing_from_the_tables_page(
    empty_database: Database,
) -> None:
    migrate(empty_database)
    assert _differences(empty_database) == []


def test_a_missing_column_is_found_by_the_comparison(empty_database: Database) -> None:
    migrate(empty_database)
    with empty_database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE positions DROP COLUMN updated_at")
    assert len(_differences(empty_database)) == 1


def test_all_migrations_go_down_to_nothing_and_up_again(empty_database: Database) -> None:
    migrate(empty_database)
    _downgrade(empty_database)
    inspector = sa.inspect(empty_database.engine)
    assert inspector.get_table_names() == ["alembic_version"]
    assert inspector.get_sequence_names() == []
    migrate(empty_database)
    assert _differences(empty_database) == []


def test_there_is_one_line_of_migrations() -> None:
    assert len(ScriptDirectory.from_config(_configure()).get_heads()) == 1


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database)
    check_schema(database)


def test_two_processes_that_migrate_at_once_both_find_it_done(empty_database: Database) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            migrate(empty_database)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    check_schema(empty_database)


def test_a_program_refuses_a_database_of_another_schema_in_one_line(
    empty_database: Database,
) -> None:
    with pytest.raises(SetupError, match="run `cdp migrate`") as refused:
        check_schema(empty_database)
    assert "\n" not in str(refused.value)


def _differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, metadata))


def _downgrade(database: Database) -> None:
    config: Config = _configure()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
