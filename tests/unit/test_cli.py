"""The command line: exit codes, one-line errors, tables for people and JSON for machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import typer

from cdp.cli.client import ApiClient, ApiRefused, name_profile, open_client
from cdp.cli.doctor import hide_secret
from cdp.cli.output import print_rows, read_document
from cdp.cli.pull import read_changes
from cdp.cli.serve import read_roles
from cdp.cli.up import describe_run, name_command, name_workers
from cdp.errors import SetupError
from cdp.preflight import describe_url, listen
from cdp.runtime.credentials import Credentials, write_credentials
from cdp.settings import Settings, read_settings


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CDP_")}
    return subprocess.run(
        [sys.executable, "-m", "cdp", *arguments],
        env={**environment, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_the_commands_and_exits_0() -> None:
    result = run("--help")

    assert result.returncode == 0
    for command in ("up", "serve", "worker", "migrate", "doctor", "demo", "source",
                    "token", "segment", "tag", "profile", "identity", "rebuild",
                    "sql", "status"):  # fmt: skip
        assert command in result.stdout


def test_wrong_use_exits_2() -> None:
    assert run("fly").returncode == 2
    assert run("profile", "show", "nobody").returncode == 2
    assert run("identity", "merge", "user_id:1", "nobody", "--reason", "r").returncode == 2
    assert run("identity", "block", "user_id:1").returncode == 2
    assert run("serve", "--role", "dance").returncode == 2


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"CDP_PROT": "80"}, "CDP_PROT"),
        ({"CDP_PORT": "many"}, "CDP_PORT"),
        ({"CDP_DATABASE_URL": "mysql://x"}, "CDP_DATABASE_URL"),
        ({"CDP_DATABASE_URL": "postgresql://x@127.0.0.1:9/x"}, "CDP_DATABASE_URL"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_1(
    variables: dict[str, str], word: str, tmp_path: Path
) -> None:
    variables = {"CDP_PORT": "0", "CDP_DATA_DIR": str(tmp_path), **variables}

    result = run("up", **variables)

    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert word in result.stderr


def test_a_taken_port_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        result = run("up", CDP_PORT=port, CDP_DATA_DIR=str(tmp_path))

    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"error: port {port} on 127.0.0.1 is taken by another program; set CDP_PORT to a free one"
    ]


def test_without_a_server_the_next_step_is_said(tmp_path: Path) -> None:
    result = run("status", CDP_DATA_DIR=str(tmp_path))

    assert result.returncode == 1
    assert "cdp up" in result.stderr


def test_doctor_shows_settings_without_secrets(tmp_path: Path) -> None:
    result = run("doctor", "--json", CDP_DATA_DIR=str(tmp_path), CDP_TOKEN="cdp_secret")

    shown = json.loads(result.stdout)
    values = {row["variable"]: row["value"] for row in shown["settings"]}
    assert values["CDP_DATA_DIR"] == str(tmp_path)
    assert "cdp_secret" not in result.stdout
    assert {check["what"] for check in shown["checks"]} >= {"data folder", "Postgres"}
    assert result.returncode == 0


def test_a_database_url_is_shown_without_its_password() -> None:
    assert hide_secret("database_url", "postgresql://me:pw@db/x") == "postgresql://me@db/x"
    assert hide_secret("kafka_sasl_password", "pw") == "(hidden)"


def test_roles_are_read_and_others_refused() -> None:
    assert read_roles("ingest, api") == {"ingest", "api"}
    with pytest.raises(SetupError, match="dance"):
        read_roles("ingest,dance")
    with pytest.raises(SetupError):
        read_roles("")


def test_a_profiles_name_is_escaped_for_the_path() -> None:
    assert name_profile("email:a/b@example.com") == "email:a%2Fb%40example.com"
    assert name_profile("url:x:y") == "url:x%3Ay"
    with pytest.raises(typer.BadParameter, match="type:value"):
        name_profile("ann@example.com")


def keep(folder: Path) -> Credentials:
    kept = Credentials("http://127.0.0.1:8080", "wk", "cdp_kept", "web")
    write_credentials(folder, kept)
    return kept


def test_the_kept_token_is_not_shown_to_another_server(tmp_path: Path) -> None:
    keep(tmp_path)
    settings = Settings(data_dir=tmp_path, url="http://elsewhere.test")  # type: ignore[call-arg]

    with pytest.raises(SetupError, match="CDP_TOKEN"):
        open_client(settings)


def test_the_kept_credentials_are_used_where_nothing_else_is_said(tmp_path: Path) -> None:
    keep(tmp_path)

    with open_client(read_settings({"CDP_DATA_DIR": str(tmp_path)})) as client:
        assert client.url == "http://127.0.0.1:8080"


def test_a_refusal_is_told_with_the_place_of_the_mistake() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        body = {"code": "bad_rule", "message": "no such op", "details": {"path": "/rule/op"}}
        return httpx.Response(422, json=body)

    client = ApiClient("http://cdp.test", "t", transport=httpx.MockTransport(refuse))

    with client, pytest.raises(ApiRefused, match=r"no such op \(at /rule/op\)"):
        client.call("POST", "/v1/segments", body={})


def test_pages_are_followed_to_the_end() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer t"
        if request.url.params.get("cursor") == "two":
            return httpx.Response(200, json={"data": [{"n": 3}], "next": None})
        return httpx.Response(200, json={"data": [{"n": 1}, {"n": 2}], "next": "two"})

    with ApiClient("http://cdp.test", "t", transport=httpx.MockTransport(answer)) as client:
        assert [row["n"] for row in client.pages("/v1/things")] == [1, 2, 3]


def test_changes_are_followed_to_their_end_or_to_a_limit() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        start, size = int(request.url.params.get("since", 0)), int(request.url.params["limit"])
        rows = [{"n": n} for n in range(start, min(start + size, 2300))]
        return httpx.Response(200, json={"data": rows, "next": str(start + len(rows))})

    with ApiClient("http://cdp.test", "t", transport=httpx.MockTransport(answer)) as client:
        everything = read_changes(client, "/v1/segments/vip/changes", None, None)
        some = read_changes(client, "/v1/segments/vip/changes", "10", 1500)
    assert ([row["n"] for row in everything["data"]], everything["next"]) == (
        [*range(2300)],
        "2300",
    )
    assert ([row["n"] for row in some["data"]], some["next"]) == ([*range(10, 1510)], "1510")


def test_cells_are_shown_as_they_are_not_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"name": "[bold]安妮[/bold]", "tags": {"a": 1}}], as_json=False)

    shown = capsys.readouterr().out
    assert "[bold]安妮[/bold]" in shown
    assert '{"a": 1}' in shown


def test_documents_come_as_text_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "rule.json").write_text('{"all": []}')

    assert read_document('{"any": []}', "--rule") == {"any": []}
    assert read_document(f"@{tmp_path}/rule.json", "--rule") == {"all": []}
    with pytest.raises(typer.BadParameter, match="not JSON"):
        read_document("{", "--rule")


def test_the_first_call_can_be_pasted_into_a_shell() -> None:
    text = describe_run(Credentials("http://127.0.0.1:8080", "w'k", "cdp_t", "web"), "/data")

    line = next(line for line in text.splitlines() if "curl" in line)
    printed = subprocess.run(
        ["sh", "-c", line.replace("curl", "printf '%s\\n'", 1)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "http://127.0.0.1:8080/v1/identify" in printed
    assert "w'k:" in printed
    assert json.loads(printed[-1])["traits"]["email"] == "ann@example.com"


@pytest.mark.parametrize(
    ("called", "path", "name"),
    [
        ("{bin}/cdp", "{bin}", "cdp"),
        ("{bin}/cdp", "/nowhere", "{bin}/cdp"),
        (".venv/bin/cdp", "/nowhere", ".venv/bin/cdp"),
        ("/x/cdp/__main__.py", "{bin}", f"{sys.executable} -m cdp"),
    ],
)
def test_the_command_is_shown_as_it_was_called(
    called: str, path: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "cdp"
    program.touch(0o755)
    monkeypatch.setenv("PATH", path.format(bin=tmp_path))
    monkeypatch.setattr(sys, "argv", [called.format(bin=tmp_path), "up"])

    command = name_command()

    assert command == name.format(bin=tmp_path)
    shown = describe_run(Credentials("http://x", "k", "t", "w"), "/data", command)
    assert f"\n  {command} profile show email:ann@example.com\n" in shown


def test_the_address_shown_is_one_that_can_be_called() -> None:
    with listen("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        everywhere = Settings(host="0.0.0.0")  # type: ignore[call-arg]
        assert describe_url(everywhere, listener) == f"http://127.0.0.1:{port}"
        public = Settings(public_url="https://cdp.example.com/")  # type: ignore[call-arg]
        assert describe_url(public, listener) == "https://cdp.example.com"


def test_each_worker_of_a_run_has_a_name_of_its_own_and_the_first_is_just_worker() -> None:
    assert name_workers(1) == ["worker"]
    assert name_workers(3) == ["worker", "worker-2", "worker-3"]
