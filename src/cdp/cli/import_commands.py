"""``cdp import``: upload a file of events, profiles, orders or accounts, and follow its import."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cdp.cli.client import ApiClient, ApiRefused, open_client
from cdp.cli.output import JsonFlag, error_console, print_json, print_record, print_rows
from cdp.errors import SetupError

_KINDS = ("events", "profiles", "orders", "accounts")
_PRESETS = ("pos-receipts", "crm-contacts", "erp-customers", "service-tickets")
_BLOCK = 1024 * 1024
_SAMPLE_BYTES = 4 * 1024 * 1024
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 120.0
_PARQUET = b"PAR1"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("import")(import_file)


def import_file(
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet; also gzip or zstd.")],
    kind: Annotated[str | None, typer.Option(help=", ".join(_KINDS))] = None,
    mapping: Annotated[
        str | None, typer.Option(help="JSON, or a file that holds it. Default: wire format.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help=", ".join(_PRESETS))] = None,
    source: Annotated[str | None, typer.Option(help="Source id. Default: 'Imports'.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the first rows mapped, and the first mistakes.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Import a finished file again; nothing doubles.")
    ] = False,
    encoding: Annotated[str | None, typer.Option(help="utf-8, gb18030, utf-16.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="One character.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Import a file. Interrupted and called again, it goes on where it was; nothing doubles."""
    fields = _make_fields(kind, mapping, preset, source, encoding, delimiter)
    if not file.is_file():
        raise typer.BadParameter(f"{file} is no file", param_hint="FILE")
    with open_client() as client:
        if dry_run:
            _print_preview(_ask_preview(client, file, fields), as_json=as_json)
            return
        started = _start(client, file, fields | ({"again": "true"} if again else {}))
        if started["existing"] and started["status"] == "done":
            error_console().print(
                f"{file.name} was imported before ({started['id']}); nothing was imported again."
                " --again sends it once more",
                style="dim",
            )
        ended = _follow(client, started)
    _report(ended, as_json=as_json)


def _make_fields(
    kind: str | None,
    mapping: str | None,
    preset: str | None,
    source: str | None,
    encoding: str | None,
    delimiter: str | None,
) -> dict[str, str]:
    if kind is None and preset is None:
        raise typer.BadParameter(f"say what the rows are: {', '.join(_KINDS)}", param_hint="--kind")
    if kind is not None and kind not in _KINDS:
        raise typer.BadParameter(f"one of {', '.join(_KINDS)}", param_hint="--kind")
    if preset is not None and preset not in _PRESETS:
        raise typer.BadParameter(f"one of {', '.join(_PRESETS)}", param_hint="--preset")
    document = _read_mapping(mapping)
    given = {"preset": preset, "encoding": encoding, "delimiter": delimiter}
    document |= {name: value for name, value in given.items() if value is not None}
    fields = {"mapping": json.dumps(document, ensure_ascii=False)}
    if kind is not None:
        fields["kind"] = kind
    if source is not None:
        fields["source"] = source
    return fields


def _read_mapping(text: str | None) -> dict[str, Any]:
    """Return the mapping from JSON or from a file, also named ``@file``; exit 2 for neither."""
    if text is None:
        return {}
    try:
        if not text.lstrip().startswith("{"):
            text = Path(text.removeprefix("@")).read_text(encoding="utf-8-sig")
        document = json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{error.strerror}: {text}", param_hint="--mapping") from error
    except ValueError as error:
        raise typer.BadParameter(f"this is not JSON: {error}", param_hint="--mapping") from error
    if not isinstance(document, dict):
        raise typer.BadParameter("a mapping is a JSON object", param_hint="--mapping")
    return document


# ── Uploading ───────────────────────────────────────────────────────────────────────────────────


class _FileChanged(SetupError):
    pass


def _start(client: ApiClient, file: Path, fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the import of the file: an earlier one, or a new one after the upload."""
    with _show_bytes() as progress, file.open("rb") as opened:
        before = os.fstat(opened.fileno())
        digest = _digest(_Watched(opened, progress, "reading", before.st_size))
        _expect_unchanged(file, before)
        known = {**fields, "digest": digest}
        try:
            return client.post_form("/v1/imports", known)
        except ApiRefused as refused:
            if refused.body.get("code") != "upload_needed":
                raise
        opened.seek(0)
        watched = _Watched(opened, progress, "uploading", before.st_size)
        started = client.post_form("/v1/imports", known, (file.name, watched), before.st_size)
        try:
            _expect_unchanged(file, before)
        except _FileChanged:
            client.call("POST", f"/v1/imports/{started['id']}/cancel")
            raise
        return started


def _expect_unchanged(file: Path, before: os.stat_result) -> None:
    """Fail when the file was written to, or replaced, since it was opened."""
    try:
        after = file.stat()
    except OSError as error:
        raise _FileChanged(f"{file} went away while it was read") from error
    if (after.st_size, after.st_mtime_ns, after.st_ino) != (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    ):
        raise _FileChanged(f"{file} changed while it was read; import it once it is complete")


class _Watched:
    """A file whose reading moves a progress bar."""

    def __init__(self, file: IO[bytes], progress: Progress, what: str, size: int) -> None:
        self._file = file
        self._progress = progress
        self._task = progress.add_task(what, total=size)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress.advance(self._task, len(data))
        return data


def _digest(file: _Watched) -> str:
    found = hashlib.sha256()
    while data := file.read(_BLOCK):
        found.update(data)
    return found.hexdigest()


def _show_bytes() -> Progress:
    console = error_console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


# ── Following ───────────────────────────────────────────────────────────────────────────────────


def _follow(client: ApiClient, started: dict[str, Any]) -> dict[str, Any]:
    """Return the import once it has ended. A server that restarts meanwhile is waited for."""
    console = error_console()
    found = started
    given_up_at = time.monotonic() + _PATIENCE_SECONDS
    with Progress(
        TextColumn("importing"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("importing", total=1.0, figures="")
        while True:
            progress.update(task, completed=found["progress"], figures=describe_progress(found))
            if found["status"] in ("done", "failed"):
                return found
            time.sleep(_POLL_SECONDS)
            try:
                found = client.call("GET", f"/v1/imports/{started['id']}")
                given_up_at = time.monotonic() + _PATIENCE_SECONDS
            except (SetupError, ApiRefused) as error:
                is_passing = isinstance(error, SetupError) or error.status in (429, 502, 503)
                if not is_passing or time.monotonic() > given_up_at:
                    raise


def describe_progress(found: Mapping[str, Any]) -> str:
    """Return rows, rate and when it will be done, on one line."""
    parts = [f"{found['rows']:,} rows"]
    if found["rejected"]:
        parts.append(f"{found['rejected']:,} rejected")
    if found["rate"] and found["status"] == "running":
        parts.append(f"{found['rate']:,.0f} rows/s")
    if found["eta"]:
        parts.append(f"done at {found['eta'][11:19]} UTC")
    if found["waiting"]:
        parts.append(f"waiting for {found['waiting']}")
    return ", ".join(parts)


def _report(ended: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(ended)
    else:
        shown = ("id", "status", "rows", "accepted", "rejected", "source_id", "receipt")
        print_record({name: ended[name] for name in shown}, as_json=False)
    console = error_console()
    if ended["rejected"]:
        console.print(
            f"{ended['rejected']:,} rows were refused: GET /v1/imports/{ended['id']}/rejected"
            " says which and why",
            style="yellow",
            markup=False,
        )
    if ended["status"] == "failed":
        error = ended["error"] or {}
        console.print(f"error: {error.get('message')}", style="red", markup=False)
        raise typer.Exit(1)


# ── Dry run ─────────────────────────────────────────────────────────────────────────────────────


def _ask_preview(client: ApiClient, file: Path, fields: Mapping[str, str]) -> dict[str, Any]:
    """Send as much of the file as shows its first rows; Parquet is read from its end, so all."""
    size = file.stat().st_size
    with _show_bytes() as progress, file.open("rb") as opened:
        is_whole = opened.read(4) == _PARQUET or size <= _SAMPLE_BYTES
        opened.seek(0)
        asked = {**fields, "dry_run": "true", "partial": "false" if is_whole else "true"}
        sent = size if is_whole else _SAMPLE_BYTES
        watched = _Watched(opened, progress, "uploading", sent)
        return client.post_form("/v1/imports", asked, (file.name, watched), sent)


def _print_preview(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_rows(found["rows"], ("row", "becomes"), as_json=False)
        if found["mistakes"]:
            print_rows(found["mistakes"], ("row", "code", "message", "raw"), as_json=False)
    error_console().print(
        f"dry run: {found['checked']:,} rows looked at, {found['rejected']:,} would be refused;"
        " nothing was written",
        style="dim",
    )
    if found["damage"]:
        error_console().print(f"error: {found['damage']}", style="red", markup=False)
        raise typer.Exit(1)
