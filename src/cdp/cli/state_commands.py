"""Commands that ask the whole system: ``status`` and ``sql``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cdp.cli.client import open_client, raise_for_refusal
from cdp.cli.output import JsonFlag, error_console, print_json, print_record, print_rows


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("status")(_status)
    app.command("sql")(_sql)


def _status(as_json: JsonFlag = False) -> None:
    """Show version, roles, lag per stage, sizes and last errors of the server."""
    with open_client() as client:
        print_record(client.call("GET", "/v1/status"), as_json=as_json)


def _sql(
    statement: Annotated[str, typer.Argument(help="One SELECT; `-` reads it from stdin.")],
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 1000,
    form: Annotated[
        str, typer.Option("--format", help="table, json, csv, parquet or arrow.")
    ] = "table",
    as_json: JsonFlag = False,
) -> None:
    """Ask SQL over profiles, identifiers, traits, events, tags, segments and memberships."""
    if form not in ("table", "json", "csv", "parquet", "arrow"):
        raise typer.BadParameter("table, json, csv, parquet or arrow", param_hint="--format")
    if statement == "-":
        statement = sys.stdin.read()
    body: dict[str, Any] = {"sql": statement, "limit": limit}
    with open_client() as client:
        if form in ("csv", "parquet", "arrow"):
            response = client.send("POST", "/v1/query", body={**body, "format": form})
            raise_for_refusal(response)
            sys.stdout.buffer.write(response.content)
            return
        answer = client.call("POST", "/v1/query", body=body)
    if as_json or form == "json":
        print_json(answer)
        return
    print_rows(answer["data"], [column["name"] for column in answer["columns"]], as_json=False)
    more = ", more rows exist: raise --limit" if answer.get("truncated") else ""
    error_console().print(
        f"{len(answer['data'])} rows as of {answer.get('as_of')}{more}", style="dim"
    )
