"""``cdp segment``: define, look into, pull and follow segments."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cdp.cli.client import name_profile, open_client
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

app = typer.Typer(help="Segments: rules and who is in them.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(metavar="KEY")]
RuleOption = Annotated[str, typer.Option("--rule", help="The rule as JSON, @file or -.")]


@app.command("list")
def list_segments(as_json: JsonFlag = False) -> None:
    """List the segments."""
    with open_client() as client:
        rows = list(client.pages("/v1/segments", limit=1000))
    if as_json:
        print_json(rows)
    else:
        print_rows([{k: v for k, v in row.items() if k != "rule"} for row in rows], as_json=False)


@app.command("create")
def create_segment(
    key: Key,
    rule: RuleOption,
    name: Annotated[str | None, typer.Option(help="Default: the key.")] = None,
    description: Annotated[str, typer.Option()] = "",
    consent: Annotated[
        str | None, typer.Option(help="Purpose that members must consent to.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Define a segment."""
    body: dict[str, Any] = {
        "key": key,
        "name": name or key,
        "rule": read_document(rule, "--rule"),
        "description": description,
    }
    if consent is not None:
        body["consent"] = consent
    with open_client() as client:
        print_record(client.call("POST", "/v1/segments", body=body), as_json=as_json)


@app.command("update")
def update_segment(
    key: Key,
    rule: RuleOption,
    name: Annotated[str | None, typer.Option(help="Default: as it is.")] = None,
    description: Annotated[str | None, typer.Option(help="Default: as it is.")] = None,
    consent: Annotated[str | None, typer.Option(help="Default: as it is.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a segment a new version."""
    given = {"name": name, "description": description, "consent": consent}
    body = {key: value for key, value in given.items() if value is not None}
    body["rule"] = read_document(rule, "--rule")
    with open_client() as client:
        print_record(client.call("PUT", f"/v1/segments/{key}", body=body), as_json=as_json)


@app.command("show")
def show_segment(
    key: Key,
    at: Annotated[str | None, typer.Option(help="As it was at a time.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a segment with its rule."""
    with open_client() as client:
        print_record(client.call("GET", f"/v1/segments/{key}", params={"at": at}), as_json=as_json)


@app.command("history")
def show_history(
    key: Key,
    interval: Annotated[str, typer.Option(help="hour or day.")] = "day",
    as_json: JsonFlag = False,
) -> None:
    """Show how many entered and left, and the size, by time and version."""
    with open_client() as client:
        answer = client.call("GET", f"/v1/segments/{key}/history", params={"interval": interval})
    print_rows(answer["data"], as_json=as_json)


@app.command("overlap")
def compare_segments(
    keys: Annotated[list[str], typer.Argument(metavar="KEY…")], as_json: JsonFlag = False
) -> None:
    """Count who is in exactly which combination of segments."""
    with open_client() as client:
        answer = client.call("POST", "/v1/segments/overlap", body={"segments": keys})
    print_rows(answer["data"], as_json=as_json)


@app.command("preview")
def preview_segment(rule: RuleOption, as_json: JsonFlag = False) -> None:
    """Count who a rule would hold for, without defining anything."""
    with open_client() as client:
        body = {"rule": read_document(rule, "--rule")}
        print_record(client.call("POST", "/v1/segments/preview", body=body), as_json=as_json)


@app.command("check")
def check_segments(as_json: JsonFlag = False) -> None:
    """Compare segments and tags with a full evaluation; exit 1 when anything differs."""
    with open_client() as client:
        found = client.call("POST", "/v1/segments/check")
    if as_json:
        print_json(found)
    else:
        print_rows(found["data"], as_json=False)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command("members")
def list_members(
    key: Key,
    fields: Fields = None,
    form: Form = "table",
    consent: Consent = None,
    channel: Channel = None,
    limit: MostRows = None,
    as_json: JsonFlag = False,
) -> None:
    """Pull the members, all of them unless limited."""
    pull = Pull(fields, consent, channel)
    with open_client() as client:
        print_pull(client, f"/v1/segments/{key}/members", pull, form, limit, as_json=as_json)


@app.command("changes")
def list_changes(
    key: Key, since: Since = None, limit: MostChanges = None, as_json: JsonFlag = False
) -> None:
    """Show who entered and left, all of it unless limited; `next` continues where this ends."""
    with open_client() as client:
        print_changes(client, f"/v1/segments/{key}/changes", since, limit, as_json=as_json)


@app.command("why")
def explain_membership(key: Key, person: str, as_json: JsonFlag = False) -> None:
    """Show why somebody is in a segment, or not."""
    path = f"/v1/segments/{key}/members/{name_profile(person)}"
    with open_client() as client:
        answer = client.call("GET", path)
    print_record(answer, as_json=as_json)


@app.command("delete")
def delete_segment(key: Key) -> None:
    """Delete a segment that nothing uses."""
    with open_client() as client:
        client.call("DELETE", f"/v1/segments/{key}")
