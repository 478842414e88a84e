"""Definitions of segments and tags: what they refer to, in which order they are evaluated. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, NamedTuple

from cdp.segments.paths import read_path

Kind = Literal["segment", "tag"]

KEY = re.compile(r"[a-z][a-z0-9_.]*")
LONGEST_KEY = 100
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_TIME_OPERATORS = frozenset({"within_last", "not_within_last"})
_TIME_FUNCTIONS = frozenset({"days_since_last", "days_since_first"})
_MOVING_WINDOWS = frozenset({"last", "calendar"})


class UnitName(NamedTuple):
    """What is evaluated as one: a segment or a tag."""

    kind: Kind
    key: str


@dataclass(frozen=True, slots=True)
class Definition:
    """The newest version of a segment's rule or of a tag's definition, as it was written."""

    kind: Kind
    key: str
    document: Any
    version: int
    evaluated_version: int = 0
    """The version that memberships or values follow; 0 before the first evaluation."""
    consent: str | None = None
    """Only who granted this purpose, or channel of one, is a member of the segment."""

    @property
    def name(self) -> UnitName:
        return UnitName(self.kind, self.key)

    @property
    def is_behind(self) -> bool:
        """Whether memberships or values still follow an older version, or none."""
        return self.evaluated_version < self.version


def is_key(text: str) -> bool:
    """Whether ``text`` can name a segment or a tag: ``[a-z][a-z0-9_.]*``, up to 100 characters."""
    return len(text) <= LONGEST_KEY and KEY.fullmatch(text) is not None


def clean_document(value: Any) -> Any:
    """Return a JSON value whose text can be stored: U+0000 and lone surrogates become U+FFFD."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [clean_document(inner) for inner in value]
    if isinstance(value, dict):
        return {clean_document(name): clean_document(inner) for name, inner in value.items()}
    return value


def find_rules(definition: Definition) -> Iterator[Any]:
    """Yield the rules in a definition: the segment's own, or those of a tag's cases, of a health
    score's components and of a lifecycle's stages."""
    if definition.kind == "segment":
        yield definition.document
        return
    if not isinstance(definition.document, dict):
        return
    for case in definition.document.get("cases", ()):
        yield case["when"]
    settings = definition.document.get("settings") or {}
    for component in settings.get("components") or ():
        yield component.get("rule", component)
    for stage in settings.get("stages") or ():
        if "when" in stage:
            yield stage["when"]


def find_references(rule: Any) -> Iterator[UnitName]:
    """Yield the segments and the tag *paths* that a rule names, in order."""
    if not isinstance(rule, dict):
        return
    if isinstance(rule.get("segment"), str):
        yield UnitName("segment", rule["segment"])
    if isinstance(rule.get("tag"), str):
        yield UnitName("tag", rule["tag"])
    for form in ("all", "any"):
        for inner in rule.get(form) or ():
            yield from find_references(inner)
    yield from find_references(rule.get("not"))


def find_asked(document: Any) -> Iterator[tuple[str, str]]:
    """Yield the events and the properties of theirs that a rule or definition asks for by value."""
    if isinstance(document, list):
        for inner in document:
            yield from find_asked(inner)
        return
    if not isinstance(document, dict):
        return
    event, aggregate = document.get("event"), document.get("aggregate")
    if isinstance(event, str):
        asked = [aggregate] if isinstance(aggregate, dict) else []
        for each in [*asked, *(document.get("where") or ())]:
            if isinstance(each, dict) and isinstance(each.get("property"), str):
                yield event, read_path(each["property"])[0]
    for inner in document.values():
        yield from find_asked(inner)


def resolve_tag(path: str, keys: Collection[str]) -> str | None:
    """Return the tag that ``path`` begins with: the longest existing key (the rest is a field)."""
    steps = path.split(".")
    for length in range(len(steps), 0, -1):
        key = ".".join(steps[:length])
        if key in keys:
            return key
    return None


def find_dependencies(definition: Definition, tag_keys: Collection[str]) -> set[UnitName]:
    """Return the units that must be evaluated before this one."""
    found: set[UnitName] = set()
    for rule in find_rules(definition):
        for reference in find_references(rule):
            if reference.kind == "segment":
                found.add(reference)
                continue
            key = resolve_tag(reference.key, tag_keys)
            if key is not None:
                found.add(UnitName("tag", key))
    return found


def depends_on_time(node: Any) -> bool:
    """Whether a rule or definition may change its answer while nothing happens.

    Facts dated in the future are not meant: every rule sees those once their time has come.
    """
    if isinstance(node, list):
        return any(depends_on_time(inner) for inner in node)
    if not isinstance(node, dict):
        return False
    if "builtin" in node:
        # Its figures move with the days, at most; the rules in it as any rule.
        settings = node.get("settings") or {}
        return depends_on_time([settings.get("components"), settings.get("stages")])
    within, aggregate = node.get("within"), node.get("aggregate")
    return (
        node.get("op") in _TIME_OPERATORS
        or (isinstance(within, dict) and not _MOVING_WINDOWS.isdisjoint(within))
        or (isinstance(aggregate, dict) and aggregate.get("fn") in _TIME_FUNCTIONS)
        or any(depends_on_time(inner) for name, inner in node.items() if name != "value")
    )


def order_units(definitions: Iterable[Definition]) -> list[Definition]:
    """Return the definitions so that each comes after those it refers to; otherwise by name.

    Raises ``graphlib.CycleError`` when some refer to each other in a circle.
    """
    by_name = {definition.name: definition for definition in definitions}
    return [by_name[name] for name in _sort(by_name) if name in by_name]


def find_cycle(definitions: Iterable[Definition]) -> list[UnitName]:
    """Return the units of one circle of references, first and last the same; empty if none."""
    try:
        _sort({definition.name: definition for definition in definitions})
    except CycleError as error:
        return list(error.args[1])
    return []


def find_users(name: UnitName, definitions: Iterable[Definition]) -> list[UnitName]:
    """Return the segments and tags that refer to the unit ``name``, sorted."""
    known = list(definitions)
    tag_keys = {each.key for each in known if each.kind == "tag"}
    return sorted(each.name for each in known if name in find_dependencies(each, tag_keys))


def _sort(by_name: Mapping[UnitName, Definition]) -> list[UnitName]:
    tag_keys = {name.key for name in by_name if name.kind == "tag"}
    sorter: TopologicalSorter[UnitName] = TopologicalSorter()
    for name in sorted(by_name):
        sorter.add(name, *sorted(find_dependencies(by_name[name], tag_keys)))
    return list(sorter.static_order())
