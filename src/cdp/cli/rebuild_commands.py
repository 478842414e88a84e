"""``cdp rebuild``: work out anew what is derived from kept facts."""

from __future__ import annotations

from dataclasses import asdict

import typer

from cdp.cli.output import JsonFlag, error_console, print_json, print_rows
from cdp.settings import read_settings

app = typer.Typer(help="Work out anew what is derived from kept facts.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep ``rebuild`` a group while it has one command."""


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
