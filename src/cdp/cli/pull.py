"""Pulling what segments and tags hold: everybody in a format, and changes since the last time."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, NamedTuple

import typer

from cdp.cli.client import ApiClient
from cdp.cli.output import error_console, print_json, print_rows

Fields = Annotated[str | None, typer.Option(help="Such as email,traits.city.")]
Form = Annotated[str, typer.Option("--format", help="table, ndjson, csv or parquet.")]
Consent = Annotated[str | None, typer.Option(help="Only who consents to this.")]
Channel = Annotated[str | None, typer.Option(help="… by this channel: email, sms…")]
MostRows = Annotated[int | None, typer.Option(min=1, help="Stop after so many (tables).")]
Since = Annotated[str | None, typer.Option(help="The `next` of the last answer.")]
MostChanges = Annotated[int | None, typer.Option(min=1, help="Stop after so many.")]

_PAGE = 1000
_FILES = ("ndjson", "csv", "parquet")
_FORMATS = ("table", "json", *_FILES)


class Pull(NamedTuple):
    """What is asked of a pull."""

    fields: str | None
    consent: str | None
    channel: str | None


def print_pull(
    client: ApiClient, path: str, pull: Pull, form: str, limit: int | None, *, as_json: bool
) -> None:
    """Write the rows at ``path``, all of them unless limited; files as they come.

    Raises ``typer.BadParameter`` (exit 2) for what is no format.
    """
    if form not in _FORMATS:
        raise typer.BadParameter(f"one of {', '.join(_FORMATS)}", param_hint="--format")
    params = pull._asdict()
    if form in _FILES:
        client.write_out(path, {**params, "format": form})
        return
    rows = islice(client.pages(path, limit=min(limit or _PAGE, _PAGE), **params), limit)
    print_rows(rows, as_json=as_json or form == "json")


def print_changes(
    client: ApiClient,
    path: str,
    since: str | None,
    limit: int | None,
    *,
    columns: tuple[str, ...] | None = None,
    as_json: bool,
) -> None:
    """Write the changes at ``path``, and how to ask for what comes after them."""
    answer = read_changes(client, path, since, limit)
    if as_json:
        print_json(answer)
        return
    print_rows(answer["data"], columns, as_json=False)
    error_console().print(f"continue with --since {answer['next']}", style="dim")


def read_changes(
    client: ApiClient, path: str, since: str | None, limit: int | None
) -> dict[str, Any]:
    """Return the changes at ``path`` after ``since``, up to ``limit``, in the shape of one page."""
    rows: list[dict[str, Any]] = []
    while True:
        size = min(_PAGE, limit - len(rows)) if limit is not None else _PAGE
        params = {"since": since, "limit": size}
        page: dict[str, Any] = client.call("GET", path, params=params)
        rows += page["data"]
        since = page["next"]
        # `next` is given at the end too; what ends is a page that is not full.
        if len(page["data"]) < size or len(rows) == limit:
            return {**page, "data": rows}
