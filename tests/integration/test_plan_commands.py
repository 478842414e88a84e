"""``cdp plan`` against a server and without one: what it prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cdp.access import tokens_store
from cdp.app import build_app
from cdp.cli import app
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.ingest_server import serve
from tests.support.postgres import PostgresServer

TEXT = {"type": "object", "properties": {"a": {"type": "string"}}}
WIDER = {"type": "object", "properties": {"a": {"type": ["string", "integer"]}}}


class Cli:
    """Runs commands with the environment of one server."""

    def __init__(self, **variables: str) -> None:
        self._variables = variables

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["plan", *arguments], env=self._variables)


@pytest.fixture(scope="module")
def cli(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("data")
    with postgres_server.fresh_url() as url:
        database = Database(url)
        with database.transaction() as connection:
            _, token = tokens_store.create_token(driver(connection), "cli", ("sources:write",))
        serving = build_app(
            Settings(database_url=url, data_dir=folder), frozenset({"ingest", "api"})
        )
        with serve(serving) as address:
            yield Cli(CDP_URL=address, CDP_TOKEN=token, CDP_DATA_DIR=str(folder))
        database.close()


def write(folder: Path, name: str, document: Any) -> str:
    path = folder / name
    path.write_text(json.dumps(document))
    return str(path)


def plan(schema: Any, **more: Any) -> dict[str, Any]:
    return {"events": {"A": {"description": "first", "properties": schema}}, **more}


def test_a_plan_file_is_compared_applied_and_shown(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, "plan.json", plan(TEXT))
    told = cli("diff", file)
    assert (told.exit_code, told.stdout) == (0, "+ event A: the event is planned now\n")
    done = cli("apply", file, "--json")
    assert json.loads(done.stdout) == {**plan(TEXT), "version": 1}
    assert cli("apply", file).exit_code == 0
    assert json.loads(cli("show", "--json").stdout)["version"] == 1
    assert "first" in cli("show").stdout

    wider = write(tmp_path, "wider.json", plan(WIDER, version=1))
    assert cli("diff", wider).exit_code == 0
    assert cli("apply", wider).exit_code == 0
    stale = cli("apply", wider)
    assert stale.exit_code == 1
    assert "changed meanwhile" in str(stale.exception)
    assert cli("apply", wider, "--force").exit_code == 0

    breaking = cli("diff", file, "--json")
    assert breaking.exit_code == 1
    found = json.loads(breaking.stdout)
    assert (found["breaking"], found["changed"]) == (True, 1)
    assert cli("diff", file).stdout.startswith("~ BREAKING  A.a: type: ")
    versions = json.loads(cli("versions", "--json").stdout)
    assert [row["version"] for row in versions] == [2, 1]
    assert json.loads(cli("show", "--version", "1", "--json").stdout) == {
        **plan(TEXT),
        "version": 1,
    }


def test_what_was_observed_is_told_and_proposed(cli: Cli, tmp_path: Path) -> None:
    assert json.loads(cli("observed", "--json").stdout) == []
    assert cli("observed").exit_code == 0
    assert cli("observed", "--event", "A").exit_code == 0
    assert json.loads(cli("learn", "--anew").stdout)["events"] == {}
    file = write(tmp_path, "plan.json", plan(TEXT))
    assert cli("diff", file, "--observed").exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [(TEXT, WIDER, 0), (WIDER, TEXT, 1), (TEXT, TEXT, 0), (TEXT, {"type": "x"}, 2)],
)
def test_two_files_are_compared_without_a_server(
    tmp_path: Path, old: Any, new: Any, code: int
) -> None:
    offline = Cli(CDP_DATA_DIR=str(tmp_path))
    files = write(tmp_path, "old.json", plan(old)), write(tmp_path, "new.json", plan(new))
    told = offline("diff", *files)
    assert told.exit_code == code, told.output


def test_wrong_use_exits_2(tmp_path: Path) -> None:
    offline = Cli(CDP_DATA_DIR=str(tmp_path))
    file = write(tmp_path, "list.json", [])
    for arguments in (
        ("diff",),
        ("diff", "absent.json"),
        ("apply", file),
        ("diff", file, file, "--observed"),
    ):
        assert offline(*arguments).exit_code == 2, arguments
