"""``cdp source``: where events come from, and the write keys they come with."""

from __future__ import annotations

from typing import Annotated

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, print_record, print_rows, read_document
from cdp.model import SOURCE_TYPES

app = typer.Typer(help="Sources and their write keys.", no_args_is_help=True)
keys = typer.Typer(help="Write keys of a source: rotate with overlap.", no_args_is_help=True)
app.add_typer(keys, name="keys")

_COLUMNS = ("id", "name", "type", "write_key", "disabled", "settings", "created_at")

SourceId = Annotated[str, typer.Argument(metavar="SOURCE_ID")]


@app.command("list")
def list_sources(as_json: JsonFlag = False) -> None:
    """List the sources, oldest first."""
    with open_client() as client:
        rows = client.pages("/v1/sources", limit=1000)
        print_rows(rows, None if as_json else _COLUMNS, as_json=as_json)


@app.command("create")
def create_source(
    name: str,
    kind: Annotated[str, typer.Option("--type", help=", ".join(SOURCE_TYPES))] = "server",
    settings: Annotated[str, typer.Option(help="JSON, @file or -.")] = "{}",
    as_json: JsonFlag = False,
) -> None:
    """Make a source; prints its write key."""
    if kind not in SOURCE_TYPES:
        raise typer.BadParameter(f"one of {', '.join(SOURCE_TYPES)}", param_hint="--type")
    body = {"name": name, "type": kind, "settings": read_document(settings, "--settings")}
    with open_client() as client:
        print_record(client.call("POST", "/v1/sources", body=body), as_json=as_json)


@app.command("update")
def update_source(
    source_id: SourceId,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    settings: Annotated[str | None, typer.Option(help="JSON, @file or -.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Change a source's name or settings."""
    body: dict[str, object] = {}
    if name is not None:
        body["name"] = name
    if settings is not None:
        body["settings"] = read_document(settings, "--settings")
    if not body:
        raise typer.BadParameter("nothing to change: give --name or --settings")
    with open_client() as client:
        print_record(client.call("PATCH", f"/v1/sources/{source_id}", body=body), as_json=as_json)


@app.command("show")
def show_source(source_id: SourceId, as_json: JsonFlag = False) -> None:
    """Show a source: its settings, what holds for it, its keys."""
    with open_client() as client:
        print_record(client.call("GET", f"/v1/sources/{source_id}"), as_json=as_json)


@app.command("disable")
def disable_source(source_id: SourceId, as_json: JsonFlag = False) -> None:
    """Refuse all keys and hooks of a source until it is enabled again."""
    with open_client() as client:
        source = client.call("PATCH", f"/v1/sources/{source_id}", body={"disabled": True})
    if as_json:
        print_record(source, as_json=True)


@app.command("enable")
def enable_source(source_id: SourceId, as_json: JsonFlag = False) -> None:
    """Take the events of a source again."""
    with open_client() as client:
        source = client.call("PATCH", f"/v1/sources/{source_id}", body={"disabled": False})
    if as_json:
        print_record(source, as_json=True)


@keys.command("list")
def list_keys(source_id: SourceId, as_json: JsonFlag = False) -> None:
    """List the write keys of a source, oldest first, with their last use."""
    with open_client() as client:
        print_rows(client.call("GET", f"/v1/sources/{source_id}/keys")["data"], as_json=as_json)


@keys.command("create")
def create_key(source_id: SourceId, as_json: JsonFlag = False) -> None:
    """Make a second write key, so that callers can change over before the old one goes."""
    with open_client() as client:
        print_record(client.call("POST", f"/v1/sources/{source_id}/keys"), as_json=as_json)


@keys.command("rotate")
def rotate_key(
    source_id: SourceId,
    overlap: Annotated[str, typer.Option(help="How long the old keys go on: 12h, 7d, 2w.")] = "7d",
    as_json: JsonFlag = False,
) -> None:
    """Make a new write key and let the old ones end when callers have changed over."""
    path = f"/v1/sources/{source_id}/keys"
    with open_client() as client:
        print_record(client.call("POST", path, body={"overlap": overlap}), as_json=as_json)


@keys.command("disable")
def disable_key(source_id: SourceId, key_id: str, as_json: JsonFlag = False) -> None:
    """Refuse a write key until it is enabled again."""
    with open_client() as client:
        key = client.call(
            "PATCH", f"/v1/sources/{source_id}/keys/{key_id}", body={"disabled": True}
        )
    if as_json:
        print_record(key, as_json=True)


@keys.command("enable")
def enable_key(source_id: SourceId, key_id: str, as_json: JsonFlag = False) -> None:
    """Take a disabled write key again."""
    with open_client() as client:
        key = client.call(
            "PATCH", f"/v1/sources/{source_id}/keys/{key_id}", body={"disabled": False}
        )
    if as_json:
        print_record(key, as_json=True)


@keys.command("delete")
def delete_key(source_id: SourceId, key_id: str) -> None:
    """Delete a write key; it fails at once."""
    with open_client() as client:
        client.call("DELETE", f"/v1/sources/{source_id}/keys/{key_id}")
