"""What people may run: one SELECT over the tables that they are shown. Pure but for the parser.

The walk lets through what it knows and refuses the rest: a kind of node that a later DuckDB adds
is refused until somebody has thought about it. Behind it stand a read-only transaction, a file
system that is switched off and a configuration that is locked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import duckdb

Duck = duckdb.DuckDBPyConnection
Node = dict[str, Any]


class Refused(Exception):
    """The statement asks for what is not allowed; the message says what."""


class Unreadable(Exception):
    """The statement is not SQL; the message is the parser's."""


class Statement(NamedTuple):
    """A statement that may run: its text, and the names of its parameters."""

    sql: str
    parameters: frozenset[str]


_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLE_FUNCTIONS = frozenset(
    {
        "range", "generate_series", "unnest", "json_each", "json_tree", "repeat",
        "pg_timezone_names", "icu_calendar_names",
    }
)  # fmt: skip
# Functions that read the outside, the configuration or the catalogue, that run text as SQL, that
# write, or that only pass time.
_REFUSED_FUNCTIONS = re.compile(
    r"""read_.*|.*_scan|scan_.*|glob|sniff_.*|parquet_.*|duckdb_.*|pragma_.*|sqlite_.*
      |query|query_table|json_execute_serialized_sql|json_serialize_plan|json_deserialize_sql
      |getenv|getvariable|current_setting|set_config|current_query|which_secret|.*secret.*
      |current_database|current_catalog|current_schemas?|in_search_path|database_list
      |nextval|currval|setval|write_log|parse_duckdb_log_message|.*checkpoint.*|.*logging.*
      |enable_.*|disable_.*|force_.*|truncate_.*|import_database|copy_database|add_parquet_key
      |sleep_ms|pg_sleep|pg_get_.*|pg_conf_.*|pg_postmaster_.*|inet_.*|stats|vector_type
      |.*external_resource.*|python_.*|pandas_.*|arrow_.*|__internal_.*|storage_info|table_info
      |metadata_info|functions|show.*|summary|user_agent|platform|extension_versions""",
    re.VERBOSE | re.IGNORECASE,
)
# These make one value as large as they are told, outside of what the memory limit sees.
_SIZED_FUNCTIONS = frozenset({"repeat", "lpad", "rpad", "bar"})
_LARGEST_SIZE = 10_000
# Bare names that are tables of DuckDB's own, which a common table expression must not pose as.
_SYSTEM_TABLES = re.compile(r"(?:duckdb_|pragma_|sqlite_|pg_|information_schema).*", re.IGNORECASE)


def check(duck: Duck, sql: str, tables: Callable[[], frozenset[str]]) -> Statement:
    """Return the statement that ``sql`` is, if it may run; ``tables`` are the names it may read.

    Raises ``Refused`` or ``Unreadable``. Nothing is run.
    """
    if "\0" in sql:
        raise Unreadable("the statement holds a NUL character")
    sql, statements = _parse(duck, sql)
    if not statements:
        raise Refused("there is no statement; send one SELECT")
    if len(statements) > 1:
        raise Refused("there are several statements; send one SELECT")
    statement = statements[0]
    if statement.type != duckdb.StatementType.SELECT:
        kind = str(statement.type).rpartition(".")[2]
        hint = "; PIVOT needs its values listed (IN …)" if kind == "MULTI" else ""
        raise Refused(f"only SELECT may run, this is {kind}{hint}")
    walk(_serialize(duck, statement.query), frozenset(name.lower() for name in tables()))
    return Statement(_cut_end(statement.query), frozenset(statement.named_parameters))


def _cut_end(sql: str) -> str:
    """Leave out the semicolon that ends the one statement, and what may come after it."""
    text = sql.encode()
    for start, kind in duckdb.tokenize(sql):
        if kind == duckdb.token_type.operator and text[start : start + 1] == b";":
            return text[:start].decode()
    return sql


def _parse(duck: Duck, sql: str) -> tuple[str, list[Any]]:
    try:
        return sql, duck.extract_statements(sql)
    except duckdb.Error as error:
        quoted = quote_at(sql)
        if quoted != sql:
            try:
                return quoted, duck.extract_statements(quoted)
            except duckdb.Error:
                pass
        raise Unreadable(str(error).strip()) from error


def quote_at(sql: str) -> str:
    """Quote the bare word ``at``: a column here, but reserved in DuckDB (``AT TIME ZONE``)."""
    starts = [start for start, _ in duckdb.tokenize(sql)]
    text = sql.encode()  # The positions count bytes.
    pieces: list[bytes] = []
    done = 0
    for start, following in zip(starts, [*starts[1:], len(text)], strict=True):
        after = text[following : following + 4].lower()
        is_column = after != b"time" and after[:1] != b"("
        if is_column and re.match(rb"at\b", text[start:following], re.IGNORECASE):
            pieces += [text[done:start], b'"', text[start : start + 2], b'"']
            done = start + 2
    return b"".join([*pieces, text[done:]]).decode()


def _serialize(duck: Duck, sql: str) -> Node:
    rows = duck.execute(
        "SELECT json_serialize_sql($1::VARCHAR, skip_null := true, skip_empty := true)", [sql]
    ).fetchall()
    tree: Node = json.loads(rows[0][0])
    if tree.get("error"):
        raise Refused(f"only SELECT may run: {tree.get('error_message')}")
    return tree


def walk(tree: Node, tables: frozenset[str]) -> None:
    """Raise ``Refused`` when ``tree``, a serialised statement, asks for more than ``tables``."""
    nodes = list(_nodes(tree))
    expressions = frozenset(_name_of(entry) for node in nodes for entry in _ctes(node))
    for name in expressions:
        if _SYSTEM_TABLES.fullmatch(name):
            raise Refused(f"{name} is a name of DuckDB's own; call it something else")
    for node in nodes:
        _check_node(node, tables | expressions)


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def _ctes(node: Node) -> list[Node]:
    named = node.get("cte_map", {})
    found: list[Node] = named.get("map", []) if isinstance(named, dict) else []
    return found


def _name_of(entry: Node) -> str:
    return str(entry.get("key", "")).lower()


def _check_node(node: Node, tables: frozenset[str]) -> None:
    kind = node.get("type")
    if not isinstance(kind, str):
        return
    if kind.endswith("_NODE") and kind not in _QUERY_NODES:
        raise Refused("only SELECT may run, also within WITH")
    if kind == "BASE_TABLE":
        _check_table(node, tables)
    elif kind == "TABLE_FUNCTION":
        name = _check_name(node["function"])
        if name not in _TABLE_FUNCTIONS:
            raise Refused(f"{name} may not be read as a table")
    elif kind == "SHOW_REF":
        if not isinstance(node.get("query"), dict):
            raise Refused("SHOW may not run; GET /v1/schema lists the tables")
    elif "function_name" in node:
        name = _check_name(node)
        if _REFUSED_FUNCTIONS.fullmatch(name):
            raise Refused(f"the function {name} may not be called")
        if name in _SIZED_FUNCTIONS and not _is_small(node):
            raise Refused(f"{name} takes a written number up to {_LARGEST_SIZE}")
    elif kind in ("COLUMN_DATA", "DELIM_GET", "BOUND_TABLE_REF", "TABLE_REF"):
        raise Refused(f"{kind} may not be read")


def _check_table(node: Node, tables: frozenset[str]) -> None:
    name = str(node.get("table_name", ""))
    if _is_qualified(node):
        raise Refused(f"write {name} without a schema")
    if name.lower() not in tables:
        raise Refused(f"there is no table {name}; GET /v1/schema lists them")


def _check_name(node: Node) -> str:
    name = str(node.get("function_name", ""))
    if _is_qualified(node):
        raise Refused(f"write {name} without a schema")
    return name.lower()


def _is_small(node: Node) -> bool:
    """Whether every argument after the first is text, or a number that is written and small."""
    for argument in node.get("arguments", [])[1:]:
        expression = argument.get("expression", {})
        literal = expression.get("literal", {})
        if expression.get("type") != "VALUE_CONSTANT":
            return False
        if literal.get("kind") != "STRING":
            digits = str(literal.get("text"))
            if not digits.isdecimal() or int(digits[:20]) > _LARGEST_SIZE:
                return False
    return True


def _is_qualified(node: Node) -> bool:
    path = node.get("qualified_name", {}).get("path", [])
    parts = ("schema", "schema_name", "catalog", "catalog_name")
    return len(path) > 1 or any(node.get(part) for part in parts)
