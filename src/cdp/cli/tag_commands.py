"""``cdp tag``: computed or manual values per person."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer

from cdp.cli.client import open_client, read_name
from cdp.cli.output import (
    JsonFlag,
    error_console,
    print_json,
    print_record,
    print_rows,
    read_document,
    require_format,
)
from cdp.cli.segment_commands import read_changes

app = typer.Typer(help="Tags: values computed for every person.", no_args_is_help=True)

_PAGE = 1000
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
    fields: Annotated[str | None, typer.Option(help="Such as email,traits.city.")] = None,
    form: Annotated[str, typer.Option("--format", help="table, ndjson, csv or parquet.")] = "table",
    consent: Annotated[str | None, typer.Option(help="Only who consents to this.")] = None,
    channel: Annotated[str | None, typer.Option(help="… by this channel: email, sms…")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many (tables).")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Pull everybody's values, all of them unless limited."""
    require_format(form)
    path = f"/v1/tags/{key}/values"
    params = {"fields": fields, "consent": consent, "channel": channel}
    with open_client() as client:
        if form in ("ndjson", "csv", "parquet"):
            client.write_out(path, {**params, "format": form})
            return
        rows = islice(client.pages(path, limit=min(limit or _PAGE, _PAGE), **params), limit)
        print_rows(rows, as_json=as_json or form == "json")


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
    key: str,
    since: Annotated[str | None, typer.Option(help="The `next` of the last answer.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show who took which value and why, all of it unless limited; `next` continues from here."""
    with open_client() as client:
        answer = read_changes(client, f"/v1/tags/{key}/changes", since, limit)
    if as_json:
        print_json(answer)
        return
    columns = ("at", "profile_id", "from", "to", "cause", "reason", "version")
    print_rows(answer["data"], columns, as_json=False)
    error_console().print(f"continue with --since {answer['next']}", style="dim")


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
