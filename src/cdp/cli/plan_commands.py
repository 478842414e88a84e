"""``cdp plan``: the tracking plan, from what was observed to the check of a pull request."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, console, error_console, print_json, print_rows

app = typer.Typer(help="The tracking plan: what sources should send.", no_args_is_help=True)

PlanFile = Annotated[str, typer.Argument(metavar="FILE", help="A plan as JSON; - is stdin.")]


@app.command("show")
def show_plan(
    version: Annotated[int | None, typer.Option(help="An earlier version.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the plan that holds, or an earlier version of it."""
    with open_client() as client:
        if version is None:
            plan = client.call("GET", "/v1/plan")
        else:
            plan = client.call("GET", f"/v1/plan/versions/{version}")["plan"]
    if as_json:
        print_json(plan)
        return
    error_console().print(f"version {plan['version']}", style="dim")
    rows = [
        {
            "event": name,
            "enabled": event.get("enabled", True),
            "properties": ", ".join((event.get("properties") or {}).get("properties", {})),
            "description": event.get("description", ""),
        }
        for name, event in plan["events"].items()
    ]
    print_rows(rows, as_json=False)


@app.command("observed")
def show_observed(
    source: Annotated[str | None, typer.Option(help="One source only.")] = None,
    event: Annotated[str | None, typer.Option(help="One event, with its properties.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show which events are sent; with --event, which properties they have."""
    with open_client() as client:
        rows = list(client.pages("/v1/plan/observed", source=source, event=event, limit=200))
    if as_json:
        print_json(rows)
    elif event is not None:
        properties = [one for row in rows for one in row["properties"]]
        columns = ["path", "types", "share", "planned", "examples"]
        print_rows(properties, columns, as_json=False)
    else:
        columns = ["type", "event", "count", "planned", "findings", "first_seen", "last_seen"]
        print_rows(rows, columns, as_json=False)


@app.command("learn")
def learn_plan(
    source: Annotated[str | None, typer.Option(help="One source's traffic only.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Without what is planned already.")] = False,
    required_from: Annotated[
        int, typer.Option(min=1, help="Events before a property can be required.")
    ] = 10,
) -> None:
    """Print a plan proposed from what was observed, as JSON. Writes nothing."""
    body = {
        "source": source,
        "base": "empty" if anew else "current",
        "required_from": required_from,
    }
    with open_client() as client:
        print_json(client.call("POST", "/v1/plan/learn", body=body)["plan"])


@app.command("apply")
def apply_plan(
    file: PlanFile,
    force: Annotated[
        bool, typer.Option("--force", help="Over whatever version the file was made from.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make FILE the plan. Its `version`, when there, must be the one that holds."""
    plan = _read_plan(file)
    with open_client() as client:
        current = client.call("GET", "/v1/plan")
        if force or "version" not in plan:
            plan = {**plan, "version": current["version"]}
        done = client.call("PUT", "/v1/plan", body=plan)
    if as_json:
        print_json(done)
    elif done["version"] == current["version"]:
        error_console().print(f"no change: version {done['version']} holds", style="dim")
    else:
        error_console().print(f"version {done['version']} holds", style="dim")


@app.command("versions")
def list_versions(as_json: JsonFlag = False) -> None:
    """List the versions of the plan, the newest first."""
    with open_client() as client:
        print_rows(client.pages("/v1/plan/versions", limit=1000), as_json=as_json)


@app.command("diff")
def diff_plans(
    file: PlanFile,
    new_file: Annotated[
        str | None,
        typer.Argument(metavar="[NEW]", help="Compare FILE with NEW, without a server."),
    ] = None,
    observed: Annotated[
        bool, typer.Option("--observed", help="Compare what was observed with FILE.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what FILE would change in the server's plan, or NEW in FILE. For pull requests.

    Exit 0: nothing that breaks senders of today; 1: something does (or it failed); 2: wrong use.
    """
    if observed and new_file is not None:
        raise typer.BadParameter("--observed compares with one file")
    if new_file is not None:
        found = _diff_offline(file, new_file)
    else:
        body = {"from": "observed" if observed else "current", "to": _read_plan(file)}
        with open_client() as client:
            found = client.call("POST", "/v1/plan/diff", body=body)
    if as_json:
        print_json(found)
    else:
        _print_diff(found)
    if found["breaking"]:
        raise typer.Exit(1)


def _diff_offline(old: str, new: str) -> dict[str, Any]:
    from cdp.errors import Unprocessable
    from cdp.plan.diff import diff_plans as diff
    from cdp.plan.diff import show_diff
    from cdp.plan.plan import check_document

    plans = []
    for name in (old, new):
        try:
            plans.append(check_document(_read_plan(name)))
        except Unprocessable as error:
            raise typer.BadParameter(
                f"{name} is no plan: {error} (at {error.details['path'] or '/'})"
            ) from error
    return show_diff(diff(*plans))


def _print_diff(found: dict[str, Any]) -> None:
    signs = {"added": "+", "removed": "-", "changed": "~"}
    for change in found["changes"]:
        mark = "BREAKING  " if change["breaking"] else ""
        console().print(
            f"{signs[change['change']]} {mark}{change['what']}: {change['message']}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    breaking = sum(1 for change in found["changes"] if change["breaking"])
    total = len(found["changes"])
    told = "no difference" if not total else f"{total} changes, {breaking} of them breaking"
    error_console().print(told, style="dim")


def _read_plan(name: str) -> dict[str, Any]:
    """Read a plan; anything that is no JSON object is wrong use."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        plan = json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(f"{name} is not JSON: {error}") from error
    if not isinstance(plan, dict):
        raise typer.BadParameter(f"{name} is no JSON object")
    return plan
