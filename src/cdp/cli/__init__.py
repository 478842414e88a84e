"""The command line. ``main`` is the entry point; each group of commands has a file of its own.

Exit codes: 0 done, 1 failed, 2 wrong use. Nothing asks a question.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cdp import __version__
from cdp.cli import (
    account_commands,
    archive_commands,
    audit_commands,
    backup_commands,
    demo_commands,
    destination_commands,
    export_commands,
    identity_commands,
    import_commands,
    plan_commands,
    privacy_commands,
    profile_commands,
    rates_commands,
    rebuild_commands,
    rejected_commands,
    run_commands,
    segment_commands,
    source_commands,
    state_commands,
    suggestion_commands,
    tag_commands,
    token_commands,
    trait_commands,
    watch_commands,
)
from cdp.cli.client import ApiRefused
from cdp.errors import SetupError

app = typer.Typer(
    name="cdp",
    help="A customer data platform: events in, people and segments out, seconds later.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"cdp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


run_commands.register(app)
state_commands.register(app)
demo_commands.register(app)
import_commands.register(app)
export_commands.register(app)
backup_commands.register(app)
watch_commands.register(source_commands.app)
app.add_typer(source_commands.app, name="source")
app.add_typer(rejected_commands.app, name="rejected")
app.add_typer(plan_commands.app, name="plan")
app.add_typer(token_commands.app, name="token")
app.add_typer(profile_commands.app, name="profile")
app.add_typer(trait_commands.app, name="trait")
app.add_typer(account_commands.app, name="account")
app.add_typer(audit_commands.app, name="audit")
app.add_typer(rates_commands.app, name="rates")
suggestion_commands.register(identity_commands.app)
app.add_typer(identity_commands.app, name="identity")
app.add_typer(privacy_commands.app, name="privacy")
app.add_typer(archive_commands.app, name="archive")
app.add_typer(segment_commands.app, name="segment")
app.add_typer(tag_commands.app, name="tag")
app.add_typer(destination_commands.app, name="destination")
app.add_typer(rebuild_commands.app, name="rebuild")


def main() -> None:
    """Run the command that the arguments name; an expected failure is one line and exit 1."""
    try:
        app()
    except (SetupError, ApiRefused) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe has seen enough. Python would complain once more at exit.
        sys.stdout = None
        sys.exit(1)
