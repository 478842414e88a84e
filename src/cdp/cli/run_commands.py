"""Commands that run the product: ``up``, ``serve``, ``worker``, ``migrate``, ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdp.cli.output import JsonFlag, print_json, print_record, print_rows
from cdp.errors import SetupError
from cdp.settings import Settings, read_settings

_Parent = Annotated[int | None, typer.Option("--parent", hidden=True)]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("up")(_up)
    app.command("serve")(_serve)
    app.command("worker")(_worker)
    app.command("migrate")(_migrate)
    app.command("credentials")(_credentials)
    app.command("doctor")(_doctor)


def _up(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of CDP_PORT.")] = None,
    host: Annotated[str | None, typer.Option(help="Instead of CDP_HOST.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Instead of CDP_DATA_DIR.")] = None,
) -> None:
    """Run everything on this machine: Postgres, server and worker, behind one port."""
    from cdp.cli.up import run_everything

    given = {"port": port, "host": host, "data_dir": data_dir}
    chosen = {name: value for name, value in given.items() if value is not None}
    run_everything(_with_logs(read_settings().model_copy(update=chosen)))


def _serve(
    role: Annotated[str, typer.Option(help="ingest, api, or both.")] = "ingest,api",
    listen_fd: Annotated[int | None, typer.Option("--listen-fd", hidden=True)] = None,
    parent: _Parent = None,
) -> None:
    """Serve HTTP: take events (ingest), answer questions (api), or both."""
    from cdp.cli.serve import read_roles, run_server

    try:
        roles = read_roles(role)
    except SetupError as error:
        raise typer.BadParameter(str(error), param_hint="--role") from error
    run_server(read_settings(), roles, listen_fd=listen_fd, parent=parent)


def _worker(parent: _Parent = None) -> None:
    """Work off the log: identity, profiles, events. Run as many as you like."""
    from cdp.cli.serve import run_worker_process

    run_worker_process(read_settings(), parent=parent)


def _migrate(as_json: JsonFlag = False) -> None:
    """Bring the database to the schema of this program."""
    from cdp.cli.serve import run_migrations

    print_record({"migrated": run_migrations(_with_logs(read_settings()))}, as_json=as_json)


def _credentials(as_json: JsonFlag = False) -> None:
    """Make the first source and token where `cdp up` does not run; print them, now and later."""
    from cdp.cli.serve import make_credentials

    print_record(make_credentials(_with_logs(read_settings()))._asdict(), as_json=as_json)


def _doctor(as_json: JsonFlag = False) -> None:
    """Show the effective settings and check everything that they name; exit 1 if one fails."""
    from cdp.cli.doctor import examine

    settings = read_settings()
    shown = _show_settings(settings)
    checks = [check._asdict() for check in examine(settings)]
    if as_json:
        print_json({"settings": shown, "checks": checks})
    else:
        print_rows(shown, as_json=False)
        print()
        print_rows(checks, as_json=False)
    if any(check["state"] == "failed" for check in checks):
        raise typer.Exit(1)


def _with_logs(settings: Settings) -> Settings:
    from cdp.runtime.logs import configure_logs

    configure_logs(settings.log_format, settings.log_level, process="cdp")
    return settings


def _show_settings(settings: Settings) -> list[dict[str, object]]:
    """Every setting with its variable and effective value; secrets only as set or not."""
    from cdp.cli.doctor import hide_secret

    return [
        {
            "variable": f"CDP_{name.upper()}",
            "value": hide_secret(name, getattr(settings, name)),
            "set": name in settings.model_fields_set,
            "meaning": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]
