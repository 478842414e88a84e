"""Read the settings of a built-in tag: every mistake is a 422 at its place. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cdp.segments.parse_values import below, mistake, read_list, read_object, read_rule_duration
from cdp.segments.paths import read_path
from cdp.segments.rules import Duration, Path


class SettingsReader:
    """Reads a JSON object key by key; ``finish`` refuses the keys that nobody asked for."""

    def __init__(self, document: object, path: str) -> None:
        """``document`` was posted at the JSON Pointer ``path``."""
        self.path = path
        self.document: Mapping[str, Any] = read_object(document, path, "this")
        self._known: list[str] = []
        self._effective: dict[str, Any] = {}

    @property
    def effective(self) -> dict[str, Any]:
        """Return what holds, as it would be posted: what is there, and what stands for the rest."""
        return {
            name: value.effective if isinstance(value, SettingsReader) else value
            for name, value in self._effective.items()
            if value is not None
        }

    def show(self, name: str, value: Any) -> None:
        """Say what stands for ``name`` where it was left out."""
        if self.document.get(name) is None:
            self._effective[name] = value

    def has(self, name: str) -> bool:
        """Whether ``name`` is there and not null; it counts as known from now on."""
        if name not in self._known:
            self._known.append(name)
        self._effective.setdefault(name, self.document.get(name))
        return self.document.get(name) is not None

    def raw(self, name: str, default: Any = None) -> Any:
        """Return what is there, unread."""
        if self.has(name):
            return self.document[name]
        if default is not None:
            self._effective[name] = default
        return default

    def at(self, name: str | int) -> str:
        """Return the JSON Pointer of a key."""
        return below(self.path, name)

    def refuse(self, name: str, message: str, code: str = "bad_value") -> Exception:
        """Return the 422 for the value of ``name``, to be raised."""
        return mistake(code, message, self.at(name))

    def number(
        self, name: str, default: float | None = None, *, low: float, high: float = math.inf
    ) -> float | None:
        """Return a finite number in [low, high]."""
        if not self.has(name):
            self.show(name, default)
            return default
        return read_number(self.document[name], self.at(name), low, high)

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        value = self.number(name, default, low=low, high=high)
        assert value is not None
        if value != int(value):
            raise self.refuse(name, f"{name} is a whole number")
        return int(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return true or false."""
        value = self.raw(name, default)
        if not isinstance(value, bool):
            raise self.refuse(name, f"{name} is true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str | None:
        """Return a text that is not empty."""
        value = self.raw(name, default)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.refuse(name, f"{name} is a text, not empty")
        return value

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        """Return one of ``allowed``."""
        value = self.raw(name, default)
        if value not in allowed:
            raise self.refuse(name, f"{name} is one of {', '.join(allowed)}")
        return str(value)

    def path_of(self, name: str, default: str | None = None) -> Path | None:
        """Return a dotted path into an object."""
        value = self.text(name, default)
        return None if value is None else read_path(value)

    def duration(self, name: str, default: str | None = None) -> Duration | None:
        """Return a duration such as ``12mo``."""
        value = self.raw(name, default)
        return None if value is None else read_rule_duration(value, self.at(name))

    def each(self, name: str, read: Callable[[Any, str], Any], *, most: int) -> list[Any] | None:
        """Return a list that is not empty, of up to ``most`` elements, each read by ``read``."""
        if not self.has(name):
            return None
        items = read_list(self.document[name], self.at(name), name)
        if not 1 <= len(items) <= most:
            raise self.refuse(name, f"{name} is a list of 1 to {most}")
        return [read(item, below(self.at(name), index)) for index, item in enumerate(items)]

    def inner(self, name: str) -> SettingsReader:
        """Return the reader of the object at ``name``; of an empty one when it is not there."""
        inner = SettingsReader(self.raw(name, {}), self.at(name))
        self._effective[name] = inner
        return inner

    def finish(self) -> None:
        """Refuse what was not read."""
        for name in self.document:
            if name not in self._known:
                known = ", ".join(self._known) or "nothing"
                raise mistake(
                    "unknown_key", f"'{name}' does not belong here; known: {known}", self.at(name)
                )


def read_number(value: object, path: str, low: float, high: float = math.inf) -> float:
    """Return a finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise mistake("bad_value", "this is a number", path)
    if not low <= value <= high:
        ends = f"from {low:g}" + ("" if high == math.inf else f" to {high:g}")
        raise mistake("bad_value", f"this is a number {ends}", path)
    return value


def read_range(value: object, path: str) -> tuple[float, float]:
    """Return two numbers, ``[low, high]``; one number stands for both ends."""
    if isinstance(value, list):
        if len(value) != 2:
            raise mistake("bad_value", "a range is [lowest, highest]", path)
        low, high = (
            read_number(each, below(path, index), -math.inf) for index, each in enumerate(value)
        )
        if low > high:
            raise mistake("bad_value", "the lowest comes first", path)
        return low, high
    number = read_number(value, path, -math.inf)
    return number, number
