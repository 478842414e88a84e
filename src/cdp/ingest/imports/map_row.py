"""From the cells of a row to the document of an event, order or account. Pure.

    mapping + column names ─► compile_mapping ─► Mapper: cells ─► document

What depends on the columns alone is decided once; a row costs one loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cdp.errors import Unprocessable
from cdp.ingest.imports.mapping import Column
from cdp.ingest.imports.mapping import Mapping as RowMapping
from cdp.ingest.imports.presets import CONSTANTS, apply_preset
from cdp.ingest.imports.put_value import Put, make_put, make_put_identifier, with_currency
from cdp.ingest.imports.targets import ALIASES, FIELDS, OBJECTS, TIMES, Kind, check_target
from cdp.ingest.imports.values import Convert, make_converter, make_plain, read_object, read_text

_IDS = frozenset({"userId", "anonymousId", "messageId", "groupId", "previousId"})
_TEXTS = _IDS | {
    "type", "event", "name", "category", "order_id", "account_id", "status", "currency", "store",
    "channel",
}  # fmt: skip
_MOST_SHAPES = 500


class RowRefused(Exception):
    """A row that cannot become a document: the verdict, without any of its values."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Step(NamedTuple):
    """What becomes of one column."""

    place: int
    name: str
    convert: Convert | None
    put: Put


class Mapper:
    """Maps rows of one file. Cells are a sequence in the order of ``columns``."""

    def __init__(self, steps: Sequence[_Step], constants: Sequence[tuple[Put, Any]], *, empty: str):
        self._steps = steps
        self._constants = constants
        self._keeps_empty = empty == "null"

    def map(self, cells: Sequence[Any]) -> dict[str, Any]:
        """Return the document; raises ``RowRefused`` naming the column that cannot be read."""
        document: dict[str, Any] = {}
        for put, value in self._constants:
            put(document, value)
        for place, name, convert, put in self._steps:
            cell = cells[place]
            if cell is None or cell == "":
                if self._keeps_empty:
                    put(document, None)
                continue
            if convert is not None:
                try:
                    cell = convert(cell)
                except ValueError as error:
                    raise RowRefused("invalid_value", f"column {name}: {error}") from error
            put(document, cell)
        return document


def compile_mapping(
    mapping: RowMapping,
    kind: Kind,
    columns: Sequence[str],
    *,
    timezone: str,
    currency: str,
    is_typed: bool,
    may_lack: bool = False,
) -> Mapper:
    """Return the mapper for a file with these ``columns``.

    ``timezone`` and ``currency`` hold where the mapping says none; ``is_typed`` is whether cells
    have types (Parquet) rather than all being text. Raises ``Unprocessable`` with
    ``details.path`` when the mapping names a column that the file does not have, unless it
    ``may_lack`` some.
    """
    chosen = dict(mapping.columns)
    constants = dict(mapping.constants)
    if mapping.preset is not None:
        chosen |= apply_preset(mapping.preset, kind, columns, chosen)
        constants = {**CONSTANTS.get((mapping.preset, kind), {}), **constants}
    known = set(columns)
    for name in mapping.columns:
        if name not in known and not may_lack:
            raise Unprocessable(
                "unknown_column",
                f"the file has no column {name!r}; it has {', '.join(columns)[:500]}",
                path=f"/mapping/columns/{name.replace('~', '~0').replace('/', '~1')}",
            )
    timezone, currency = mapping.timezone or timezone, mapping.currency or currency
    steps: list[_Step] = []
    seen: set[str] = set()
    for index, name in enumerate(columns):
        if not name or name in seen:
            continue
        seen.add(name)
        column = chosen.get(name)
        if column is None:
            column = _place_unknown(name, kind, mapping, is_typed=is_typed)
        if column is None or column.to is None:
            continue
        target = column.to
        convert = make_converter(column, target=target, timezone=timezone, currency=currency)
        if convert is None:
            convert = _default_converter(target, kind, timezone, currency, is_typed=is_typed)
        put = make_put(target, kind)
        if column.type == "money" and target.startswith("properties."):
            put = with_currency(put, column.currency or currency)
        steps.append(_Step(index, name, convert, put))
    puts = [(make_put(target, kind), value) for target, value in constants.items()]
    return Mapper(steps, puts, empty=mapping.empty)


class ObjectMapper:
    """Maps JSON objects, whose keys are columns; a dotted column reaches into nested ones."""

    def __init__(self, mapping: RowMapping, kind: Kind, *, timezone: str, currency: str) -> None:
        self._mapping = mapping
        self._kind = kind
        self._timezone = timezone
        self._currency = currency
        self._dotted = tuple(name for name in mapping.columns if "." in name)
        self._known: dict[tuple[str, ...], tuple[Mapper, tuple[str, ...]]] = {}

    def map(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return the document; raises ``RowRefused``."""
        keys = tuple(found)
        known = self._known.get(keys)
        if known is None:
            known = self._compile(keys)
            if len(self._known) < _MOST_SHAPES:
                self._known[keys] = known
        mapper, dotted = known
        cells = [*found.values(), *(reach(found, name) for name in dotted)]
        return mapper.map(cells)

    def _compile(self, keys: tuple[str, ...]) -> tuple[Mapper, tuple[str, ...]]:
        dotted = tuple(n for n in self._dotted if n not in keys and n.partition(".")[0] in keys)
        # What is reached into is known, so it is not kept whole beside.
        heads = {name.partition(".")[0] for name in dotted} - self._mapping.columns.keys()
        columns = [("" if key in heads else key) for key in keys] + list(dotted)
        try:
            mapper = compile_mapping(
                self._mapping,
                self._kind,
                columns,
                timezone=self._timezone,
                currency=self._currency,
                is_typed=True,
                may_lack=True,
            )
        except Unprocessable as error:
            raise RowRefused(error.code, error.message) from error
        return mapper, dotted


def reach(found: Any, path: str) -> Any:
    """Return what lies at a dotted path, ``None`` when nothing does."""
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _place_unknown(name: str, kind: Kind, mapping: RowMapping, *, is_typed: bool) -> Column | None:
    """Return what becomes of a column that the mapping does not name.

    Without a mapping a column is read by the name that a field has on the wire.
    """
    if mapping.is_wire:
        wire = ALIASES.get(name, name) if kind in ("events", "profiles") else name
        if wire in OBJECTS[kind] or check_target(kind, wire) is None:
            is_one = wire in FIELDS[kind] or wire in OBJECTS[kind]
            return Column(wire, None if is_typed or is_one else "auto")
    if mapping.unknown == "drop":
        return None
    home = {"events": "properties", "profiles": "traits", "accounts": "traits"}.get(kind)
    if home is None:
        return None
    is_guessed = mapping.is_wire and not is_typed
    return Column(f"{home}.{name.replace('.', '_')}", "auto" if is_guessed else None)


def _default_converter(
    target: str, kind: Kind, timezone: str, currency: str, *, is_typed: bool
) -> Convert | None:
    """Return how a column without a type is read: by what its target needs."""
    head, _, rest = target.partition(".")
    if target in OBJECTS[kind]:
        return _plain(read_object) if is_typed else read_object
    if target in TIMES or target == "refunds.at":
        column = Column(target, "time")
        return make_converter(column, target=target, timezone=timezone, currency=currency)
    if target in _TEXTS or head == "identifiers" or target.startswith("members.identifiers."):
        return read_text
    if head == "lines" and rest == "quantity":
        column = Column(target, "number")
        return make_converter(column, target=target, timezone=timezone, currency=currency)
    if head == "consent":
        column = Column(target, "boolean")
        return make_converter(column, target=target, timezone=timezone, currency=currency)
    return make_plain if is_typed else None


def _plain(convert: Convert) -> Convert:
    def read(cell: Any) -> Any:
        return make_plain(convert(cell))

    return read


def place_identifiers(document: dict[str, Any], named: Any, kind: Kind) -> None:
    """Put ``[{"type", "value"}]`` of a profile row where the wire has identifiers.

    Raises ``RowRefused`` for anything else.
    """
    if not isinstance(named, list):
        raise RowRefused("invalid_identifiers", "`identifiers` is a list of type and value")
    for one in named:
        if not isinstance(one, Mapping) or not isinstance(one.get("type"), str):
            raise RowRefused("invalid_identifiers", "an identifier has `type` and `value`")
        value = one.get("value")
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise RowRefused("invalid_identifiers", "`value` is text or a whole number")
        make_put_identifier(one["type"], kind)(document, value)
