"""``cdp backup`` and ``cdp restore``: everything that cannot be worked out again, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdp.cli.output import JsonFlag, print_record
from cdp.settings import read_settings


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("backup")(_backup)
    app.command("restore")(_restore)


def _backup(
    file: Annotated[Path, typer.Argument(help="The file to write, such as cdp-2026-03-01.tar.")],
    as_json: JsonFlag = False,
) -> None:
    """Write everything that cannot be worked out again into one file, while all goes on."""
    from cdp.backup import write_backup
    from cdp.preflight import find_database_url, reach_database, require_schema

    settings = read_settings()
    url = find_database_url(settings)
    with reach_database(url) as database:
        require_schema(database)
        libpq = database.libpq_url
    print_record(write_backup(settings, libpq, file.absolute()), as_json=as_json)


def _restore(
    file: Annotated[Path, typer.Argument(help="What `cdp backup` wrote.")],
    replace: Annotated[bool, typer.Option(help="Give up what is there already.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a backup in place; stop `cdp up` before, start it after.

    People who were deleted after the backup was made come back with it: delete them again.
    """
    from cdp.backup import restore_backup

    found = restore_backup(read_settings(), file.absolute(), replace=replace)
    print_record(found, as_json=as_json)
