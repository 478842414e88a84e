"""``python -m bench``: one table of ratios, each measured against its opponent in the same run.

The rules: both sides are up at once, get the same bytes, and take turns in slices; a figure is the
median of the rounds' ratios with its spread beside it. Absolute rates are saved, never judged.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import traceback
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cdp.runtime.logs import configure_logs

PARTS = (
    "ingest", "door", "log", "worker", "identity", "orders", "imports", "rules", "typed", "refresh",
    "analytics", "clickhouse", "preview", "live_segments", "exports", "suggest", "end_to_end",
    "reads",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def describe_machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {
            name: version(name)
            for name in ("cdp", "duckdb", "kafka-python", "psycopg", "msgspec", "uvicorn")
        },
    }


def measure(parts: list[str], *, quick: bool, console: Console) -> list[dict[str, Any]]:
    """Run the given parts; a part that breaks gives a row that says so."""
    rows: list[dict[str, Any]] = []
    for part in parts:
        console.print(f"… {part}", style="dim")
        try:
            rows += importlib.import_module(f"bench.{part}").run(quick)
        except Exception as error:
            traceback.print_exc()
            rows.append({"goal": "-", "name": f"{part} did not finish: {error}", "failed": True})
    return rows


def draw(rows: list[dict[str, Any]]) -> Table:
    """Return the table that people read."""
    table = Table(title="cdp bench: ratios in one run", title_justify="left")
    for heading in ("goal", "what", "ratio", "spread", "target", ""):
        table.add_column(heading, justify="right" if heading in ("ratio", "spread") else "left")
    for row in rows:
        if row.get("failed"):
            table.add_row(str(row["goal"]), row["name"], "", "", "", "[red]failed")
            continue
        if row.get("skipped"):
            table.add_row(str(row["goal"]), row["name"], "", "", "", "[dim]skipped")
            continue
        met = row.get("met")
        table.add_row(
            str(row["goal"]),
            row["name"],
            f"{row['ratio']:.2f}",
            f"±{row['spread']:.0%}" if row.get("spread") is not None else "",
            str(row.get("target", "")),
            "" if met is None else "[green]met" if met else "[yellow]not met",
        )
    return table


def main() -> int:
    """Measure, print the table, save JSON beside."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--full", action="store_true", help="large data; takes an hour")
    options = parser.parse_args()
    configure_logs("text", "warning")
    console = Console(width=110 if not sys.stdout.isatty() else None)
    rows = measure(options.parts, quick=not options.full, console=console)
    console.print(draw(rows))
    RESULTS.mkdir(exist_ok=True)
    at = datetime.now(UTC)
    path = RESULTS / f"{at:%Y%m%dT%H%M%SZ}.json"
    document = {"at": at.isoformat(), "machine": describe_machine(), "rows": rows}
    path.write_text(json.dumps(document, indent=2, default=str) + "\n")
    console.print(f"saved as bench/results/{path.name}", style="dim")
    return 1 if any(row.get("failed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
