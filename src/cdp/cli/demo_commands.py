"""``cdp demo``: post a believable history through the wire."""

from __future__ import annotations

from typing import Annotated

import typer

from cdp.demo.history import DEFAULT_DAYS


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(_demo)


def _demo(
    people: Annotated[int, typer.Option(min=1, max=200_000, help="How many people.")] = 2000,
    days: Annotated[int, typer.Option(min=1, max=1000, help="How many days back.")] = DEFAULT_DAYS,
    seed: Annotated[int, typer.Option(help="Same seed, same history.")] = 1,
    end: Annotated[
        str | None, typer.Option(help="Last day, such as 2026-03-01; default: today.")
    ] = None,
) -> None:
    """Post a believable history of a shop's customers; a second run doubles nothing."""
    from cdp.cli.demo import run_demo

    run_demo(people=people, days=days, seed=seed, end=end)
