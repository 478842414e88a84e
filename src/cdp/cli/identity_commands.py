"""``cdp identity``: who is who and why, decisions by hand, the rules, and the proof of it all."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cdp.cli import identity_rules_commands
from cdp.cli.client import name_profile, open_client, read_name
from cdp.cli.output import JsonFlag, print_json, print_record, print_rows
from cdp.settings import read_settings

app = typer.Typer(
    help="Who is who and why; merge, part and block; the rules.", no_args_is_help=True
)
app.add_typer(identity_rules_commands.app, name="rules")

Name = Annotated[str, typer.Argument(metavar="TYPE:VALUE", help="Such as email:ann@example.com.")]
Names = Annotated[list[str], typer.Argument(metavar="TYPE:VALUE...")]
Reason = Annotated[str, typer.Option("--reason", help="Kept with the decision.")]


def _call(method: str, path: str, **more: Any) -> Any:
    with open_client() as client:
        return client.call(method, f"/v1/identity/{path}", **more)


@app.command("explain")
def explain(one: Name, other: Name, as_json: JsonFlag = False) -> None:
    """Show by which events two identifiers are one person, or what withheld it."""
    with open_client() as client:
        path = f"/v1/profiles/{name_profile(one)}/explain"
        name_profile(other)
        answer = client.call("GET", path, params={"with": other})
    if as_json:
        print_json(answer)
        return
    print("one person" if answer["same"] else "two people")
    columns = ["at", "from", "to", "rule", "source_id", "message_id"]
    print_rows(answer["path"] or answer["withheld"], columns, as_json=False)


@app.command("merge")
def merge(
    names: Names,
    reason: Reason,
    allow_unique_conflict: Annotated[
        bool, typer.Option(help="Also when a type that a person has one of then has two.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make the people of some identifiers one."""
    body = {
        "identifiers": [read_name(name) for name in names],
        "reason": reason,
        "allow_unique_conflict": allow_unique_conflict,
    }
    print_record(_call("POST", "merge", body=body), as_json=as_json)


@app.command("unmerge")
def unmerge(names: Names, reason: Reason, as_json: JsonFlag = False) -> None:
    """Take one identifier from its person, or say that several are one person each."""
    body = {"identifiers": [read_name(name) for name in names], "reason": reason}
    print_record(_call("POST", "unmerge", body=body), as_json=as_json)


@app.command("undo")
def undo(
    decision: Annotated[str, typer.Argument(metavar="ID")],
    reason: Reason,
    as_json: JsonFlag = False,
) -> None:
    """Withdraw a merge, an unmerge or a block, by its id."""
    path = f"undo/{quote(decision, safe='')}"
    print_record(_call("POST", path, body={"reason": reason}), as_json=as_json)


@app.command("block")
def block(name: Name, reason: Reason, as_json: JsonFlag = False) -> None:
    """Let an identifier name nobody; the people that it tied together come apart."""
    body = {**read_name(name), "reason": reason}
    print_record(_call("POST", "block", body=body), as_json=as_json)


@app.command("unblock")
def unblock(name: Name, reason: Reason, as_json: JsonFlag = False) -> None:
    """Undo the block of an identifier."""
    body = {**read_name(name), "reason": reason}
    print_record(_call("POST", "unblock", body=body), as_json=as_json)


@app.command("decisions")
def list_decisions(as_json: JsonFlag = False) -> None:
    """List what was decided by hand, the newest first."""
    with open_client() as client:
        print_rows(client.pages("/v1/identity/decisions", limit=1000), as_json=as_json)


@app.command("hot")
def list_hot(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50, as_json: JsonFlag = False
) -> None:
    """List the identifiers that were seen with most people: hot ones, and those near it."""
    answer = _call("GET", "hot", params={"limit": limit})
    if as_json:
        print_json(answer["data"])
        return
    rows = [
        {
            **row,
            "examples": " ".join(f"{one['type']}:{one['value']}" for one in row["examples"]),
            "sources": " ".join(row["sources"]),
        }
        for row in answer["data"]
    ]
    columns = ["level", "type", "value", "people", "events", "first_seen", "last_seen",
               "sources", "examples"]  # fmt: skip
    print_rows(rows, columns, as_json=False)


@app.command("refused")
def list_refused(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List joins that were withheld, and by which rule."""
    rows = []
    with open_client() as client:
        for row in client.pages("/v1/identity/refused", limit=min(limit, 1000)):
            rows.append(row)
            if len(rows) >= limit:
                break
    print_rows(rows, as_json=as_json)


app.command("dry-run")(identity_rules_commands.dry_run)


@app.command("check")
def check(as_json: JsonFlag = False) -> None:
    """Compare the stored profiles with a rebuild and prove the invariants; exit 1 if one fails."""
    from cdp.identity.check_store import check_identity
    from cdp.identity.rules_store import read_rules
    from cdp.preflight import find_database_url, reach_database, require_schema
    from cdp.storage.database import driver

    settings = read_settings()
    with reach_database(find_database_url(settings)) as database:
        require_schema(database)
        with database.snapshot() as connection:
            tx = driver(connection)
            found = check_identity(tx, read_rules(tx, settings.default_country))
    print_rows([asdict(finding) for finding in found], as_json=as_json)
    if any(finding.wrong for finding in found):
        raise typer.Exit(1)
