"""``cdp identity suggest``, ``suggestions``, ``accept``, ``reject``: people who may be one."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cdp.cli.client import ApiClient, open_client
from cdp.cli.output import JsonFlag, error_console, print_json, print_record, print_rows

_ROUTE = "/v1/identity/suggestions"
_LOOK_EVERY_SECONDS = 0.5

Suggested = Annotated[str, typer.Argument(metavar="ID", help="Such as sug_….")]
Reason = Annotated[str, typer.Option("--reason", help="Kept with the decision.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``cdp identity``."""
    app.command("suggest")(suggest)
    app.command("suggestions")(list_suggestions)
    app.command("accept")(accept)
    app.command("reject")(reject)


def suggest(
    wait: Annotated[bool, typer.Option(help="Until the search has ended.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Search for people who may be one; joins nobody."""
    with open_client() as client:
        run = client.call("POST", f"{_ROUTE}/run")
        while wait and run["state"] in ("queued", "running"):
            time.sleep(_LOOK_EVERY_SECONDS)
            run = _look(client, run)
    print_record(run, as_json=as_json)
    if run["state"] in ("failed", "cancelled"):
        raise typer.Exit(1)


def _look(client: ApiClient, before: dict[str, Any]) -> dict[str, Any]:
    """Return how far the search is by now; say so when it is further."""
    run: dict[str, Any] = client.call("GET", f"{_ROUTE}/run")
    if run["phase"] and run["phase"] != before["phase"]:
        error_console().print(f"… {run['phase']}", style="dim")
    return run


def list_suggestions(
    status: Annotated[str, typer.Option(help="open, accepted, rejected, stale.")] = "open",
    min_score: Annotated[float, typer.Option(min=0, max=1)] = 0,
    limit: Annotated[int, typer.Option(min=1, help="The likeliest so many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List people who may be one, the likeliest first, with what speaks for it."""
    params = {"status": status, "min_score": min_score, "limit": min(limit, 1000)}
    rows: list[dict[str, Any]] = []
    with open_client() as client:
        for row in client.pages(_ROUTE, **params):
            rows.append(row)
            if len(rows) >= limit:
                break
    if as_json:
        print_json(rows)
        return
    print_rows([_shorten(row) for row in rows], as_json=False)


def accept(
    suggestion: Suggested,
    reason: Reason,
    allow_unique_conflict: Annotated[
        bool, typer.Option(help="Also when a type that a person has one of then has two.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the two one person; undone by the decision's id like any merge."""
    body = {"reason": reason, "allow_unique_conflict": allow_unique_conflict}
    _decide(suggestion, "accept", body, as_json)


def reject(suggestion: Suggested, reason: Reason, as_json: JsonFlag = False) -> None:
    """Keep that the two are not one person, until something new speaks for it."""
    _decide(suggestion, "reject", {"reason": reason}, as_json)


def _decide(suggestion: str, verb: str, body: dict[str, Any], as_json: bool) -> None:
    with open_client() as client:
        answer = client.call("POST", f"{_ROUTE}/{quote(suggestion, safe='')}/{verb}", body=body)
    if as_json:
        print_json(answer)
        return
    print_record({**_shorten(answer), "decision_id": answer["decision_id"]}, as_json=False)


def _shorten(row: dict[str, Any]) -> dict[str, Any]:
    people = [_name(profile) for profile in row["profiles"]]
    evidence = ", ".join(
        f"{part['field']} {part['level']} {part['weight']:+.1f}" for part in row["evidence"]
    )
    return {
        "id": row["id"],
        "status": row["status"],
        "score": row["score"],
        "people": " | ".join(people),
        "evidence": evidence,
        "forbidden_by": ", ".join(one["type"] for one in row["forbidden_by"]) or None,
    }


def _name(profile: dict[str, Any]) -> str:
    names = [f"{name['type']}:{name['value']}" for name in profile["identifiers"]]
    return names[0] if names else str(profile["id"])
