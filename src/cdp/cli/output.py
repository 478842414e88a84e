"""What commands print: tables for people, JSON for machines, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]

# Wide enough for a table in a pipe: cut columns would be worse than long lines.
_PIPE_WIDTH = 200


def console() -> Console:
    """Return the console of stdout; a pipe is not cut to a terminal's width."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def error_console() -> Console:
    """Return the console of stderr, for progress and remarks."""
    return Console(file=sys.stderr)


def print_json(value: Any) -> None:
    """Print ``value`` as JSON, readable, in the characters it holds."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_rows(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, *, as_json: bool
) -> None:
    """Print rows as a table of ``columns`` (default: those of the first rows), or all as JSON."""
    rows = list(rows)
    if as_json:
        print_json(rows)
        return
    names = list(columns or dict.fromkeys(name for row in rows[:50] for name in row))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(as_text(row.get(name)) for name in names))
    if names:
        console().print(table)
    if not rows:
        error_console().print("nothing there", style="dim")


def print_record(record: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one record as two columns, or as JSON."""
    if as_json:
        print_json(record)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in record.items():
        table.add_row(Text(name), as_text(value))
    console().print(table)


def as_text(value: Any) -> Text:
    """Return a value as a cell: plain for scalars, compact JSON for the rest. No markup."""
    if value is None:
        return Text("–", style="dim")
    if isinstance(value, str):
        return Text(value)
    return Text(json.dumps(value, ensure_ascii=False))


def read_document(text: str, what: str) -> Any:
    """Read JSON from the argument itself, from ``@file``, or from stdin for ``-``.

    Raises ``typer.BadParameter`` (exit 2) when it is none.
    """
    try:
        if text == "-":
            return json.load(sys.stdin)
        if text.startswith("@"):
            with open(text[1:], encoding="utf-8") as file:
                return json.load(file)
        return json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{what}: {error.strerror}: {text[1:]}") from error
    except ValueError as error:
        raise typer.BadParameter(f"{what} is not JSON: {error}") from error
