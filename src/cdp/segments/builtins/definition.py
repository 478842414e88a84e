"""What a built-in tag's definition says:

``{"builtin", "settings", "orders": {"where": […]}, "as_of"}``. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from cdp.money import minor_digits
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.parse import NormaliseIdentifier, parse_aggregate, parse_rule
from cdp.segments.parse_values import mistake
from cdp.segments.rules import EventCount, Orders, Rule
from cdp.segments.times import read_time


@dataclass(frozen=True, slots=True)
class ReadContext:
    """What rules inside settings may refer to; ``None`` leaves existence unchecked."""

    segments: Collection[str] | None = None
    tags: Collection[str] | None = None
    normalise: NormaliseIdentifier | None = None

    def read_rule(self, document: Any, path: str) -> Rule:
        """Read a rule that was posted at ``path``."""
        return parse_rule(document, path, self.segments, self.tags, normalise=self.normalise)


ReadSettings = Callable[[SettingsReader, ReadContext], Any]


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A definition, read."""

    name: str
    settings: Any
    orders: Orders
    as_of: str | None
    currency: str | None
    effective: Mapping[str, Any] = field(default_factory=dict)
    """The settings as they would be posted, with what stands for those that were left out."""


def read_definition(
    document: Any,
    read_settings: ReadSettings,
    *,
    reads_orders: bool,
    context: ReadContext,
    path: str = "/definition",
) -> BuiltIn:
    """Read a definition that was posted at ``path``. Raises ``Unprocessable`` at the mistake."""
    reader = SettingsReader(document, path)
    name = str(reader.raw("builtin"))
    orders = Orders((), (), None)
    if reads_orders and reader.has("orders"):
        found = parse_aggregate({"orders": reader.document["orders"]}, path)
        assert isinstance(found, EventCount)
        assert isinstance(found.events, Orders)
        orders = found.events
    as_of = reader.text("as_of")
    if as_of is not None and read_time(as_of) is None:
        message = "as_of is RFC 3339 (2026-03-01T08:00:00Z) or a date"
        raise mistake("bad_value", message, reader.at("as_of"))
    settings = reader.inner("settings")
    currency = None
    if reads_orders:
        currency = _read_currency(settings)
    reader.finish()
    read = read_settings(settings, context)
    return BuiltIn(name, read, orders, as_of, currency, settings.effective)


def _read_currency(settings: SettingsReader) -> str | None:
    currency = settings.text("currency")
    if currency is None:
        return None
    if minor_digits(currency.upper()) is None:
        raise settings.refuse("currency", "currency is an ISO 4217 code such as CNY")
    return currency.upper()
