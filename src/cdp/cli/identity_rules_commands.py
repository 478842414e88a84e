"""``cdp identity rules`` and ``dry-run``: see the rules, try others, put them, go back."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from cdp.cli.client import ApiRefused, open_client, read_name
from cdp.cli.output import (
    JsonFlag,
    error_console,
    print_json,
    print_record,
    print_rows,
    read_document,
)
from cdp.cli.progress import show_progress

app = typer.Typer(help="The rules of identity, as one document.", no_args_is_help=True)

_PATH = "/v1/identity/rules"
_POLL_SECONDS = 0.5

Document = Annotated[str, typer.Argument(metavar="RULES", help="The rules as JSON, @file or -.")]
Wait = Annotated[bool, typer.Option("--wait", help="Until the people of before have followed.")]


@app.command("show")
def show_rules(
    version: Annotated[int | None, typer.Option(help="A former version.")] = None,
) -> None:
    """Print the rules as JSON, ready to be edited and put."""
    with open_client() as client:
        if version is None:
            print_json(client.call("GET", _PATH))
            return
        for row in client.pages(f"{_PATH}/versions"):
            if row["version"] == version:
                print_json(row["rules"])
                return
    error_console().print(f"there is no version {version}", style="red")
    raise typer.Exit(1)


@app.command("put")
def put_rules(rules: Document, wait: Wait = False) -> None:
    """Replace the rules; they must carry the version they were read at."""
    document = read_document(rules, "RULES")
    with open_client() as client:
        answer = client.call("PUT", _PATH, body=document)
    _tell_changed(answer, wait=wait)


@app.command("rollback")
def roll_back(
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1)], wait: Wait = False
) -> None:
    """Let the rules of a former version hold again, under a new one; 1 is the default rules."""
    with open_client() as client:
        answer = client.call("POST", f"{_PATH}/rollback", body={"version": version})
    _tell_changed(answer, wait=wait)


@app.command("versions")
def list_versions(as_json: JsonFlag = False) -> None:
    """List all versions and how far each was applied."""
    with open_client() as client:
        rows = list(client.pages(f"{_PATH}/versions"))
    if as_json:
        print_json(rows)
        return
    print_rows([{k: v for k, v in row.items() if k != "rules"} for row in rows], as_json=False)


@app.command("status")
def show_status(wait: Wait = False, as_json: JsonFlag = False) -> None:
    """Show how far the people of before have followed the newest rules."""
    if wait:
        _await_application()
    with open_client() as client:
        print_record(client.call("GET", f"{_PATH}/status"), as_json=as_json)


def _tell_changed(answer: dict[str, Any], *, wait: bool) -> None:
    if wait:
        _await_application()
    else:
        error_console().print(
            f"version {answer['version']} holds; `cdp identity rules status` shows how far the "
            "people of before have followed",
            style="dim",
        )
    print_json(answer)


def _await_application() -> None:
    with open_client() as client, show_progress("applying") as show:
        while True:
            found = client.call("GET", f"{_PATH}/status")
            done, total = found["components"]["done"], found["components"]["total"]
            if found["state"] == "applied":
                show(1.0, f"{done:,} components")
                return
            if total:
                show(min(1.0, done / total), f"{done:,} of {total:,} components")
            time.sleep(_POLL_SECONDS)


def dry_run(
    rules: Annotated[
        str | None, typer.Argument(metavar="[RULES]", help="The rules as JSON, @file or -.")
    ] = None,
    block: Annotated[
        list[str] | None, typer.Option(metavar="TYPE:VALUE", help="As if it were blocked.")
    ] = None,
    unblock: Annotated[
        list[str] | None, typer.Option(metavar="TYPE:VALUE", help="As if it were not blocked.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Count who would part and who would join under other rules or blocks; changes nothing."""
    body: dict[str, Any] = {
        "block": [read_name(name) for name in block or ()],
        "unblock": [read_name(name) for name in unblock or ()],
    }
    if rules is not None:
        body["rules"] = read_document(rules, "RULES")
    elif not block and not unblock:
        raise typer.BadParameter("give RULES, --block or --unblock")
    answer = _follow_dry_run(body)
    if as_json:
        print_json(answer)
        return
    print(
        f"of {answer['components']:,} components: {answer['would_part']:,} people would part, "
        f"{answer['would_join']:,} would join"
    )
    if answer["devices_would_change"]:
        print(f"{answer['devices_would_change']:,} shared devices would be others' at some time")
    if answer["too_large"]:
        error_console().print(
            f"{answer['too_large']:,} components would become one so large that nothing is said "
            "of it",
            style="yellow",
        )
    rows = [
        {"change": change, "profiles": one["profiles"], "people": _show_people(one["people"])}
        for change in ("part", "join")
        for one in answer["examples"][change]
    ]
    if rows:
        print_rows(rows, ["change", "profiles", "people"], as_json=False)


def _follow_dry_run(body: dict[str, Any]) -> dict[str, Any]:
    path = "/v1/identity/dry-run?stream=true"
    with (
        open_client() as client,
        show_progress("trying") as show,
        client.stream(path, method="POST", body=body) as lines,
    ):
        for line in lines:
            told = json.loads(line)
            if "error" in told:
                raise ApiRefused(500, told["error"])
            if "result" in told:
                result: dict[str, Any] = told["result"]
                return result
            now = told["progress"]
            show(now["share"], f"{now['would_part']:,} part, {now['would_join']:,} join")
    raise ApiRefused(500, {"message": "the answer broke off; try again"})


def _show_people(people: list[list[dict[str, str]]]) -> str:
    return " | ".join(
        " ".join(f"{name['type']}:{name['value']}" for name in person) for person in people
    )
