"""``cdp archive``: closed days of events as Parquet files."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, print_record
from cdp.errors import SetupError
from cdp.settings import read_settings

app = typer.Typer(help="Closed days of events as Parquet files.", no_args_is_help=True)


@app.command("status")
def show_status(as_json: JsonFlag = False) -> None:
    """Show where the archive lies and what it holds."""
    with open_client() as client:
        print_record(client.call("GET", "/v1/archive"), as_json=as_json)


@app.command("run")
def run_archive(
    through: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Close the days up to this one early."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove what is past its time, archive what is due, drop from Postgres what may go.

    Workers do so once an hour. Exit 1 when a day's files were not what Postgres holds: such a day
    is written anew, and kept in Postgres.
    """
    from cdp.archive.archive_store import ArchiveBusy
    from cdp.archive.keep_time import let_go, read_cutoffs
    from cdp.archive.open_archive import open_archiver
    from cdp.kept_facts import keep_facts
    from cdp.preflight import find_database_url, reach_database, require_schema

    settings = read_settings()
    with reach_database(find_database_url(settings)) as database:
        require_schema(database)
        archiver = open_archiver(settings, database, keep_facts)
        if archiver is None:
            raise SetupError("there is no archive: CDP_ARCHIVE_URL is off")
        try:
            moment = archiver.now()
            cutoffs = read_cutoffs(database, moment)
            removed = let_go(database, archiver.folder, cutoffs, moment)
            ran = archiver.run(through.date() if through else None)
        except ArchiveBusy:
            raise SetupError("somebody is at the archive; try again in a moment") from None
    shown = {
        name: [day.isoformat() for day in value] if isinstance(value, list) else value
        for name, value in asdict(ran).items()
    }
    print_record({**shown, "removed": removed}, as_json=as_json)
    if ran.failed:
        raise typer.Exit(1)
