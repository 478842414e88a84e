"""``cdp export``: whole tables out, as files that other programs read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from cdp.cli.client import open_client
from cdp.cli.output import error_console
from cdp.errors import SetupError

_FORMATS = ("ndjson", "csv", "parquet", "arrow")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("export")(_export)


def _export(
    table: Annotated[str, typer.Argument(help="A table of `cdp sql`: profiles, events, orders, …")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; default: standard output.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="ndjson, csv, parquet, arrow; default: by the file's name.")
    ] = None,
) -> None:
    """Write a whole table, as of one moment. Personal values are masked without `pii:read`.

    A file appears when it is whole, and not before.
    """
    chosen = format or (out.suffix.removeprefix(".") if out is not None else "ndjson")
    if chosen not in _FORMATS:
        raise typer.BadParameter(f"one of {', '.join(_FORMATS)}", param_hint="--format")
    with (
        open_client() as client,
        client.download(f"/v1/export/{quote(table, safe='')}", {"format": chosen}) as parts,
    ):
        if out is None:
            for part in parts:
                sys.stdout.buffer.write(part)
            return
        size = _write(out, parts)
    error_console().print(f"{size:,} bytes in {out}", style="dim")


def _write(path: Path, parts: Iterable[bytes]) -> int:
    draft = path.with_name(f".{path.name}.part")
    size = 0
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for part in parts:
                size += file.write(part)
        draft.replace(path)
    except OSError as error:
        raise SetupError(f"{path} cannot be written ({error.strerror})") from error
    finally:
        draft.unlink(missing_ok=True)
    return size
