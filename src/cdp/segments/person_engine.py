"""One person's facts out of DuckDB, for the answer to "why"."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from cdp.rates import NO_RATES, Rate, RateTable
from cdp.segments.evaluate import (
    ConsentFact,
    EventFact,
    MembershipFact,
    OrderFact,
    PersonFacts,
    TraitFact,
)
from cdp.segments.evaluate_orders import make_order_fact


class Reader(Protocol):
    """What reading needs of the analytics engine."""

    def read(self, sql: str, params: Any = None, *, timeout: float | None = None) -> pa.Table: ...


# The facts of a node belong to whoever owned it at their time, like its events.
_OWNED = """core.{table} f JOIN core.node_profiles np
    ON np.node_id = f.node_id AND f."at" >= np.since AND f."at" < np.until
 WHERE np.profile_no = $profile_no"""
_TRAITS = f"""SELECT f.name, f.value::VARCHAR AS value, f."at", f.message_id, f.source_number,
                     f.part, f.rank
                FROM {_OWNED.format(table="node_traits")}"""
_CONSENTS = f"""SELECT f.purpose, f.granted, f."at", f.message_id, f.source_number, f.node_id
                  FROM {_OWNED.format(table="node_consents")}"""
_EVENTS = """SELECT event, "at", message_id, source_id, properties::VARCHAR AS properties
               FROM core.profile_events WHERE profile_no = $profile_no AND event IS NOT NULL"""
_ORDERS = """SELECT o.order_no, o.order_id, o.scope, o.placed_at, o.status, o.currency, o.store,
                    o.channel, o.net, o.refunded, o.document::VARCHAR AS document,
                    coalesce(c.units, 100) AS units
               FROM core.orders o JOIN core.node_profiles np
                 ON np.node_id = o.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
               LEFT JOIN core.currencies c ON c.currency = o.currency
              WHERE np.profile_no = $profile_no"""
_LINES = """SELECT l.order_no, l.sku, l.name, l.category, l.quantity, l.price, l.total
              FROM core.order_lines l JOIN core.orders o USING (order_no)
              JOIN core.node_profiles np
                ON np.node_id = o.node_id AND o.placed_at >= np.since AND o.placed_at < np.until
             WHERE np.profile_no = $profile_no ORDER BY l.order_no, l.position"""
_RATES = """SELECT currency, "to", "at", rate FROM core.rates
             WHERE list_contains($currencies, currency) OR list_contains($currencies, "to")"""
_MEMBERSHIPS = f"""SELECT a.account_id, f.value::VARCHAR = 'true' AS is_member, f."at",
                          f.message_id, f.source_number, f.node_id
                     FROM core.accounts a, {_OWNED.format(table="account_members")}
                      AND f.account_no = a.account_no AND f.fact = 'member'"""
_ACCOUNT_TRAITS = """SELECT a.account_id, f.name, f.value::VARCHAR AS value, f."at", f.message_id,
                            f.source_number
                       FROM core.account_facts f JOIN core.accounts a USING (account_no)
                      WHERE f.kind = 'trait' AND list_contains($accounts, a.account_id)"""
_IDENTIFIERS = """SELECT n.type, n.value
                    FROM core.nodes n JOIN core.node_profiles np USING (node_id)
                   WHERE np.profile_no = $profile_no AND np.until = 'infinity'
                     AND n.variant = '' ORDER BY n.type, n.first_seen, n.value"""
_TAGS = "SELECT key, value::VARCHAR AS value FROM core.tag_values WHERE profile_no = $profile_no"
_SEGMENTS = "SELECT segment FROM core.memberships WHERE profile_no = $profile_no"
_JOINED = "SELECT joined_at FROM core.profiles WHERE profile_no = $profile_no"


def read_person_facts(reader: Reader, profile_no: int) -> PersonFacts:
    """Return everything that a rule can ask about one profile."""
    params = {"profile_no": profile_no}

    def rows(sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = reader.read(sql, params).to_pylist()
        return found

    identifiers: Mapping[str, list[str]] = defaultdict(list)
    for row in rows(_IDENTIFIERS):
        identifiers[row["type"]].append(row["value"])
    joined: list[datetime | None] = [row["joined_at"] for row in rows(_JOINED)]
    orders = _read_orders(rows(_ORDERS), rows(_LINES))
    memberships = [MembershipFact(*row.values()) for row in rows(_MEMBERSHIPS)]
    return PersonFacts(
        traits=[_read_trait(row) for row in rows(_TRAITS)],
        identifiers=identifiers,
        consents=[ConsentFact(*row.values()) for row in rows(_CONSENTS)],
        events=[
            EventFact(
                row["event"],
                row["at"],
                row["message_id"],
                row["source_id"],
                json.loads(row["properties"]),
            )
            for row in rows(_EVENTS)
        ],
        orders=orders,
        tags={row["key"]: json.loads(row["value"]) for row in rows(_TAGS)},
        segments=frozenset(row["segment"] for row in rows(_SEGMENTS)),
        joined_at=joined[0] if joined else None,
        memberships=memberships,
        accounts=_read_accounts(reader, {fact.account_id for fact in memberships}),
        rates=_read_rates(reader, {order.currency for order in orders}),
    )


def _read_trait(row: Mapping[str, Any]) -> TraitFact:
    value = json.loads(row["value"])
    return TraitFact(
        row["name"],
        value,
        row["at"],
        row["message_id"],
        row["source_number"],
        row.get("part", ""),
        row.get("rank", 0),
    )


def _read_rates(reader: Reader, currencies: set[str]) -> RateTable:
    if not currencies:
        return NO_RATES
    found = reader.read(_RATES, {"currencies": sorted(currencies)})
    return RateTable(Rate(*row.values()) for row in found.to_pylist())


def _read_accounts(reader: Reader, account_ids: set[str]) -> dict[str, list[TraitFact]]:
    traits: dict[str, list[TraitFact]] = {account_id: [] for account_id in account_ids}
    if traits:
        for row in reader.read(_ACCOUNT_TRAITS, {"accounts": sorted(traits)}).to_pylist():
            traits[row["account_id"]].append(_read_trait(row))
    return traits


def _read_orders(orders: list[dict[str, Any]], lines: list[dict[str, Any]]) -> list[OrderFact]:
    lines_of: Mapping[int, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        lines_of[line.pop("order_no")].append(line)
    return [
        make_order_fact(
            {**json.loads(order["document"]), **order, "total": order["net"]},
            lines_of[order["order_no"]],
            order["units"],
        )
        for order in orders
    ]
