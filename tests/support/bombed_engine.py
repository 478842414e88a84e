"""A program: people's statements that want all memory, beside a writer; prints what became of it.

``python -m tests.support.bombed_engine FOLDER ROUNDS``. A process of its own, because what it
looks for ends the process.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import duckdb

from cdp.analytics.engine import Engine
from cdp.analytics.query import run_query
from cdp.errors import Unprocessable

BOMBS = (
    "select list(n) from range(100000000) t(n)",
    "select string_agg(n::varchar, ',') from range(100000000) t(n)",
    "with recursive r as (select 'x' as t union all select t || t from r) select max(t) from r",
)


def main(folder: Path, rounds: int) -> dict[str, object]:
    """Return the codes of the answers, and whether every committed write is there."""
    engine = Engine(folder / "analytics.duckdb", "128MB", 2)
    with engine.write() as duck:
        duck.execute("CREATE TABLE core.steps (n BIGINT)")
        duck.execute("CREATE TABLE core.position (n BIGINT)")
        duck.execute("INSERT INTO core.position VALUES (0)")
    codes: list[str] = []
    written = 0
    for number in range(rounds):
        asking = [
            threading.Thread(target=_ask, args=(engine, BOMBS[(number + more) % 3], codes))
            for more in range(2)
        ]
        for one in asking:
            one.start()
        while any(one.is_alive() for one in asking):
            written += _write(engine)
        for one in asking:
            one.join()
    found = engine.read("SELECT (SELECT count(*) FROM core.steps) AS steps, n FROM core.position")
    row = found.to_pylist()[0]
    is_whole = row["steps"] == row["n"] == written
    answer = {"codes": sorted(set(codes)), "is_whole": is_whole, "is_lost": engine.is_lost}
    engine.close()
    return answer


def _ask(engine: Engine, sql: str, codes: list[str]) -> None:
    try:
        run_query(engine, sql, None, schema="main", limit=10, timeout=60)
    except Unprocessable as error:
        codes.append(error.code)
    else:
        codes.append("answered")


def _write(engine: Engine) -> int:
    try:
        with engine.write() as duck:
            duck.execute("INSERT INTO core.steps VALUES (0)")
            duck.execute("UPDATE core.position SET n = n + 1")
    except duckdb.OutOfMemoryException:
        return 0
    return 1


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
