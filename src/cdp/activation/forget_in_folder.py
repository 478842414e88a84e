"""Take people out of files that were dropped: what is said of them, not that they are gone."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pa_parquet

from cdp.activation.drop_folder import write_whole

_GONE = ("left", "removed")

Left = tuple[bytes, int]
"""What a file holds without the people, and how many rows that are fewer."""


def forget_in_folder(root: Path, profile_ids: Collection[str]) -> int:
    """Write the files below ``root`` anew that speak of ``profile_ids``; return the rows removed.

    Who took a file away meanwhile has it; whoever reads one sees it before or after, never half.
    """
    removed = 0
    for path in sorted(root.rglob("*")):
        take_out = _READERS.get(path.suffix)
        if take_out is None or path.is_symlink() or not path.is_file():
            continue
        try:
            content, rows = take_out(path.read_bytes(), frozenset(profile_ids))
        except FileNotFoundError:
            continue
        if rows:
            write_whole(path, content)
            removed += rows
    return removed


def _take_from_csv(content: bytes, people: frozenset[str]) -> Left:
    if not _names_any(content, people):
        return content, 0
    lines = list(csv.reader(io.StringIO(content.decode(), newline="")))
    person, change = lines[0].index("profile_id"), lines[0].index("change")
    kept = [lines[0]] + [
        line for line in lines[1:] if line[person] not in people or line[change] in _GONE
    ]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(kept)
    return text.getvalue().encode(), len(lines) - len(kept)


def _take_from_ndjson(content: bytes, people: frozenset[str]) -> Left:
    if not _names_any(content, people):
        return content, 0
    lines = content.splitlines(keepends=True)
    rows = [msgspec.json.decode(line) for line in lines]
    kept = [
        line
        for line, row in zip(lines, rows, strict=True)
        if row["profile_id"] not in people or row["change"] in _GONE
    ]
    return b"".join(kept), len(lines) - len(kept)


def _take_from_parquet(content: bytes, people: frozenset[str]) -> Left:
    table = pa_parquet.read_table(io.BytesIO(content))
    is_theirs = pc.is_in(table["profile_id"], pa.array(sorted(people), pa.string()))
    is_gone = pc.is_in(table["change"], pa.array(_GONE, pa.string()))
    kept = table.filter(pc.or_(pc.invert(is_theirs), is_gone))
    sink = io.BytesIO()
    pa_parquet.write_table(kept, sink, compression="zstd")
    return sink.getvalue(), table.num_rows - kept.num_rows


def _names_any(content: bytes, people: frozenset[str]) -> bool:
    return any(one.encode() in content for one in people)


_READERS: dict[str, Callable[[bytes, frozenset[str]], Left]] = {
    ".csv": _take_from_csv,
    ".ndjson": _take_from_ndjson,
    ".parquet": _take_from_parquet,
}
