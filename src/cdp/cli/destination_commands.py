"""``cdp destination``: where changes of segments and tags are sent."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, print_record, print_rows, read_document

app = typer.Typer(
    help="Destinations: webhooks, topics and files that follow segments and tags.",
    no_args_is_help=True,
)

Id = Annotated[str, typer.Argument(metavar="ID")]
Segments = Annotated[list[str] | None, typer.Option("--segment", help="Repeat for more.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Repeat for more.")]
Fields = Annotated[
    list[str] | None, typer.Option("--field", help="email, traits.city, tags.rfm.group, …")
]
Purposes = Annotated[
    list[str] | None, typer.Option("--consent", help="Only who granted this purpose.")
]


@app.command("list")
def list_destinations(as_json: JsonFlag = False) -> None:
    """List the destinations, and which are paused."""
    with open_client() as client:
        rows = list(client.pages("/v1/destinations", limit=1000))
    print_rows(rows, as_json=as_json)


@app.command("create")
def create_destination(
    type: Annotated[str, typer.Argument(metavar="webhook|kafka|file")],
    settings: Annotated[str, typer.Option("--settings", help="As JSON, @file or -.")],
    name: Annotated[str | None, typer.Option()] = None,
    segments: Segments = None,
    tags: Tags = None,
    fields: Fields = None,
    consent: Purposes = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a destination. The secret that webhooks are signed with is shown once."""
    body: dict[str, Any] = {
        "type": type,
        "settings": read_document(settings, "--settings"),
        "segments": segments or [],
        "tags": tags or [],
        "fields": fields or [],
        "consent": consent or [],
    }
    if name is not None:
        body["name"] = name
    with open_client() as client:
        print_record(client.call("POST", "/v1/destinations", body=body), as_json=as_json)


@app.command("show")
def show_destination(destination_id: Id, as_json: JsonFlag = False) -> None:
    """Show a destination and how it goes."""
    with open_client() as client:
        print_record(client.call("GET", f"/v1/destinations/{destination_id}"), as_json=as_json)


@app.command("update")
def update_destination(
    destination_id: Id,
    settings: Annotated[
        str | None, typer.Option("--settings", help="As JSON, @file or -; null removes a key.")
    ] = None,
    name: Annotated[str | None, typer.Option()] = None,
    segments: Segments = None,
    tags: Tags = None,
    fields: Fields = None,
    consent: Purposes = None,
    as_json: JsonFlag = False,
) -> None:
    """Change what is given of a destination; what differs then is sent."""
    given: dict[str, Any] = {
        "name": name, "segments": segments, "tags": tags, "fields": fields, "consent": consent,
        "settings": None if settings is None else read_document(settings, "--settings"),
    }  # fmt: skip
    body = {key: value for key, value in given.items() if value}
    _change(destination_id, body, as_json=as_json)


@app.command("pause")
def pause_destination(destination_id: Id, as_json: JsonFlag = False) -> None:
    """Send nothing until it is resumed; what changes meanwhile is told then."""
    _change(destination_id, {"paused": True}, as_json=as_json)


@app.command("resume")
def resume_destination(destination_id: Id, as_json: JsonFlag = False) -> None:
    """Go on sending."""
    _change(destination_id, {"paused": False}, as_json=as_json)


@app.command("delete")
def delete_destination(destination_id: Id) -> None:
    """Forget a destination; the receiver keeps what it has."""
    with open_client() as client:
        client.call("DELETE", f"/v1/destinations/{destination_id}")


@app.command("test")
def try_destination(destination_id: Id, as_json: JsonFlag = False) -> None:
    """Send one made-up row and say what came of it; exit 1 when it did not arrive."""
    with open_client() as client:
        found = client.call("POST", f"/v1/destinations/{destination_id}/test")
    print_record(found, as_json=as_json)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command("dry-run")
def dry_run(destination_id: Id, as_json: JsonFlag = False) -> None:
    """Say what would be sent now; nothing is sent."""
    with open_client() as client:
        found = client.call("POST", f"/v1/destinations/{destination_id}/dry-run")
    print_rows(found["data"], as_json=as_json)


@app.command("deliveries")
def list_deliveries(
    destination_id: Id,
    status: Annotated[str | None, typer.Option(help="queued, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List what was sent and what waits, newest first."""
    params: dict[str, Any] = {"limit": limit} | ({"status": status} if status else {})
    with open_client() as client:
        found = client.call("GET", f"/v1/destinations/{destination_id}/deliveries", params=params)
    print_rows(found["data"], as_json=as_json)


@app.command("retry")
def retry_deliveries(
    destination_id: Id,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Default: all that did not arrive.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Send deliveries again under the same ids; a paused destination goes on."""
    body = {"ids": ids} if ids else {}
    with open_client() as client:
        path = f"/v1/destinations/{destination_id}/deliveries/retry"
        print_record(client.call("POST", path, body=body), as_json=as_json)


def _change(destination_id: str, body: dict[str, Any], *, as_json: bool) -> None:
    with open_client() as client:
        path = f"/v1/destinations/{destination_id}"
        print_record(client.call("PATCH", path, body=body), as_json=as_json)
