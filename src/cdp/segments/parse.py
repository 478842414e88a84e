"""Rule document → tree. Every mistake is a 422 that points at its place in the posted body."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cdp.reach import CHANNELS, name_statement, split_name
from cdp.segments import regex_engine
from cdp.segments.order_fields import find_type
from cdp.segments.parse_orders import (
    compares_with_money,
    read_conversion,
    read_field,
    read_order_comparison,
    read_orders,
)
from cdp.segments.parse_values import (
    PatternCheck,
    below,
    mistake,
    read_comparison,
    read_count,
    read_list,
    read_object,
    read_rule_duration,
    read_text,
    read_value_path,
    read_window,
    require_keys,
)
from cdp.segments.rules import (
    ELAPSED_FUNCTIONS,
    FUNCTIONS,
    AllOf,
    AnyAccount,
    AnyOf,
    Condition,
    Consent,
    EventCount,
    EventFigure,
    Events,
    Function,
    HasIdentifier,
    InSegment,
    Not,
    Orders,
    Origin,
    Path,
    Rule,
    Scalar,
    Sequence,
    Step,
    Tag,
    Trait,
)

FORMS = (
    "all", "any", "not", "trait", "identifier", "tag", "segment", "event", "orders",
    "sequence", "account", "consent",
)  # fmt: skip
ACCOUNT_FORMS = ("all", "any", "not", "trait")
"""What can be asked of an account."""
DEEPEST = 32
LARGEST_BYTES = 1024 * 1024

NormaliseIdentifier = Callable[[str, Scalar], str | None]


@dataclass(frozen=True, slots=True)
class ParseContext:
    """What a rule may refer to. ``None`` for segments or tags leaves their existence unchecked.

    ``normalise`` gives the normalised form of an identifier (type, value), or None for no such.
    """

    segments: Collection[str] | None = None
    tags: Collection[str] | None = None
    normalise: NormaliseIdentifier | None = None
    check_pattern: PatternCheck = regex_engine.pattern_error


def parse_rule(
    document: object,
    path: str = "/rule",
    known_segments: Collection[str] | None = None,
    known_tags: Collection[str] | None = None,
    *,
    normalise: NormaliseIdentifier | None = None,
    check_pattern: PatternCheck = regex_engine.pattern_error,
) -> Rule:
    """Read a rule document that was posted at ``path`` of its body.

    Raises ``Unprocessable`` whose ``details.path`` is the JSON Pointer of the first mistake.
    """
    context = ParseContext(known_segments, known_tags, normalise, check_pattern)
    rule = _Parser(context).rule(document, path, 1)
    _require_size(document, path)
    return rule


def parse_aggregate(
    document: object,
    path: str = "/definition/aggregate",
    *,
    check_pattern: PatternCheck = regex_engine.pattern_error,
) -> EventFigure | EventCount:
    """Read a tag's ``aggregate``: an event or order rule without op and value; without
    ``aggregate`` the number of them. Raises ``Unprocessable`` as ``parse_rule`` does."""
    figure = read_object(document, path, "an aggregate")
    origin = Origin(path, figure)
    if "orders" in figure:
        require_keys(figure, path, ("orders",), ("within", "aggregate"))
        orders = read_orders(figure, path, check_pattern)
        if "aggregate" not in figure:
            return EventCount(orders, None, origin)
        return _read_order_figure(orders, figure, path)
    require_keys(figure, path, ("event",), ("where", "within", "aggregate"))
    events = _Parser(ParseContext(check_pattern=check_pattern)).events(figure, path)
    if "aggregate" not in figure:
        return EventCount(events, None, origin)
    function, property_path = _read_function(figure["aggregate"], below(path, "aggregate"))
    return EventFigure(events, function, property_path, None, origin)


def _require_size(document: object, path: str) -> None:
    size = len(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > LARGEST_BYTES:
        raise mistake("rule_too_large", f"a rule takes up to 1 MB; this one has {size} bytes", path)


class _Parser:
    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def rule(
        self, document: object, pointer: str, depth: int, allowed: Collection[str] = FORMS
    ) -> Rule:
        if depth > DEEPEST:
            raise mistake("rule_too_deep", f"rules nest up to {DEEPEST} deep", pointer)
        node = read_object(document, pointer, "a rule")
        forms = [key for key in FORMS if key in node]
        if len(forms) > 1:
            raise mistake(
                "two_forms", f"a rule has one form, this one has {', '.join(forms)}", pointer
            )
        if not forms:
            raise mistake("unknown_form", f"a rule is one of {', '.join(FORMS)}", pointer)
        form = forms[0]
        if form not in allowed:
            message = f"inside 'account' a rule is one of {', '.join(allowed)}"
            raise mistake("unknown_form", message, pointer)
        if form in ("all", "any", "not"):
            return self._combination(node, form, pointer, depth, allowed)
        if form == "account":
            return self._account(node, pointer, depth)
        leaf: Callable[[Mapping[str, Any], str], Rule] = getattr(self, f"_{form}")
        return leaf(node, pointer)

    def _account(self, node: Mapping[str, Any], pointer: str, depth: int) -> AnyAccount:
        require_keys(node, pointer, ("account",))
        where = below(pointer, "account")
        rule = self.rule(node["account"], where, depth + 1, ACCOUNT_FORMS)
        return AnyAccount(rule, Origin(pointer, node))

    def _combination(
        self,
        node: Mapping[str, Any],
        form: str,
        pointer: str,
        depth: int,
        allowed: Collection[str],
    ) -> AllOf | AnyOf | Not:
        require_keys(node, pointer, (form,))
        origin, where = Origin(pointer, node), below(pointer, form)
        if form == "not":
            return Not(self.rule(node["not"], where, depth + 1, allowed), origin)
        items = read_list(node[form], where, f"'{form}'")
        rules = tuple(
            self.rule(item, below(where, index), depth + 1, allowed)
            for index, item in enumerate(items)
        )
        return AllOf(rules, origin) if form == "all" else AnyOf(rules, origin)

    def _trait(self, node: Mapping[str, Any], pointer: str) -> Trait:
        require_keys(node, pointer, ("trait", "op"), ("value",))
        path = read_value_path(node["trait"], below(pointer, "trait"), "a trait")
        comparison = read_comparison(node, pointer, self._context.check_pattern)
        return Trait(path, comparison, Origin(pointer, node))

    def _identifier(self, node: Mapping[str, Any], pointer: str) -> HasIdentifier:
        require_keys(node, pointer, ("identifier", "op"), ("value",))
        kind = read_text(node["identifier"], below(pointer, "identifier"), "an identifier type")
        comparison = read_comparison(
            _with_digits(node),
            pointer,
            self._context.check_pattern,
            lambda value: self._normalised(kind, value),
        )
        return HasIdentifier(kind, comparison, Origin(pointer, node))

    def _normalised(self, kind: str, value: Scalar) -> Scalar:
        if self._context.normalise is None:
            return value
        normal = self._context.normalise(kind, value)
        # What is no identifier of that type equals none; it stays as written.
        return value if normal is None else normal

    def _tag(self, node: Mapping[str, Any], pointer: str) -> Tag:
        require_keys(node, pointer, ("tag", "op"), ("value",))
        where = below(pointer, "tag")
        key, path = self._tag_key(read_value_path(node["tag"], where, "a tag"), where)
        comparison = read_comparison(node, pointer, self._context.check_pattern)
        return Tag(key, path, comparison, Origin(pointer, node))

    def _tag_key(self, path: Path, pointer: str) -> tuple[str, Path]:
        known = self._context.tags
        if known is None:
            return path[0], path[1:]
        for length in range(len(path), 0, -1):
            if (key := ".".join(path[:length])) in known:
                return key, path[length:]
        raise mistake("unknown_tag", f"there is no tag '{'.'.join(path)}'", pointer)

    def _segment(self, node: Mapping[str, Any], pointer: str) -> InSegment:
        require_keys(node, pointer, ("segment",))
        where = below(pointer, "segment")
        key = read_text(node["segment"], where, "a segment")
        if self._context.segments is not None and key not in self._context.segments:
            raise mistake("unknown_segment", f"there is no segment '{key}'", where)
        return InSegment(key, Origin(pointer, node))

    def _consent(self, node: Mapping[str, Any], pointer: str) -> Consent:
        require_keys(node, pointer, ("consent", "op"), ("channel",))
        where = below(pointer, "consent")
        purpose = read_text(node["consent"], where, "a purpose")
        if "channel" in node:
            at_channel = below(pointer, "channel")
            if node["channel"] not in CHANNELS:
                known = ", ".join(CHANNELS)
                raise mistake("unknown_channel", f"a channel is one of {known}", at_channel)
            if split_name(purpose)[1] is not None:
                raise mistake("bad_value", "the purpose names a channel already", where)
            purpose = name_statement(purpose, node["channel"])
        if node["op"] not in ("granted", "denied"):
            raise mistake("unknown_op", "consent is granted or denied", below(pointer, "op"))
        return Consent(purpose, node["op"] == "granted", Origin(pointer, node))

    def _event(self, node: Mapping[str, Any], pointer: str) -> EventCount | EventFigure:
        origin = Origin(pointer, node)
        if "aggregate" not in node:
            require_keys(node, pointer, ("event",), ("where", "within", "count"))
            events = self.events(node, pointer)
            if "count" not in node:
                return EventCount(events, None, origin)
            return EventCount(events, read_count(node["count"], below(pointer, "count")), origin)
        if "count" in node:
            raise mistake("two_forms", "a rule has a count or an aggregate, not both", pointer)
        require_keys(node, pointer, ("event", "aggregate", "op"), ("value", "where", "within"))
        events = self.events(node, pointer)
        function, path = _read_function(node["aggregate"], below(pointer, "aggregate"))
        comparison = read_comparison(node, pointer, self._context.check_pattern)
        return EventFigure(events, function, path, comparison, origin)

    def _orders(self, node: Mapping[str, Any], pointer: str) -> EventCount | EventFigure:
        check_pattern = self._context.check_pattern
        if "aggregate" not in node:
            require_keys(node, pointer, ("orders",), ("within", "count"))
            orders = read_orders(node, pointer, check_pattern)
            at = below(pointer, "count")
            count = read_count(node["count"], at) if "count" in node else None
            return EventCount(orders, count, Origin(pointer, node))
        if "count" in node:
            raise mistake("two_forms", "a rule has a count or an aggregate, not both", pointer)
        require_keys(node, pointer, ("orders", "aggregate", "op"), ("value", "within"))
        orders = read_orders(node, pointer, check_pattern)
        figure = _read_order_figure(orders, node, pointer)
        kind = find_type(figure.path)
        comparison = read_order_comparison(
            node, pointer, check_pattern, takes_money=compares_with_money(figure.function, kind)
        )
        return replace(figure, comparison=comparison)

    def events(self, node: Mapping[str, Any], pointer: str) -> Events:
        """Read the parts that say which events are meant: event, where, within."""
        name = read_text(node["event"], below(pointer, "event"), "an event")
        at = below(pointer, "where")
        where: tuple[Condition, ...] = ()
        if "where" in node:
            where = tuple(
                self._condition(item, below(at, index))
                for index, item in enumerate(read_list(node["where"], at, "'where'"))
            )
        within = read_window(node["within"], below(pointer, "within")) if "within" in node else None
        return Events(name, where, within)

    def _condition(self, value: object, pointer: str) -> Condition:
        node = read_object(value, pointer, "a condition")
        require_keys(node, pointer, ("property", "op"), ("value",))
        path = read_value_path(node["property"], below(pointer, "property"), "a property")
        return Condition(path, read_comparison(node, pointer, self._context.check_pattern), pointer)

    def _sequence(self, node: Mapping[str, Any], pointer: str) -> Sequence:
        require_keys(node, pointer, ("sequence",), ("within",))
        where = below(pointer, "sequence")
        items = read_list(node["sequence"], where, "a sequence")
        if not items:
            raise mistake("bad_value", "a sequence has at least one step", where)
        steps = tuple(
            self._step(item, below(where, index), is_first=index == 0)
            for index, item in enumerate(items)
        )
        within = read_window(node["within"], below(pointer, "within")) if "within" in node else None
        return Sequence(steps, within, Origin(pointer, node))

    def _step(self, value: object, pointer: str, *, is_first: bool) -> Step:
        node = read_object(value, pointer, "a step")
        require_keys(node, pointer, ("event",), ("where",) if is_first else ("where", "after"))
        events = self.events(node, pointer)
        if "after" not in node:
            return Step(events)
        at = below(pointer, "after")
        after = read_object(node["after"], at, "'after'")
        require_keys(after, at, (), ("min", "max"))
        gaps = {key: read_rule_duration(after[key], below(at, key)) for key in after}
        return Step(events, gaps.get("min"), gaps.get("max"))


def _with_digits(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the node with whole numbers as their digits where it names identifiers: so the wire
    takes them, and as doubles long ones would lose their end."""
    if node.get("op") not in ("eq", "ne", "in", "not_in"):
        return dict(node)

    def digits(value: object) -> object:
        if isinstance(value, list):
            return [digits(item) for item in value]
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return str(value) if is_whole else value

    return {key: digits(value) if key == "value" else value for key, value in node.items()}


def _read_order_figure(orders: Orders, node: Mapping[str, Any], pointer: str) -> EventFigure:
    """Read an aggregate over orders, without its comparison."""
    at = below(pointer, "aggregate")
    written = read_object(node["aggregate"], at, "an aggregate")
    rest = {key: value for key, value in written.items() if key != "currency"}
    function, path = _read_function(rest, at)
    kind = read_field(written["property"], below(at, "property"))[1] if path else None
    currency = read_conversion(written, at, function, kind)
    return EventFigure(orders, function, path, None, Origin(pointer, node), currency)


def _read_function(value: object, pointer: str) -> tuple[Function, Path]:
    """Read ``{"fn", "property"}``."""
    node = read_object(value, pointer, "an aggregate")
    where = below(pointer, "fn")
    if "fn" not in node:
        raise mistake("missing_part", "'fn' is missing", where)
    function = node["fn"]
    if not isinstance(function, str) or function not in FUNCTIONS:
        raise mistake(
            "unknown_fn", f"{function!r} is no function; known: {', '.join(FUNCTIONS)}", where
        )
    if function in ELAPSED_FUNCTIONS:
        require_keys(node, pointer, ("fn",))
        return function, ()
    require_keys(node, pointer, ("fn", "property"))
    path = read_value_path(node["property"], below(pointer, "property"), "a property")
    return function, path
