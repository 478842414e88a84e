"""Run what people ask in SQL: checked, read-only, with time, rows and size capped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import duckdb
import pyarrow as pa

from cdp.analytics import catalogue, guard
from cdp.analytics.batches_engine import read_batches
from cdp.analytics.engine import Duck, Engine, QueryTimeout, select
from cdp.analytics.headroom_engine import MemoryNeeded
from cdp.analytics.quote import quote_name
from cdp.errors import Unavailable, Unprocessable

Schema = Literal["main", "masked"]
Params = Mapping[str, Any] | Sequence[Any] | None

_BATCH_ROWS = 2_048
_MOST_BYTES = 128 * 1024 * 1024
_MOST_SQL = 1_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows with their types as SQL calls them; ``as_of`` is from before they were read."""

    columns: list[tuple[str, str]]
    rows: pa.Table
    truncated: bool
    as_of: datetime | None


def run_query(
    engine: Engine, sql: str, params: Params, *, schema: Schema, limit: int, timeout: float
) -> Answer:
    """Return at most ``limit`` rows of ``sql`` over the tables of ``schema``.

    ``timeout`` is in seconds. Raises ``Unprocessable`` with code ``sql_refused``, ``sql_error`` or
    ``sql_timeout``, and ``Unavailable`` while the file cannot be read.
    """
    if len(sql) > _MOST_SQL:
        raise Unprocessable("sql_refused", "the statement is longer than 1 MB", path="/sql")
    as_of = engine.as_of()
    try:
        with engine.ask(timeout=timeout) as duck:
            # The transaction cannot write, whatever the statement is.
            duck.execute(f"SET search_path = '{schema}'")
            duck.execute("BEGIN TRANSACTION READ ONLY")
            tables = catalogue.list_tables(duck, schema)
            statement = guard.check(duck, sql, lambda: frozenset(tables))
            return _read(duck, statement, params, limit, as_of)
    except guard.Refused as error:
        raise Unprocessable("sql_refused", str(error), path="/sql") from error
    except guard.Unreadable as error:
        raise Unprocessable("sql_error", str(error), path="/sql") from error
    except QueryTimeout as error:
        raise Unprocessable(
            "sql_timeout", f"{error}; ask for less, or for a shorter time", path="/sql"
        ) from error
    except MemoryNeeded as error:
        raise Unprocessable(
            "sql_error", f"{error}; ask for less, or try again", path="/sql"
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise Unprocessable(
            "sql_error", "the statement needs more memory than it may use", path="/sql"
        ) from error
    except (duckdb.FatalException, duckdb.ConnectionException) as error:
        raise Unavailable("analytics_unavailable", "analytics is restarting; try again") from error
    except duckdb.Error as error:
        raise Unprocessable("sql_error", str(error).strip(), path="/sql") from error


def _read(
    duck: Duck, statement: guard.Statement, params: Params, limit: int, as_of: datetime | None
) -> Answer:
    relation = select(duck, statement.sql, _fit_params(params, statement.parameters))
    shown, columns = show_plainly(relation.limit(limit + 1))
    rows, is_whole = _collect(shown, limit)
    return Answer(columns, rows, not is_whole, as_of)


def show_plainly(
    relation: duckdb.DuckDBPyRelation,
) -> tuple[duckdb.DuckDBPyRelation, list[tuple[str, str]]]:
    """Return a relation that Arrow can hold, and its columns with their types."""
    columns = list(zip(relation.columns, map(str, relation.types), strict=True))
    if any(kind == "VARIANT" for _, kind in columns):
        relation = relation.project(_plain_columns(columns))
    return relation, [(name, "JSON" if kind == "VARIANT" else kind) for name, kind in columns]


def _plain_columns(columns: Sequence[tuple[str, str]]) -> str:
    """Arrow knows no VARIANT; JSON holds the same."""
    return ", ".join(
        f"CAST({quote_name(name)} AS JSON) AS {quote_name(name)}"
        if kind == "VARIANT"
        else quote_name(name)
        for name, kind in columns
    )


def _fit_params(params: Params, wanted: frozenset[str]) -> Params:
    if not wanted:
        if params:
            raise Unprocessable("sql_error", "the statement has no parameters", path="/params")
        return None
    if isinstance(params, Mapping):
        missing = sorted(wanted - set(params))
        if missing:
            raise Unprocessable("sql_error", f"${missing[0]} has no value", path="/params")
        return {name: params[name] for name in wanted}
    if params is None or len(params) != len(wanted):
        raise Unprocessable(
            "sql_error", f"the statement takes {len(wanted)} parameters", path="/params"
        )
    return list(params)


def _collect(relation: duckdb.DuckDBPyRelation, limit: int) -> tuple[pa.Table, bool]:
    """Read up to ``limit`` rows, as they come; return them and whether that is all."""
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in read_batches(reader):
        batches.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows > limit or size > _MOST_BYTES:
            break
    table = pa.Table.from_batches(batches, reader.schema)
    return table.slice(0, limit), rows <= limit and size <= _MOST_BYTES
