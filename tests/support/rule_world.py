"""Small worlds of people for rules: made in Python, loaded into a real DuckDB.

A person has nodes, as in the product; every fact hangs on one of them. The same world answers the
reference evaluator (``facts``) and the compiled SQL (``load``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from cdp.analytics.schema import CORE
from cdp.money import minor_digits
from cdp.segments.compile import Compiled, compile_aggregate, compile_rule
from cdp.segments.evaluate import (
    ConsentFact,
    EventFact,
    MembershipFact,
    OrderFact,
    PersonFacts,
    TraitFact,
)
from cdp.segments.evaluate_orders import make_order_fact
from cdp.segments.rules import EventCount, EventFigure, Rule
from cdp.segments.scope_engine import CopiedFacts
from cdp.typed_columns import TypedEvents

TABLES = (
    "events", "nodes", "node_profiles", "profiles", "node_traits", "node_consents", "orders",
    "order_lines", "memberships", "tag_values", "accounts", "account_facts", "account_members",
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """One profile: per node its facts; ``tags`` and ``segments`` are the profile's."""

    nodes: Sequence[Node]
    tags: Mapping[str, Any] = field(default_factory=dict)
    segments: frozenset[str] = frozenset()
    joined_at: datetime | None = None


@dataclass(frozen=True)
class Node:
    """An identifier with what hangs on it; one statement per purpose and one value per trait."""

    type: str = "user_id"
    value: str = ""
    traits: Sequence[TraitFact] = ()
    consents: Sequence[ConsentFact] = ()
    events: Sequence[EventFact] = ()
    variant: str = ""
    orders: Sequence[OrderRow] = ()
    belongings: Sequence[Belonging] = ()


class Belonging(NamedTuple):
    """What was last said of a node and an account."""

    account_id: str
    is_member: bool
    at: datetime
    message_id: str = "m"
    source: int = 0


Accounts = Mapping[str, Sequence[TraitFact]]
"""The traits of each account, one value per trait."""


@dataclass(frozen=True)
class OrderRow:
    """An order as it lies in the tables: amounts are minor units of its currency."""

    order_id: str
    at: datetime
    currency: str = "CNY"
    total: int = 0
    """Before refunds."""
    refunded: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    """``status``, ``store``, ``channel``."""
    amounts: Mapping[str, int] = field(default_factory=dict)
    """``discount``, ``tax``, ``shipping``."""
    lines: Sequence[Mapping[str, Any]] = ()
    """``sku``, ``name``, ``category``, ``quantity``, ``price``, ``total``."""

    def fact(self) -> OrderFact:
        """Return the order as the evaluator is told of it."""
        columns = {
            "order_id": self.order_id, "placed_at": self.at, "currency": self.currency, "scope": "",
            "total": self.total - self.refunded, "refunded": self.refunded,
            **self.texts, **self.amounts,
        }  # fmt: skip
        return make_order_fact(columns, self.lines, 10 ** (minor_digits(self.currency) or 0))


def person(
    *,
    traits: Sequence[TraitFact] = (),
    consents: Sequence[ConsentFact] = (),
    events: Sequence[EventFact] = (),
    orders: Sequence[OrderRow] = (),
    identifiers: Mapping[str, Sequence[str]] | None = None,
    tags: Mapping[str, Any] | None = None,
    segments: frozenset[str] = frozenset(),
    joined_at: datetime | None = None,
    belongings: Sequence[Belonging] = (),
) -> Person:
    """Return a person with one fact-carrying node and one more per further identifier."""
    named = [Node(kind, value) for kind, values in (identifiers or {}).items() for value in values]
    carrier = Node(
        "anonymous_id", "carrier", traits, consents, events, "shared", orders, belongings
    )
    return Person([carrier, *named], tags or {}, segments, joined_at)


def facts(someone: Person, accounts: Accounts | None = None) -> PersonFacts:
    """Return what the evaluator is told about a person."""
    identifiers: dict[str, list[str]] = {}
    for node in someone.nodes:
        if node.variant == "":
            identifiers.setdefault(node.type, []).append(node.value)
    return PersonFacts(
        traits=[fact for node in someone.nodes for fact in node.traits],
        identifiers=identifiers,
        consents=[
            fact._replace(node=index)
            for index, node in enumerate(someone.nodes)
            for fact in node.consents
        ],
        events=[fact for node in someone.nodes for fact in node.events],
        orders=[order.fact() for node in someone.nodes for order in node.orders],
        tags=someone.tags,
        segments=someone.segments,
        joined_at=someone.joined_at,
        memberships=[
            MembershipFact(*belonging, index)
            for index, node in enumerate(someone.nodes)
            for belonging in node.belongings
        ],
        accounts=accounts or {},
    )


def connect() -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with the product's tables and an empty ``scope``."""
    connection = duckdb.connect(":memory:", config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(CORE)
    connection.execute("CREATE TABLE scope (profile_no BIGINT)")
    return connection


def load(
    connection: duckdb.DuckDBPyConnection,
    people: Sequence[Person],
    scope: Sequence[int] = (),
    accounts: Accounts | None = None,
) -> None:
    """Replace everything in DuckDB by ``people``; profile numbers are their positions."""
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}
    named = {
        belonging.account_id for one in people for n in one.nodes for belonging in n.belongings
    }
    numbers = {account_id: n for n, account_id in enumerate(sorted({*named, *(accounts or {})}))}
    rows["accounts"] = [(number, account_id) for account_id, number in numbers.items()]
    for account_id, traits in (accounts or {}).items():
        for trait in traits:
            rows["account_facts"].append(
                (
                    numbers[account_id], "trait", trait.name, _json(trait.value), trait.at,
                    trait.message_id, trait.source,
                )
            )  # fmt: skip
    for number, someone in enumerate(people):
        rows["profiles"].append((number, f"prf_{number}", someone.joined_at, 1))
        for key, value in someone.tags.items():
            rows["tag_values"].append((key, number, f"prf_{number}", _json(value), None, 1))
        for key in someone.segments:
            rows["memberships"].append((key, number, f"prf_{number}", None, 1))
        for index, node in enumerate(someone.nodes):
            _add_node(rows, number, number * 100 + index, node)
            for account_id, is_member, *stamp in node.belongings:
                rows["account_members"].append(
                    (
                        numbers[account_id], number * 100 + index, "member",
                        _json(is_member), *stamp,
                    )
                )  # fmt: skip
    rows["scope"] = [(number,) for number in scope]
    for table, found in rows.items():
        name = table if table == "scope" else f"core.{table}"
        connection.execute(f"DELETE FROM {name}")
        if found:
            columns = [pa.array(column) for column in zip(*found, strict=True)]
            rows_given = pa.table(columns, names=[f"c{index}" for index in range(len(columns))])
            connection.register("rows_given", rows_given)
            connection.execute(f"INSERT INTO {name} SELECT * FROM rows_given")
            connection.unregister("rows_given")


def _add_node(
    rows: dict[str, list[tuple[Any, ...]]], number: int, node_id: int, node: Node
) -> None:
    rows["nodes"].append((node_id, node.type, node.value, node.variant, "", None, None, 0, None))
    rows["node_profiles"].append((node_id, "-infinity", "infinity", number))
    for trait in node.traits:
        rows["node_traits"].append(
            (
                node_id,
                trait.name,
                _json(trait.value),
                trait.at,
                trait.message_id,
                trait.source,
                trait.part,
                trait.rank,
            )
        )
    for consent in node.consents:
        rows["node_consents"].append((node_id, *consent[:5]))
    for event in node.events:
        rows["events"].append(
            (
                1, 0, node_id, event.source, event.message_id, "track", event.name,
                event.at, event.at, _json(event.properties), "{}", None,
            )
        )  # fmt: skip
    for order in node.orders:
        _add_order(rows, node_id, order)


def _add_order(rows: dict[str, list[tuple[Any, ...]]], node_id: int, order: OrderRow) -> None:
    order_no = len(rows["orders"]) + 1
    status, store, channel = (order.texts.get(name) for name in ("status", "store", "channel"))
    rows["orders"].append(
        (
            order_no, "", order.order_id, node_id, status, order.currency, order.total,
            order.refunded, order.total - order.refunded, store, channel, order.at, order.at,
            _json(dict(order.amounts)),
        )
    )  # fmt: skip
    for position, line in enumerate(order.lines, 1):
        texts = (line.get(name) for name in ("sku", "name", "category"))
        numbers = (line.get(name) for name in ("quantity", "price", "total"))
        rows["order_lines"].append((order_no, position, *texts, *numbers))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=len(repr(value)) % 2 == 0)


def profile_numbers(connection: duckdb.DuckDBPyConnection, statement: Compiled) -> list[int]:
    """Run a compiled rule and return what it selects, sorted; repeats stay visible."""
    return sorted(row[0] for row in connection.execute(statement.sql, statement.params).fetchall())


def members(
    connection: duckdb.DuckDBPyConnection,
    rule: Rule,
    now: datetime,
    timezone: str = "UTC",
    *,
    scope: bool = False,
    typed: TypedEvents | None = None,
) -> list[int]:
    """Return the numbers of the profiles for which DuckDB says the rule holds."""
    return profile_numbers(connection, compile_rule(rule, now, timezone, scope, typed=typed or {}))


def members_of_copies(
    connection: duckdb.DuckDBPyConnection, rule: Rule, now: datetime, timezone: str
) -> list[int]:
    """Return the same of the profiles in ``scope``, read from copies of their facts."""
    statement = compile_rule(rule, now, timezone, scope=True, copied=True)
    facts = CopiedFacts(connection, now)
    facts.cover(1, among="SELECT profile_no FROM scope")
    facts.copy(statement.copies)
    found = profile_numbers(connection, statement)
    # Of nobody else there are copies: whether others are left out must not matter.
    unlimited = compile_rule(rule, now, timezone, copied=True)
    assert profile_numbers(connection, unlimited) == found
    return found


def tag_values(
    connection: duckdb.DuckDBPyConnection,
    rule: EventFigure | EventCount,
    now: datetime,
    timezone: str = "UTC",
    *,
    typed: TypedEvents | None = None,
) -> dict[int, Any]:
    """Return the value of an aggregate for each profile that has one."""
    statement = compile_aggregate(rule, now, timezone, typed=typed or {})
    found = connection.execute(statement.sql, statement.params).fetchall()
    return {number: json.loads(value) for number, value in found}
