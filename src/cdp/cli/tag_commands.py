"""``cdp tag``: computed or manual values per person."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, print_json, print_record, print_rows, read_document

app = typer.Typer(help="Tags: values computed for every person.", no_args_is_help=True)


@app.command("list")
def list_tags(as_json: JsonFlag = False) -> None:
    """List the tags."""
    with open_client() as client:
        rows = list(client.pages("/v1/tags", limit=1000))
    if as_json:
        print_json(rows)
    else:
        print_rows(
            [{k: v for k, v in row.items() if k != "definition"} for row in rows], as_json=False
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
