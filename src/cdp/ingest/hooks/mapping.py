"""The mapping of a ``custom`` hook: from whatever is sent to events, orders and people. Pure.

    {"kind": "orders",                  events | orders | profiles, or an expression that says so
     "each": "data.orders",             where the elements are; by default the body is the one
     "fields": {                        target → JMESPath expression on the element
       "order_id": "id",
       "total": "amount.value",
       "identifiers.email": "buyer.mail"}}

    {"event": "name", "userId": "who"}  the fields alone: orders when there is order_id, else events
    "{event: name, userId: who}"        an expression that makes whole events or orders
    {}                                  the body is events or orders as they are posted

Targets of events: those of the wire (``type``, ``event``, ``timestamp``, ``messageId``, ``userId``,
``anonymousId``, ``properties.*``, ``traits.*``, ``context.*``). Of profiles: ``traits.*``,
``timestamp``, ``messageId``. Of orders: the fields of a posted order. Of all: ``identifiers.TYPE``;
of events and profiles: ``consent.PURPOSE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cdp.ingest.hooks.expressions import Budget, Expression, ExpressionError

Kind = Literal["events", "orders", "profiles"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MOST_ELEMENTS = 1_000

_MOST_FIELDS = 200
_EVENT_TARGETS = frozenset(
    {
        "type", "event", "name", "timestamp", "messageId", "userId", "anonymousId", "groupId",
        "previousId", "properties", "traits", "context", "identifiers", "consent",
    }
)  # fmt: skip
_ORDER_TARGETS = frozenset(
    {
        "order_id", "placed_at", "updated_at", "status", "currency", "total", "discount", "tax",
        "shipping", "store", "channel", "lines", "refunds", "identifiers", "messageId", "partial",
    }
)  # fmt: skip
_WITH_PARTS = frozenset({"properties", "traits", "context", "identifiers", "consent"})
_NEED_PARTS = frozenset({"identifiers", "consent"})

_WHOLE_KIND = Expression("(order_id && !type) && 'orders' || 'events'")
_WHOLE_LISTS = ("batch", "orders")

Wrong = tuple[str, str]
"""The path of a mistake behind ``/settings/mapping``, and what it is."""


@dataclass(frozen=True, slots=True)
class HookMapping:
    """A mapping, read. ``kind`` is fixed, or found by an expression in each element."""

    kind: Kind | Expression
    each: Expression | None
    fields: Mapping[tuple[str, ...], Expression]

    @property
    def makes_whole(self) -> bool:
        """Whether elements are events or orders already, and no fields are filled."""
        return not self.fields


def read_mapping(value: Any) -> HookMapping | Wrong:
    """Read a mapping document, or say where it is wrong."""
    if value == {} or isinstance(value, str):
        whole = _read_expression(value or "@", "")
        return whole if isinstance(whole, tuple) else HookMapping(_WHOLE_KIND, whole, {})
    if not isinstance(value, dict):
        return "", 'an object with "kind" and "fields", or an expression'
    others = value.keys() - {"kind", "each", "fields"}
    if others and len(others) < len(value):
        return f"/{min(others)}", 'a mapping has "kind", "each" and "fields"'
    if others:
        short = {"kind": "orders" if "order_id" in value else "events", "fields": value}
        read_short = read_mapping(short)
        if isinstance(read_short, HookMapping):
            return read_short
        path, message = read_short
        return path.removeprefix("/fields"), message
    said = value.get("kind")
    kind: Kind | Expression | Wrong = said if said in KINDS else _read_expression(said, "/kind")
    if isinstance(kind, tuple):
        return kind
    each = None if value.get("each") is None else _read_expression(value["each"], "/each")
    if isinstance(each, tuple):
        return each
    targets = _list_targets(kind)
    fields = value.get("fields")
    if not isinstance(fields, dict) or not 0 < len(fields) <= _MOST_FIELDS:
        return "/fields", f"an object of 1 to {_MOST_FIELDS} targets, each with an expression"
    read: dict[tuple[str, ...], Expression] = {}
    for target, text in fields.items():
        path = f"/fields/{_escape(target)}"
        wrong = _check_target(target, targets)
        if wrong:
            return path, wrong
        expression = _read_expression(text, path)
        if isinstance(expression, tuple):
            return expression
        read[_split(target)] = expression
    if kind == "orders" and ("order_id",) not in read:
        return "/fields/order_id", "orders need an expression for order_id"
    return HookMapping(kind, each, read)


def find_elements(mapping: HookMapping, body: Any, budget: Budget) -> list[Any]:
    """Return the elements of a body. Raises ``ExpressionError``, also for too many."""
    if mapping.each is None:
        return [body]
    found = mapping.each.evaluate(body, budget)
    if mapping.makes_whole and isinstance(found, dict):
        found = next((found[n] for n in _WHOLE_LISTS if isinstance(found.get(n), list)), found)
    elements = found if isinstance(found, list) else [] if found is None else [found]
    if len(elements) > MOST_ELEMENTS:
        raise ExpressionError(f"a delivery has at most {MOST_ELEMENTS} elements")
    return elements


def find_kind(mapping: HookMapping, element: Any, budget: Budget) -> Kind | None:
    """Return what an element is; ``None`` when the mapping's expression names no kind."""
    if not isinstance(mapping.kind, Expression):
        return mapping.kind
    said = mapping.kind.evaluate(element, budget)
    return next((kind for kind in KINDS if kind == said), None)


def fill_fields(mapping: HookMapping, element: Any, budget: Budget) -> dict[str, Any]:
    """Return the targets with what the expressions find; what they do not find is absent.

    An element that is a whole event or order has them already.
    """
    if mapping.makes_whole:
        if not isinstance(element, dict):
            raise ExpressionError("this is no object")
        return {name: value for name, value in element.items() if value is not None}
    filled: dict[str, Any] = {}
    for target, expression in mapping.fields.items():
        value = expression.evaluate(element, budget)
        if value is None:
            continue
        place = filled
        for name in target[:-1]:
            below = place.setdefault(name, {})
            place = below if isinstance(below, dict) else place
        place[target[-1]] = value
    return filled


def _list_targets(kind: Kind | Expression) -> frozenset[str]:
    if kind == "orders":
        return _ORDER_TARGETS
    return _EVENT_TARGETS if isinstance(kind, str) else _EVENT_TARGETS | _ORDER_TARGETS


def _check_target(target: str, targets: frozenset[str]) -> str:
    head, dot, rest = target.partition(".")
    if head not in targets:
        return f"no such target; there are {', '.join(sorted(targets))}"
    if dot and head not in _WITH_PARTS:
        return f"`{head}` has no parts"
    if head in _NEED_PARTS and not rest:
        return f"say which: {head}.NAME"
    return ""


def _split(target: str) -> tuple[str, ...]:
    head, dot, rest = target.partition(".")
    if not dot:
        return (head,)
    # The name of a type or a purpose may itself have dots.
    return (head, rest) if head in _NEED_PARTS else (head, *rest.split("."))


def _read_expression(text: Any, path: str) -> Expression | Wrong:
    if not isinstance(text, str) or not text:
        return path, "a JMESPath expression, as text"
    try:
        return Expression(text)
    except ExpressionError as error:
        return path, str(error)


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
