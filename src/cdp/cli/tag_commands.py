"""``cdp tag``: computed or manual values per person."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cdp.cli.client import open_client, read_name
from cdp.cli.output import (
    JsonFlag,
    print_json,
    print_record,
    print_rows,
    read_document,
)
from cdp.cli.pull import (
    Channel,
    Consent,
    Fields,
    Form,
    MostChanges,
    MostRows,
    Pull,
    Since,
    print_changes,
    print_pull,
)

app = typer.Typer(help="Tags: values computed for every person.", no_args_is_help=True)

# Too long for a table: `cdp tag show` has them.
_AT_LENGTH = ("definition", "inputs", "settings", "missing")


@app.command("list")
def list_tags(as_json: JsonFlag = False) -> None:
    """List the tags."""
    with open_client() as client:
        rows = list(client.pages("/v1/tags", limit=1000))
    if as_json:
        print_json(rows)
    else:
        print_rows(
            [{k: v for k, v in row.items() if k not in _AT_LENGTH} for row in rows], as_json=False
        )


@app.command("create")
def create_tag(
    key: str,
    definition: Annotated[str, typer.Option("--definition", help="JSON, @file or -.")],
    kind: Annotated[
        str, typer.Option("--type", help="text, number, boolean, time, list or object.")
    ] = "number",
    category: Annotated[
        str, typer.Option(help="basic, behaviour, value or sentiment.")
    ] = "behaviour",
    name: Annotated[str | None, typer.Option(help="Default: the key.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Define a tag."""
    body: dict[str, Any] = {
        "key": key,
        "name": name or key,
        "category": category,
        "type": kind,
        "definition": read_document(definition, "--definition"),
    }
    with open_client() as client:
        print_record(client.call("POST", "/v1/tags", body=body), as_json=as_json)


@app.command("update")
def update_tag(
    key: str,
    definition: Annotated[str, typer.Option("--definition", help="JSON, @file or -.")],
    kind: Annotated[str | None, typer.Option("--type", help="Default: as it is.")] = None,
    category: Annotated[str | None, typer.Option(help="Default: as it is.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: as it is.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a tag a new version."""
    given = {"type": kind, "category": category, "name": name}
    body: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    body["definition"] = read_document(definition, "--definition")
    with open_client() as client:
        print_record(client.call("PUT", f"/v1/tags/{key}", body=body), as_json=as_json)


@app.command("add-standard")
def add_standard_tags(as_json: JsonFlag = False) -> None:
    """Make the built-in tags with default settings; keys that exist stay as they are."""
    with open_client() as client:
        print_record(client.call("POST", "/v1/tags/standard"), as_json=as_json)


@app.command("history")
def show_history(
    key: str,
    field: Annotated[str | None, typer.Option(help="A dotted path into the value.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show how many people had each value, day by day."""
    with open_client() as client:
        answer = client.call("GET", f"/v1/tags/{key}/history", params={"field": field})
    print_rows(answer["data"], as_json=as_json)


@app.command("values")
def list_values(
    key: str,
    fields: Fields = None,
    form: Form = "table",
    consent: Consent = None,
    channel: Channel = None,
    limit: MostRows = None,
    as_json: JsonFlag = False,
) -> None:
    """Pull everybody's values, all of them unless limited."""
    pull = Pull(fields, consent, channel)
    with open_client() as client:
        print_pull(client, f"/v1/tags/{key}/values", pull, form, limit, as_json=as_json)


@app.command("set")
def set_value(
    key: str,
    value: Annotated[str, typer.Argument(help="As JSON; null takes it away.")],
    people: Annotated[list[str], typer.Argument(metavar="PERSON…", help="email:ann@example.com")],
    as_json: JsonFlag = False,
) -> None:
    """Set a manual tag's value for people; exit 1 when somebody is not known."""
    given = read_document(value, "VALUE")
    values = [{"identifier": read_name(person), "value": given} for person in people]
    with open_client() as client:
        answer = client.call("PUT", f"/v1/tags/{key}/values", body={"values": values})
    print_record(answer, as_json=as_json)
    if answer["rejected"]:
        raise typer.Exit(1)


@app.command("changes")
def list_changes(
    key: str, since: Since = None, limit: MostChanges = None, as_json: JsonFlag = False
) -> None:
    """Show who took which value and why, all of it unless limited; `next` continues from here."""
    columns = ("at", "profile_id", "from", "to", "cause", "reason", "version")
    path = f"/v1/tags/{key}/changes"
    with open_client() as client:
        print_changes(client, path, since, limit, columns=columns, as_json=as_json)


@app.command("show")
def show_tag(key: str, as_json: JsonFlag = False) -> None:
    """Show a tag with its definition and state."""
    with open_client() as client:
        print_record(client.call("GET", f"/v1/tags/{key}"), as_json=as_json)


@app.command("distribution")
def show_distribution(
    key: str,
    field: Annotated[
        str | None, typer.Option(help="A dotted path into the value, such as group.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show how many people have each value, most first."""
    with open_client() as client:
        answer = client.call("GET", f"/v1/tags/{key}/distribution", params={"field": field})
    print_rows(answer["data"], as_json=as_json)


@app.command("delete")
def delete_tag(key: str) -> None:
    """Take a tag from everybody and delete it."""
    with open_client() as client:
        client.call("DELETE", f"/v1/tags/{key}")
