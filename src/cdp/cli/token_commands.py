"""``cdp token``: who may ask what."""

from __future__ import annotations

from typing import Annotated

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, print_record, print_rows

app = typer.Typer(help="API tokens and their scopes.", no_args_is_help=True)


@app.command("list")
def list_tokens(as_json: JsonFlag = False) -> None:
    """List the tokens in use; their text is never shown again."""
    with open_client() as client:
        print_rows(client.pages("/v1/tokens", limit=1000), as_json=as_json)


@app.command("create")
def create_token(
    name: str,
    scope: Annotated[
        list[str], typer.Option("--scope", "-s", help="Such as segments:read; repeat for more.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Make a token; its text is shown now and never again."""
    scopes = [part for given in scope for part in given.replace(",", " ").split()]
    with open_client() as client:
        body = {"name": name, "scopes": scopes}
        print_record(client.call("POST", "/v1/tokens", body=body), as_json=as_json)


@app.command("revoke")
def revoke_token(token_id: str) -> None:
    """Make a token useless at once."""
    with open_client() as client:
        client.call("DELETE", f"/v1/tokens/{token_id}")
