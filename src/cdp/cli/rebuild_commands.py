"""``cdp rebuild``: work out anew what is derived from kept facts."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cdp.cli.client import ApiClient, open_client
from cdp.cli.output import JsonFlag, error_console, print_json, print_record, print_rows
from cdp.cli.progress import show_progress
from cdp.errors import SetupError
from cdp.settings import read_settings

_PATH = "/v1/analytics/rebuild"
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 120.0
"""For a server that is away, as one that restarts is."""

app = typer.Typer(help="Work out anew what is derived from kept facts.", no_args_is_help=True)


@app.command("profiles")
def rebuild_profiles(as_json: JsonFlag = False) -> None:
    """Work out who is who from the facts alone, beside what is stored, and put it in its place.

    Workers may go on meanwhile. Exit 1 when the two still differ afterwards.
    """
    from cdp.identity.repair_store import rebuild_profiles as rebuild
    from cdp.preflight import find_database_url, reach_database, require_schema
    from cdp.runtime.clock import now

    settings = read_settings()
    with reach_database(find_database_url(settings)) as database:
        require_schema(database)
        done = rebuild(database, settings.default_country, now())
    if as_json:
        print_json(asdict(done))
    else:
        print_rows([asdict(finding) for finding in done.after], as_json=False)
        error_console().print(f"{done.replaced} identifiers replaced", style="dim")
    if not done.is_equal:
        raise typer.Exit(1)


@app.command("analytics")
def rebuild_analytics(
    wait: Annotated[bool, typer.Option(help="Until it is done.")] = True, as_json: JsonFlag = False
) -> None:
    """Let the running server drop what DuckDB holds and feed it again from Postgres.

    Meanwhile segments, tags and SQL answer 503. Ended half way, it goes on with the next start.
    """
    with open_client() as client:
        found = client.call("POST", _PATH)
        if wait:
            found = _follow(client, found)
    print_record({k: v for k, v in found.items() if k != "runs"} if not as_json else found,
                 as_json=as_json)  # fmt: skip


def _follow(client: ApiClient, found: dict[str, Any]) -> dict[str, Any]:
    given_up_at = time.monotonic() + _PATIENCE_SECONDS
    with show_progress("rebuilding") as show:
        while found["state"] != "done":
            show(found["share"], found["state"])
            time.sleep(_POLL_SECONDS)
            try:
                found = client.call("GET", _PATH)
                given_up_at = time.monotonic() + _PATIENCE_SECONDS
            except SetupError:
                if time.monotonic() > given_up_at:
                    raise
        show(1.0, "done")
    return found
