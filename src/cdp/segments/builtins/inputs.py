"""What a built-in tag reads, as it is shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdp.segments.builtins.definition import BuiltIn

Input = dict[str, Any]

_OF_ORDERS: dict[str, list[str]] = {
    "rfm": ["placed_at", "net"],
    "value_tier": ["placed_at", "net"],
    "clv": ["placed_at", "net"],
    "churn_risk": ["placed_at", "net"],
    "lifecycle": ["placed_at", "net"],
    "preferred": ["placed_at", "channel", "store", "lines.category"],
    "cross_sell": ["placed_at", "lines.category"],
}
_FACETS = {"hour": "placed_at", "category": "lines.category"}


def list_inputs(document: Mapping[str, Any], built_in: BuiltIn) -> list[Input]:
    """Return what the tag of a checked definition reads: of orders, events, traits, tags,

    identifiers or rules, which ones and which of their fields.
    """
    settings = built_in.effective
    name = built_in.name
    if name == "health":
        return [_read_component(each) for each in settings["components"]]
    if name == "churn_risk" and settings["method"] == "contractual":
        return [{"from": "traits", "fields": [settings["started"], settings["ended"]]}]
    if name == "nps":
        fields = [
            settings[each] for each in ("property", "survey", "touchpoint") if each in settings
        ]
        return [_events(settings, fields)]
    if name == "sentiment":
        texts = settings.get("texts") or [settings]
        return [_events(each, _as_list(each.get("property"))) for each in texts]
    if name == "engagement":
        events = settings.get("events") or "all"
        within = {"last": settings["window"]}
        return [{"from": "events", "event": events, "fields": ["timestamp"], "within": within}]
    orders = [_orders(document, settings, _list_fields(name, settings))]
    return [*_read_stages(settings), *orders] if name == "lifecycle" else orders


def _list_fields(name: str, settings: Mapping[str, Any]) -> list[str]:
    if name == "preferred":
        facets = [_FACETS.get(facet, facet) for facet in settings["of"]]
        return list(dict.fromkeys(["placed_at", *facets]))
    if name == "cross_sell":
        return ["placed_at", f"lines.{settings['by']}"]
    return _OF_ORDERS[name]


def _orders(document: Mapping[str, Any], settings: Mapping[str, Any], fields: list[str]) -> Input:
    chosen = document.get("orders") or {}
    found: Input = {"from": "orders", "fields": fields}
    found |= {name: chosen[name] for name in ("where", "line_where", "within") if name in chosen}
    if "within" in settings:
        found["within"] = settings["within"]
    return found


def _events(settings: Mapping[str, Any], fields: list[str]) -> Input:
    found: Input = {"from": "events", "event": settings["event"], "fields": fields}
    return found | {name: settings[name] for name in ("where", "within") if name in settings}


def _read_component(component: Mapping[str, Any]) -> Input:
    for kind in ("trait", "tag"):
        if kind in component and "op" not in component:
            return {"from": f"{kind}s", "fields": [component[kind]]}
    rest = {k: v for k, v in component.items() if k not in ("weight", "name", "range")}
    return {"from": "rules", "rule": rest["rule"] if set(rest) == {"rule"} else rest}


def _read_stages(settings: Mapping[str, Any]) -> list[Input]:
    rules = [stage["when"] for stage in settings["stages"] if stage.get("when") is not None]
    if rules:
        return [{"from": "rules", "rule": rule} for rule in rules]
    return [{"from": "identifiers", "fields": ["type"]}]


def _as_list(value: Any) -> list[str]:
    return list(value) if isinstance(value, list) else [str(value)]
