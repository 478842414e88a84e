"""``cdp privacy``: delete, export and silence people; the receipts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cdp.cli.client import ApiClient, name_profile, open_client, raise_for_refusal
from cdp.cli.output import JsonFlag, error_console, print_json, print_record, print_rows

app = typer.Typer(
    help="Delete, export and silence people; read the receipts.", no_args_is_help=True
)

Names = Annotated[
    list[str],
    typer.Argument(metavar="TYPE:VALUE...", help="Such as email:ann@example.com, or @file."),
]
Reason = Annotated[str, typer.Option("--reason", help="Kept with the request.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is done.")]
JobId = Annotated[str, typer.Argument(metavar="ID")]
_LOOK_SECONDS = 0.5
_LONGEST_WAIT = 600.0


def _read_names(texts: list[str]) -> list[dict[str, str]]:
    """Read names; ``@file`` holds one a line."""
    lines: list[str] = []
    for text in texts:
        if text.startswith("@"):
            try:
                lines += Path(text[1:]).read_text(encoding="utf-8").splitlines()
            except OSError as error:
                raise typer.BadParameter(f"{text[1:]}: {error.strerror}") from error
        else:
            lines.append(text)
    names = []
    for line in filter(None, map(str.strip, lines)):
        name_profile(line)
        kind, _, value = line.partition(":")
        names.append({"type": kind, "value": value} if value else {"type": "id", "value": kind})
    return names


def _ask(kind: str, names: list[str], reason: str, *, wait: bool, as_json: bool) -> dict[str, Any]:
    with open_client() as client:
        body = {"identifiers": _read_names(names), "reason": reason}
        job: dict[str, Any] = client.call("POST", f"/v1/privacy/{kind}", body=body)
        if wait:
            job = _wait_for(client, job["id"])
    _print_job(job, as_json=as_json)
    return job


def _wait_for(client: ApiClient, job_id: str) -> dict[str, Any]:
    end = time.monotonic() + _LONGEST_WAIT
    told = None
    while True:
        job: dict[str, Any] = client.call("GET", f"/v1/privacy/{job_id}")
        if job["status"] == "done" or time.monotonic() > end:
            return job
        if job["waiting_for"] and job["waiting_for"] != told:
            told = job["waiting_for"]
            error_console().print(f"waits for {told}", style="dim")
        time.sleep(_LOOK_SECONDS)


def _print_job(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    removed = job.pop("removed", None)
    print_record(job, as_json=False)
    if removed:
        print_rows(removed, ["store", "count", "at"], as_json=False)


@app.command("delete")
def delete(names: Names, reason: Reason = "", wait: Wait = True, as_json: JsonFlag = False) -> None:
    """Delete people by any identifier, wherever they are held."""
    _ask("delete", names, reason, wait=wait, as_json=as_json)


@app.command("suppress")
def suppress(
    names: Names, reason: Reason = "", wait: Wait = True, as_json: JsonFlag = False
) -> None:
    """Take nothing more from people, until it is withdrawn."""
    _ask("suppress", names, reason, wait=wait, as_json=as_json)


@app.command("unsuppress")
def unsuppress(
    names: Names, reason: Reason = "", wait: Wait = True, as_json: JsonFlag = False
) -> None:
    """Take again what people send."""
    _ask("unsuppress", names, reason, wait=wait, as_json=as_json)


@app.command("export")
def export(
    names: Names,
    reason: Reason = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to put the archive.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Put everything that is held of people into one archive, and download it."""
    job = _ask("export", names, reason, wait=True, as_json=as_json)
    if job["status"] != "done":
        raise typer.Exit(1)
    if output is not None:
        with open_client() as client:
            answer = client.send("GET", f"/v1/privacy/{job['id']}/archive")
            raise_for_refusal(answer)
            output.write_bytes(answer.content)
        error_console().print(f"wrote {output}", style="dim")


@app.command("show")
def show(job: JobId, as_json: JsonFlag = False) -> None:
    """Show the receipt of a request."""
    with open_client() as client:
        _print_job(client.call("GET", f"/v1/privacy/{job}"), as_json=as_json)


@app.command("list")
def list_jobs(as_json: JsonFlag = False) -> None:
    """List requests, newest first."""
    with open_client() as client:
        rows = list(client.pages("/v1/privacy"))
    columns = ["id", "kind", "status", "identifiers", "actor", "requested_at", "finished_at"]
    print_rows(rows, columns, as_json=as_json)
