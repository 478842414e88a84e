"""What SQL may run, and what may not, judged by DuckDB's own parser."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from cdp.analytics.guard import Refused, Unreadable, check, quote_at

TABLES = frozenset({"profiles", "identifiers", "events", "Order Completed"})


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "select * from profiles;",
        "-- why\nselect count(*) from EVENTS; -- that is all",
        'from "Order Completed" select *',
        'select * from "order completed"',
        "with p as (select * from profiles) select * from p join events using (profile_id)",
        "with recursive n as (select 1 a union all select a + 1 from n where a < 9) from n",
        "select * from range(3), unnest([1, 2]), json_each('{}')",
        "select list_transform([1], lambda x: x + 1), repeat('x', 3), lpad('a', 5, '0')",
        "select profile_id, row_number() over (partition by type order by timestamp) from events",
        "values (1), (2)",
        "describe profiles",
        "summarize events",
        "select ? + $2",
        "select at, t.at from (select 1 as at) t where at > now() at time zone 'UTC' order by at",
        "unpivot profiles on events into name n value v",
        "select '; drop table profiles' as text",
    ],
)
def test_reading_the_shown_tables_is_let_through(duck: duckdb.DuckDBPyConnection, sql: str) -> None:
    statement = check(duck, sql, lambda: TABLES)
    assert len(duck.extract_statements(statement.sql)) == 1


_HIDDEN = "(select max(value) from core.nodes)"


@pytest.mark.parametrize(
    "sql",
    [
        # Other statements.
        "", " ", "-- nothing", "select 1; select 2", "select 1; drop table profiles",
        "insert into profiles values (1)", "delete from profiles", "update profiles set a = 1",
        "create table t (a int)", "create view v as select 1", "drop view profiles",
        "alter table profiles add column a int", "truncate profiles", "vacuum", "checkpoint",
        "attach '/tmp/x.db'", "detach x", "use main", "set search_path = 'main'",
        "set memory_limit = '1TB'", "reset memory_limit", "pragma database_list",
        "call pragma_version()", "load httpfs", "install httpfs", "copy (select 1) to '/tmp/x'",
        "copy profiles from '/tmp/x'", "export database '/tmp/x'", "import database '/tmp/x'",
        "begin", "commit", "explain select 1", "explain analyze select 1",
        "prepare x as select 1", "execute x", "deallocate x", "pivot events on type using count(*)",
        "with x as (insert into profiles values (1) returning *) from x",
        "with x as (delete from profiles returning *) from x",
        # Files and networks.
        "from '/etc/passwd'", "from 'x.parquet'", "from 'https://example.com/x.csv'",
        "from read_csv('/etc/passwd')", "from read_text('/etc/passwd')", "from read_blob('x')",
        "from read_parquet('x')", "from read_json_auto('x')", "from parquet_metadata('x')",
        "from glob('/**')", "from sniff_csv('x')", "from read_duckdb('x')",
        # The catalogue, settings and the environment.
        "from duckdb_settings()", "from duckdb_views()", "from duckdb_secrets()",
        "from pragma_database_list", "from sqlite_master", "from duckdb_tables", "from pg_class",
        "from information_schema.tables", "from pg_catalog.pg_tables", "show tables",
        "show all tables", "from (show databases)", "from pragma_table_info('profiles')",
        "select current_setting('temp_directory')", "select getenv('HOME')",
        "select current_database()", "select getvariable('x')", "from which_secret('a', 'b')",
        "with duckdb_views as (select 1) from duckdb_views",
        "with pragma_database_list as (select 1) (from pragma_database_list)",
        # Text that is run as SQL.
        "from query('from core.nodes')", "from query_table('core.nodes')",
        "from json_execute_serialized_sql('{}')", "select json_execute_serialized_sql('{}')",
        # The tables behind the tables, and the other schema, from every place a query can stand.
        "from core.nodes", "from main.profiles", "from masked.profiles", 'from "main"."profiles"',
        "from memory.main.profiles", "from nodes", f"select {_HIDDEN}",
        "select 1 where exists (from core.nodes)",
        "from profiles where profile_id in (select value from core.nodes)",
        "from profiles union all from core.nodes", "(from core.nodes)",
        f"from profiles order by {_HIDDEN}", "from profiles limit (select 1 from core.nodes)",
        "from profiles offset (select 1 from core.nodes)",
        "from profiles, lateral (from core.nodes)", "from profiles semi join core.nodes on true",
        f"from unnest([{_HIDDEN}])", f"from range({_HIDDEN})", f"values ({_HIDDEN})",
        f"select list_transform([1], lambda x: {_HIDDEN})",
        f"select sum(1) over (order by {_HIDDEN}) from profiles",
        f"select sum(1) filter (where {_HIDDEN} = '') from profiles",
        f"select count(*) from profiles group by {_HIDDEN}",
        f"select 1 from profiles qualify {_HIDDEN} = ''",
        f"select case when true then {_HIDDEN} end",
        f"select * replace ({_HIDDEN} as profile_id) from profiles",
        "with recursive a as (select 1 union all select 2 from core.nodes) from a",
        "with core as (select 1) from core.nodes", "unpivot core.nodes on type into name n value v",
        "describe core.nodes", "summarize core.nodes", "select core.f(1)", "select main.lower('A')",
        # What would cost without reading anything.
        "select repeat('x', 1000000000)", "select repeat('x', n) from (select 9 n)",
        "select lpad('x', 1000000000, 'y')", "select sleep_ms(1000)", "select nextval('s')",
        "select write_log('x')",
    ],
)  # fmt: skip
def test_everything_else_is_refused(duck: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(Refused):
        check(duck, sql, lambda: TABLES)


@pytest.mark.parametrize("sql", ["selec 1", "select 1 from", "select 1\0", "select (", "'"])
def test_what_is_not_sql_is_the_parsers_to_explain(
    duck: duckdb.DuckDBPyConnection, sql: str
) -> None:
    with pytest.raises(Unreadable):
        check(duck, sql, lambda: TABLES)


def test_a_refusal_names_what_was_refused(duck: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(Refused, match="read_csv"):
        check(duck, "select * from read_csv('x')", lambda: TABLES)


@pytest.mark.parametrize(
    ("sql", "quoted"),
    [
        ("select at from traits", 'select "at" from traits'),
        ("select '中文', AT from traits", "select '中文', \"AT\" from traits"),
        ("select now() at time zone 'UTC'", "select now() at time zone 'UTC'"),
        ("select 'at' as \"at\" -- at", "select 'at' as \"at\" -- at"),
        ("select atan(1), cat from t", "select atan(1), cat from t"),
    ],
)
def test_the_column_at_can_be_written_without_quotes(sql: str, quoted: str) -> None:
    assert quote_at(sql) == quoted
