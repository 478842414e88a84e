"""``cdp rates``: how much one currency is of another, from a date on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from cdp.cli.client import open_client
from cdp.cli.output import JsonFlag, print_record, print_rows

app = typer.Typer(help="Rates of currencies, for money in one of them.", no_args_is_help=True)

_COLUMNS = ("currency", "to", "at", "rate")
_ROWS = 10_000


@app.command("list")
def list_rates(
    currency: Annotated[str | None, typer.Option(help="Only from this currency.")] = None,
    to: Annotated[str | None, typer.Option(help="Only into this currency.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where `next` says.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List rates, newest first."""
    with open_client() as client:
        page = client.call(
            "GET",
            "/v1/rates",
            params={"currency": currency, "to": to, "limit": limit, "cursor": cursor},
        )
    if as_json:
        print_record(page, as_json=True)
        return
    print_rows(page["data"], _COLUMNS, as_json=False)


@app.command("load")
def load(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    as_json: JsonFlag = False,
) -> None:
    """Add or replace rates from a CSV file with the columns currency, to, at and rate."""
    _put(_read_csv(file), as_json=as_json)


@app.command("set")
def set_rate(
    currency: str,
    to: str,
    at: Annotated[str, typer.Argument(metavar="DATE", help="Such as 2026-03-01.")],
    rate: Annotated[str, typer.Argument(metavar="RATE", help="Such as 7.12.")],
    as_json: JsonFlag = False,
) -> None:
    """Set one rate: a unit of CURRENCY is RATE of TO, from DATE on."""
    _put([{"currency": currency, "to": to, "at": at, "rate": rate}], as_json=as_json)


def _put(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    told = {"rates": 0, "changed": 0}
    with open_client() as client:
        for start in range(0, len(rows), _ROWS):
            body = {"rates": rows[start : start + _ROWS]}
            answer = client.call("PUT", "/v1/rates", body=body)
            told = {name: told[name] + answer[name] for name in told}
    print_record(told, as_json=as_json)


def _read_csv(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise typer.BadParameter(f"{file.name} has no column {missing[0]}")
        # An empty rate removes the row.
        return [{name: (row[name] or "").strip() or None for name in _COLUMNS} for row in reader]
