"""Run the SQL of tags over the tables that people query: checked, read-only, with caps.

Joins analytics, which knows what may run, to segments, which know what a tag needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from cdp.analytics import catalogue, guard
from cdp.analytics.batches_engine import read_batches
from cdp.analytics.engine import Duck, Engine, QueryTimeout, select
from cdp.analytics.headroom_engine import MemoryNeeded
from cdp.errors import Unavailable, Unprocessable
from cdp.segments.sql_tags import SqlFailed, SqlValues

MOST_ROWS = 5_000_000
MOST_BYTES = 256 * 1024 * 1024
_BATCH_ROWS = 20_000
_PATH = "/definition/sql"
_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|DOUBLE|FLOAT")
_JSON_TYPES = {
    "text": ("VARCHAR",),
    "number": ("BIGINT", "UBIGINT", "DOUBLE"),
    "boolean": ("BOOLEAN",),
    "time": ("VARCHAR",),
    "list": ("ARRAY",),
    "object": ("OBJECT",),
}
_OPEN_TYPES = ("VARIANT", "JSON", '"NULL"')
_ISO = "'%Y-%m-%dT%H:%M:%S.%gZ'"
_NOT_FINITE = r"(^|[\[:,{])-?(NaN|Infinity)"


class TagQueriesOnDuckDb:
    """``cdp.segments.sql_tags.TagQueries`` over the views of schema ``main``."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        """``seconds``: how long a query may take."""
        self._engine = engine
        self._seconds = seconds

    def check(self, sql: str, type: str | None) -> str:
        """See ``TagQueries``. Nothing is run."""
        try:
            with self._engine.ask(timeout=self._seconds) as duck:
                found = read_type(_bind(duck, sql)[1])
        except guard.Refused as error:
            raise Unprocessable("sql_refused", str(error), path=_PATH) from error
        except (guard.Unreadable, QueryTimeout, MemoryNeeded) as error:
            raise Unprocessable("sql_error", str(error), path=_PATH) from error
        except SqlFailed as error:
            raise Unprocessable(error.code, error.message, path=_PATH) from error
        except (duckdb.FatalException, duckdb.ConnectionException) as error:
            raise Unavailable("analytics_unavailable", "analytics is restarting") from error
        except duckdb.Error as error:
            raise Unprocessable("sql_error", str(error).strip(), path=_PATH) from error
        if type is None:
            return found or "text"
        if found is not None and found != type and not (found == "text" and type == "time"):
            message = f"value is of type {found}, the tag of type {type}"
            raise Unprocessable("wrong_type", message, path=_PATH)
        return type

    def run(self, sql: str, values: SqlValues) -> pa.Table:
        """See ``TagQueries``."""
        try:
            with self._engine.ask(timeout=self._seconds) as duck:
                text, columns = _bind(duck, sql, "masked" if values.is_masked else "main")
                rows = _collect(select(duck, _wrap(text, dict(columns)["value"])))
        except (guard.Refused, guard.Unreadable) as error:
            raise SqlFailed("sql_refused", str(error)) from error
        except QueryTimeout as error:
            raise SqlFailed("sql_timeout", str(error)) from error
        except MemoryNeeded as error:
            raise SqlFailed("sql_memory", str(error)) from error
        except duckdb.OutOfMemoryException as error:
            message = "the query needs more memory than it may use"
            raise SqlFailed("sql_memory", message) from error
        except Unavailable as error:
            raise SqlFailed("sql_unavailable", error.message) from error
        except duckdb.Error as error:
            raise SqlFailed("sql_failed", _tell(error)) from error
        return _check_rows(rows, values.type)


def read_type(columns: Sequence[tuple[str, str]]) -> str | None:
    """Return the type of a tag for what a query gives, ``None`` when only its rows will tell.

    Raises ``SqlFailed`` when the columns are not ``profile_id`` and ``value``.
    """
    found = dict(columns)
    if len(columns) != 2 or set(found) != {"profile_id", "value"}:
        named = ", ".join(name for name, _ in columns)
        message = f"the columns are profile_id and value, not {named}"
        raise SqlFailed("bad_columns", message)
    if found["profile_id"] != "VARCHAR":
        raise SqlFailed("bad_columns", "profile_id is a text, such as that of the table profiles")
    kind = found["value"]
    if kind in _OPEN_TYPES:
        return None
    if kind.endswith("]"):
        return "list"
    if kind.startswith(("STRUCT", "MAP")):
        return "object"
    if _NUMBERS.fullmatch(kind):
        return "number"
    if kind == "BOOLEAN":
        return "boolean"
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return "time"
    return "text"


def _bind(duck: Duck, sql: str, schema: str = "main") -> tuple[str, list[tuple[str, str]]]:
    """Return the statement, if it may run, and its columns, in a transaction that cannot write."""
    duck.execute(f"SET search_path = '{schema}'")
    duck.execute("BEGIN TRANSACTION READ ONLY")
    tables = frozenset(catalogue.list_tables(duck, schema))
    statement = guard.check(duck, sql, lambda: tables)
    if statement.parameters:
        raise guard.Refused("the SQL of a tag has no parameters")
    relation = select(duck, statement.sql)
    names = [name.lower() for name in relation.columns]
    columns = list(zip(names, map(str, relation.types), strict=True))
    read_type(columns)
    return statement.sql, columns


def _wrap(sql: str, kind: str) -> str:
    """SQL for the rows with the number of the profile, the value as JSON, and what is odd in it."""
    value = "told.value"
    if kind.startswith("TIMESTAMP"):
        utc = f"{value} AT TIME ZONE 'UTC'" if "ZONE" in kind else f"{value}::TIMESTAMP"
        value = f"strftime({utc}, {_ISO})"
    text = f"replace(to_json({value})::VARCHAR, '\\u0000', '\\ufffd')"
    has_floats = any(word in kind for word in ("DOUBLE", "FLOAT", "VARIANT"))
    odd = f"regexp_matches(text, '{_NOT_FINITE}')" if has_floats else "false"
    return f"""
SELECT p.profile_no, profile_id, text AS value, {odd} AS is_odd,
       CASE WHEN text IS NULL THEN 'NULL' WHEN {odd} THEN 'DOUBLE'
            ELSE json_type(text::JSON) END AS kind
  FROM (SELECT told.profile_id, {text} AS text FROM (
{sql}
) AS told WHERE told.profile_id IS NOT NULL)
  LEFT JOIN (SELECT profile_no, profile_id FROM core.profiles) p USING (profile_id)"""


def _collect(relation: duckdb.DuckDBPyRelation) -> pa.Table:
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in read_batches(reader):
        batches.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows > MOST_ROWS:
            raise SqlFailed("sql_too_many_rows", f"the query gives more than {MOST_ROWS} rows")
        if size > MOST_BYTES:
            raise SqlFailed("sql_too_large", f"the values are larger than {MOST_BYTES} bytes")
    return pa.Table.from_batches(batches, reader.schema)


def _check_rows(rows: pa.Table, type: str) -> pa.Table:
    """Return ``profile_no`` and ``value`` of the rows; raises ``SqlFailed`` for a wrong one."""
    unknown = rows.filter(pc.is_null(rows["profile_no"]))
    if unknown.num_rows:
        example = unknown["profile_id"][0].as_py()
        message = f"{unknown.num_rows} rows name no profile, such as {example[:60]!r}"
        raise SqlFailed("sql_unknown_profile", message)
    if pc.count_distinct(rows["profile_no"]).as_py() < rows.num_rows:
        counted = rows.group_by("profile_id").aggregate([([], "count_all")])
        twice = counted.filter(pc.greater(counted["count_all"], 1))
        example = twice["profile_id"][0].as_py()
        message = f"{twice.num_rows} people have more than one row, such as {example}"
        raise SqlFailed("sql_two_rows", message)
    rows = rows.filter(pc.not_equal(rows["kind"], "NULL"))
    if pc.any(rows["is_odd"]).as_py():
        raise SqlFailed("sql_wrong_type", "a value is not a finite number")
    allowed = pa.array(_JSON_TYPES[type])
    odd = rows.filter(pc.invert(pc.is_in(rows["kind"], allowed)))
    if odd.num_rows:
        message = (
            f"{odd.num_rows} values are not of type {type}, such as that of "
            f"{odd['profile_id'][0].as_py()}"
        )
        raise SqlFailed("sql_wrong_type", message)
    return rows.select(["profile_no", "value"])


def _tell(error: duckdb.Error) -> str:
    """Return what went wrong; what was read of people is left out."""
    text = str(error).strip()
    if isinstance(error, (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)):
        return text
    return re.sub(r"'[^']*'", "'…'", text.splitlines()[0])
