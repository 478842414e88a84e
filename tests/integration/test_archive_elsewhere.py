"""Other engines read the archive as ``docs/archive.md`` tells, and count the same people."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.archive.read_parts import iterate_rows
from cdp.segments.compile import compile_rule
from cdp.segments.parse import parse_rule
from cdp.storage.database import Database
from tests.support.archive_world import TODAY, ArchiveWorld, days_ago
from tests.support.parts import miss
from tests.support.wire import identify, track

_DOCS = Path(__file__).parents[2] / "docs" / "archive.md"
_RULE = {"event": "Order Completed", "count": {"op": "gte", "value": 2}}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[ArchiveWorld]:
    made = ArchiveWorld(database, tmp_path)
    for day in (9, 8, 7, 4):
        made.receive([event for user in range(12) for event in shop(user, day)], days=day)
    # Later it turns out that two who bought once are one.
    made.receive([identify("who", at=days_ago(3), userId="u3", anonymousId="guest-3")], days=3)
    made.archive(keep_days=5)
    yield made
    made.close()


def shop(user: int, day: int) -> Iterator[dict[str, Any]]:
    """Some buy on some days, and all of them on a tablet in a shop."""
    at = days_ago(day)
    buys = partial(track, "Order Completed", at=at)
    if user % 4 == day % 4:
        yield buys(f"m-{user}-{day}", userId=f"u{user}", anonymousId="tablet")
    if user == 3 and day == 9:
        yield buys(f"guest-{day}", anonymousId="guest-3")
    yield track("Seen", f"s-{user}-{day}", at=at, userId=f"u{user}")


def count_by_rule(world: ArchiveWorld) -> int:
    """What the segment counts in DuckDB."""
    engine = Engine(world.folder / "a.duckdb", "256MB", 2)
    feed = Feed(world.database, engine, None, partial(iterate_rows, world.folder_of_archive))
    feed.catch_up()
    compiled = compile_rule(parse_rule(_RULE), TODAY, "UTC")
    count = engine.read(compiled.sql, compiled.params).num_rows
    feed.close()
    engine.close()
    return count


def run_example(engine: str, **given: Any) -> int:
    """Run the example of the docs that mentions an engine; return its ``count``."""
    examples = re.findall(r"```python\n(.*?)```", _DOCS.read_text(), re.DOTALL)
    [example] = [one for one in examples if engine in one]
    names: dict[str, Any] = dict(given)
    exec(example, names)
    return int(names["count"])


def test_polars_and_spark_count_whom_the_segment_counts(
    world: ArchiveWorld, tmp_path: Path
) -> None:
    root = str(tmp_path / "archive")
    expected = count_by_rule(world)
    assert expected >= 4
    assert run_example("polars", root=root) == expected
    if shutil.which("java") is None:
        miss("Java", "install a JRE (17 or newer) to read the archive with Spark")
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "512m")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    try:
        assert run_example("spark.", root=root, spark=spark) == expected
    finally:
        spark.stop()
