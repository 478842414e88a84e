"""``cdp source accounting`` and ``cdp source tail``: what became of the events of a source."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from cdp.cli.client import ApiClient, open_client
from cdp.cli.output import JsonFlag, error_console, print_rows
from cdp.errors import SetupError

SourceId = Annotated[str, typer.Argument(metavar="SOURCE_ID")]

_COLUMNS = ("minute", "received", "stored", "duplicate", "rejected", "in_flight", "balanced")


def register(app: typer.Typer) -> None:
    """Add the commands to those of sources."""
    app.command("accounting")(show_accounting)
    app.command("tail")(tail_source)


def show_accounting(
    source_id: SourceId,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="By default a day ago.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show per minute: received = stored + duplicate + rejected + in flight.

    Exit 1 when a minute does not balance.
    """
    path = f"/v1/sources/{source_id}/accounting"
    params: dict[str, Any] = {"from": since, "to": until}
    with open_client() as client:
        rows = list(client.pages(path, **params))
    print_rows(rows, _COLUMNS, as_json=as_json)
    if not all(row["balanced"] for row in rows):
        raise SetupError("a minute does not balance: events were lost, or counted twice")


def tail_source(
    source_id: SourceId,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many outcomes.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print what became of each element that arrives from now on; Ctrl-C ends it.

    With --json: every message, one a line, `received` included.
    """
    try:
        with open_client() as client:
            _tail(client, source_id, limit, as_json=as_json)
    except KeyboardInterrupt:
        return


def _tail(client: ApiClient, source_id: str, limit: int | None, *, as_json: bool) -> None:
    outcomes = 0
    with client.stream(f"/v1/sources/{source_id}/live") as lines:
        if not as_json:
            error_console().print("listening; Ctrl-C ends it", style="dim")
        for message in _read_messages(lines):
            if as_json:
                print(json.dumps(message, ensure_ascii=False), flush=True)
            elif message["state"] not in ("received", "ended"):
                _print_outcome(message)
            outcomes += message["state"] in ("stored", "duplicate", "rejected")
            if limit is not None and outcomes >= limit:
                return
    raise SetupError("the server ended the stream")


def _read_messages(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line[len("data: ") :])


def _print_outcome(message: Mapping[str, Any]) -> None:
    state = message["state"]
    if state == "skipped":
        error_console().print(f"{message['count']} passed over: too many at once", style="dim")
        return
    what = message.get("event") or message.get("name") or message.get("order_id")
    reason = f"{message['code']}: {message.get('message', '')}" if "code" in message else ""
    parts = (
        message.get("received_at", "")[11:23],
        f"{state:9}",
        message.get("type") or message.get("kind") or "",
        what or message.get("account_id") or "",
        message.get("messageId") or "",
        message.get("profile_id") or reason,
    )
    # Plain text: what people send is no markup.
    sys.stdout.write("  ".join(part for part in parts if part) + "\n")
    sys.stdout.flush()
