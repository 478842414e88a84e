"""Segments and tags on the command line: each verb of the API, as tables, JSON and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cdp.cli import app
from cdp.cli.client import ApiClient
from cdp.storage.database import Database
from tests.support.segments import Served, serve_segments

PRO = json.dumps({"trait": "plan", "op": "eq", "value": "pro"})
FREE = json.dumps({"trait": "plan", "op": "eq", "value": "free"})

Cli = Callable[..., Result]


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[Served]:
    with serve_segments(database, tmp_path) as found:
        for name, plan in (("ann", "pro"), ("bob", "pro"), ("eve", "free")):
            found.people.trait(found.people.add(name), "plan", plan)
        found.follow()
        yield found


@pytest.fixture
def cli(served: Served, monkeypatch: pytest.MonkeyPatch) -> Cli:
    token = served.client.headers["Authorization"].removeprefix("Bearer ")

    def open_client(*_: Any) -> ApiClient:
        transport = served.client._transport
        return ApiClient("http://testserver", token, transport=transport)

    for module in ("segment_commands", "tag_commands"):
        monkeypatch.setattr(f"cdp.cli.{module}.open_client", open_client)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result

    return run


def read(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli(*arguments, "--json").stdout)


def test_values_and_changes_of_a_tag(cli: Cli, served: Served) -> None:
    cases = json.dumps({"cases": [{"when": json.loads(PRO), "then": "paying"}], "else": "not"})
    cli("tag", "create", "pays", "--definition", cases, "--type", "text")

    assert {row["value"] for row in read(cli, "tag", "values", "pays", "--fields", "user_id")} == {
        "paying", "not",
    }  # fmt: skip
    lines = cli(
        "tag", "values", "pays", "--fields", "user_id", "--format", "csv"
    ).stdout.splitlines()
    assert lines[0] == "profile_id,value,at,version,user_id"
    assert len(lines) == 4
    assert len(read(cli, "tag", "values", "pays", "--limit", "2")) == 2
    shown = cli("tag", "distribution", "pays").stdout
    assert "paying" in shown

    nobody = json.dumps({"cases": [{"when": {"any": []}, "then": "paying"}], "else": "not"})
    cli("tag", "update", "pays", "--definition", nobody)
    changes = read(cli, "tag", "changes", "pays")
    assert [row["to"] for row in changes["data"][3:]] == ["not", "not"]
    assert read(cli, "tag", "changes", "pays", "--since", changes["next"])["data"] == []
    assert "paying → not" in cli("tag", "changes", "pays").stdout


def test_values_by_hand(cli: Cli, served: Served) -> None:
    cli("tag", "create", "note", "--definition", '{"manual": true}', "--type", "text")
    assert read(cli, "tag", "set", "note", '"vip"', "user_id:ann", "user_id:bob")["stored"] == 2
    assert [row["value"] for row in read(cli, "tag", "values", "note")] == ["vip", "vip"]
    cli("tag", "set", "note", "null", "user_id:ann")
    assert len(read(cli, "tag", "values", "note")) == 1
    unknown = CliRunner().invoke(app, ["tag", "set", "note", "1", "nobody"])
    assert unknown.exit_code == 2


def test_versions_history_and_overlap_of_segments(cli: Cli, served: Served) -> None:
    cli("segment", "create", "pro", "--rule", PRO)
    cli("segment", "create", "free", "--rule", FREE)
    assert read(cli, "segment", "overlap", "pro", "free") == [
        {"segments": ["free"], "count": 1},
        {"segments": ["pro"], "count": 2},
    ]
    changed = read(cli, "segment", "update", "pro", "--rule", FREE)
    assert (changed["version"], changed["name"], changed["count"]) == (2, "pro", 1)
    assert [row["count"] for row in read(cli, "segment", "history", "pro")] == [2, 1]
    assert read(cli, "segment", "show", "pro", "--at", "2036-01-01T00:00:00Z")["version"] == 2
    assert cli("segment", "members", "pro", "--format", "ndjson").stdout.count("\n") == 1
