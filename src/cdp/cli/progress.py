"""A bar on stderr for work that takes a while; nothing where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn

from cdp.cli.output import error_console

Show = Callable[[float, str], None]
"""Takes the share that is done, from 0 to 1, and figures to stand beside it."""


@contextmanager
def show_progress(what: str) -> Iterator[Show]:
    """Give what moves the bar; it goes away with the block.

    Without a terminal a line tells of each tenth that is done.
    """
    console = error_console()
    if not console.is_terminal:
        told = -1

        def say(share: float, figures: str) -> None:
            nonlocal told
            if int(share * 10) > told:
                told = int(share * 10)
                console.print(f"{what}: {share:.0%} {figures}".rstrip(), highlight=False)

        yield say
        return
    columns = TextColumn(what), BarColumn(), TextColumn("{task.fields[figures]}")
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=1.0, figures="")
        yield lambda share, figures: progress.update(task, completed=share, figures=figures)
