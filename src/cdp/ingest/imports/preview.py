"""What an import would do, shown for its first rows. Nothing is written."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from cdp.ingest.door import Door
from cdp.ingest.imports.chunks import Chunk
from cdp.ingest.imports.mapping import Mapping
from cdp.ingest.imports.open_file import open_file
from cdp.ingest.imports.prepare import Origin
from cdp.ingest.imports.reading import FileDamaged
from cdp.ingest.imports.run_import import LOG_KINDS, Defaults, cut_file, judge_chunk
from cdp.ingest.imports.targets import Kind
from cdp.ingest.rejected_store import mask_raw
from cdp.model import Source

CHECKED_ROWS = 1_000
SHOWN = 10


def preview_import(
    path: Path,
    mapping: Mapping,
    kind: Kind,
    source: Source,
    door: Door,
    origin: Origin,
    defaults: Defaults,
    *,
    may_be_cut: bool,
    sees_personal: bool,
) -> dict[str, Any]:
    """Return the first rows as they would be logged, and the first mistakes.

    ``may_be_cut`` is whether ``path`` may hold only the beginning of the file. Personal values are
    masked unless the caller ``sees_personal`` ones. Raises ``Unprocessable`` when mapping and file
    do not fit.
    """
    file = open_file(path, mapping, may_be_cut=may_be_cut)
    checked = 0
    rows: list[dict[str, Any]] = []
    mistakes: list[dict[str, Any]] = []
    damage: str | None = None
    try:
        cut = _Limited(file, CHECKED_ROWS)
        for chunk in cut_file(cut, mapping, kind, origin, defaults, 0):
            checked = chunk.end
            judged = judge_chunk(door, source, LOG_KINDS[kind], chunk, lambda _: None)
            refused = {one.index for one in judged.rejected}
            rows += _show_rows(chunk, refused, sees_personal=sees_personal)
            mistakes += [
                {
                    "row": one.index,
                    "code": one.code,
                    "message": one.message,
                    "raw": _show(one.raw, sees_personal=sees_personal),
                }
                for one in judged.rejected
            ]
    except FileDamaged as error:
        damage = str(error)
    finally:
        file.close()
    return {
        "dry_run": True,
        "kind": kind,
        "format": file.format,
        "columns": None if file.columns is None else list(file.columns),
        "checked": checked,
        "accepted": checked - len(mistakes) if damage is None else None,
        "rejected": len(mistakes),
        "rows": rows[:SHOWN],
        "mistakes": mistakes[:SHOWN],
        "damage": damage,
    }


class _Limited:
    """The first rows of a file."""

    def __init__(self, file: Any, rows: int) -> None:
        self._file = file
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def rows(self, after: int = 0) -> Any:
        return islice(self._file.rows(after), self._rows)


def _show_rows(chunk: Chunk, refused: set[int], *, sees_personal: bool) -> list[dict[str, Any]]:
    return [
        {"row": number, "becomes": _show(line, sees_personal=sees_personal)}
        for number, line in zip(chunk.numbers, chunk.lines, strict=True)
        if number not in refused
    ][:SHOWN]


def _show(raw: bytes, *, sees_personal: bool) -> str:
    return raw.decode("utf-8", "replace") if sees_personal else mask_raw(raw)
