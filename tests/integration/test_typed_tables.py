"""Events that rules ask for have tables with typed columns, which hold at any moment just what all
events do."""

from __future__ import annotations

from typing import Any

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.analytics.typed_engine import MOST_PROPERTIES, TypedTables
from cdp.segments.definitions import find_asked
from cdp.segments.typed_events_engine import read_typed
from cdp.storage.database import Database
from tests.support.committed import committing

ORDER = "Order Completed"


def keep(engine: Engine, *properties: str) -> None:
    tables = TypedTables(engine)
    while tables.keep({ORDER: properties}):
        pass


def totals(engine: Engine, name: str = "total") -> list[tuple[Any, ...]]:
    """What the columns of a property hold: texts, numbers, booleans, JSON."""
    typed = read_typed(engine)[ORDER]
    kept = typed.properties[name]
    columns = [
        column or "NULL" for column in (kept.text, kept.number, kept.boolean, kept.other)
    ]  # fmt: skip
    rows = engine.read(
        f"""SELECT {", ".join(f"{column} AS c{n}" for n, column in enumerate(columns))}
              FROM {typed.table} ORDER BY seq, ordinal"""
    )
    return [tuple(row.values()) for row in rows.to_pylist()]


def keys(engine: Engine, table: str) -> list[tuple[Any, ...]]:
    rows = engine.read(
        f"""SELECT seq, ordinal, node_id, message_id, "at" FROM {table}
             WHERE event = $event ORDER BY seq, ordinal""",
        {"event": ORDER},
    )
    return [tuple(row.values()) for row in rows.to_pylist()]


def test_each_type_of_value_that_comes_gets_a_column_of_its_own(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        batch.add_event(None, ORDER, {"total": 12.5})
    feed.catch_up()
    keep(engine, "total")

    for value in ("n/a", True, [1, "a"], None, 2**53 + 1):
        with committing(database) as batch:
            batch.add_event(None, ORDER, {"total": value})
    feed.catch_up()

    assert totals(engine) == [
        (None, 12.5, None, None),
        ("n/a", None, None, None),
        (None, None, True, None),
        (None, None, None, '[1,"a"]'),
        (None, None, None, None),
        (None, float(2**53), None, str(2**53 + 1)),
    ]


def test_of_a_property_that_an_event_names_twice_the_last_counts_in_its_column_too(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        batch.add_event(None, ORDER, {"total": 1})
    feed.catch_up()
    keep(engine, "total")

    with committing(database) as batch:
        batch.add_event(None, ORDER, '{"total": 5, "total": 7}')
    feed.catch_up()

    assert [row[1] for row in totals(engine)] == [1, 7]


def test_a_property_beyond_the_limit_has_no_column_until_a_rule_asks_for_it(
    database: Database, engine: Engine, feed: Feed
) -> None:
    many = {f"p{number:03}": number for number in range(MOST_PROPERTIES + 20)}
    last = max(many)
    with committing(database) as batch:
        batch.add_event(None, ORDER, many)
    feed.catch_up()
    keep(engine, "p000")
    assert last not in read_typed(engine)[ORDER].properties
    assert len(read_typed(engine)[ORDER].properties) == MOST_PROPERTIES

    keep(engine, "p000", last)
    with committing(database) as batch:
        batch.add_event(None, ORDER, {last: 5})
    feed.catch_up()

    assert [row[1] for row in totals(engine, last)] == [many[last], 5]
    assert len(read_typed(engine)[ORDER].properties) == MOST_PROPERTIES


def test_who_is_erased_leaves_typed_tables_too_and_a_compacted_file_keeps_them(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann, bob = batch.add_person("ann"), batch.add_person("bob")
        batch.add_event(ann, ORDER, {"email": "ann@example.com"})
        batch.add_event(bob, ORDER, {"email": "bob@example.com"})
    feed.catch_up()
    keep(engine, "email")

    with committing(database) as batch:
        batch.erase(ann)
    feed.catch_up()
    assert engine.compact(seconds=5)

    assert [row[0] for row in totals(engine, "email")] == ["bob@example.com"]
    table = read_typed(engine)[ORDER].table
    assert keys(engine, table) == keys(engine, "core.events")
    assert b"ann@example.com" not in engine.path.read_bytes()


def test_a_new_property_is_absent_of_the_events_before(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        batch.add_event(None, ORDER, {"total": 1})
    feed.catch_up()
    keep(engine, "total")

    with committing(database) as batch:
        batch.add_event(None, ORDER, {"total": 2, "tax": 1})
    feed.catch_up()

    assert [row[1] for row in totals(engine, "tax")] == [None, 1]


def test_what_rules_and_tags_ask_of_events_is_found_wherever_it_stands() -> None:
    where = [{"property": r"a\.b.c", "op": "exists"}]
    definition = {
        "cases": [
            {"when": {"any": [{"event": "A", "where": where}, {"event": "C"}]}, "then": 1},
            {"when": {"sequence": [{"event": "B"}, {"event": "B", "where": where}]}, "then": 2},
        ],
        "aggregate": {"event": "A", "aggregate": {"fn": "sum", "property": "total"}},
    }

    assert set(find_asked(definition)) == {("A", "a.b"), ("B", "a.b"), ("A", "total")}
