"""``cdp audit``: who changed what, and who read whose personal values."""

from __future__ import annotations

from typing import Annotated

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, print_record, print_rows

app = typer.Typer(help="Who changed what, and who read whom.", no_args_is_help=True)


@app.command("list")
def list_entries(
    actor: Annotated[str | None, typer.Option(help="Such as token:tok_….")] = None,
    action: Annotated[str | None, typer.Option(help="Such as personal_read.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="TYPE:VALUE")] = None,
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List entries, newest first."""
    params = {
        "actor": actor,
        "action": action,
        "profile": profile,
        "from": since,
        "to": until,
        "limit": limit,
    }
    with open_client() as client:
        page = client.call("GET", "/v1/audit", params=params)
    if as_json:
        print_record(page, as_json=True)
        return
    print_rows(page["data"], ["at", "actor", "action", "subject", "details"], as_json=False)
