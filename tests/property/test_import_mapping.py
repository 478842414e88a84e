"""Whatever a file holds, its rows become lines, or are refused; never anything else."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cdp.errors import Unprocessable
from cdp.ingest.imports.chunks import Chunk, cut_grouped_rows, cut_rows
from cdp.ingest.imports.csv_file import CsvFile
from cdp.ingest.imports.map_row import RowRefused, compile_mapping
from cdp.ingest.imports.mapping import TYPES, read_mapping
from cdp.ingest.imports.prepare import Origin, encode_document, map_cells, prepare_wire
from cdp.ingest.imports.targets import KINDS, PREFIXES, Kind

ORIGIN = Origin("d" * 64, "m" * 32, "2026-03-05T00:00:00.000Z")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
# A decimal column of Parquet has neither NaN nor Infinity.
_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
CELLS = JSON | st.datetimes() | st.dates() | _DECIMALS | st.binary(max_size=5)


class Source(io.BytesIO):
    def share_read(self) -> float:
        return 1.0


@given(
    JSON | st.dictionaries(st.sampled_from(["columns", "constants", "empty", "delimiter"]), JSON)
)
def test_any_document_is_a_mapping_or_refused_at_a_path(document: Any) -> None:
    for kind in KINDS:
        try:
            read_mapping(document, kind)
        except Unprocessable as error:
            refused = error
        else:
            continue
        assert refused.details["path"].startswith("/mapping")


@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.sampled_from(sorted(TYPES)), CELLS), max_size=5),
    st.booleans(),
)
def test_any_cell_becomes_json_or_refuses_its_row(
    kind: Kind, cells: list[tuple[str, Any]], is_typed: bool
) -> None:
    home = next(iter(sorted(PREFIXES[kind])), None)
    columns = {
        f"c{n}": {"to": f"{home}.x{n}" if home else "total", "type": form}
        for n, (form, _) in enumerate(cells)
    }
    mapping = read_mapping({"columns": columns}, kind)
    mapper = compile_mapping(
        mapping, kind, list(columns), timezone="Asia/Shanghai", currency="CNY", is_typed=is_typed
    )
    try:
        line = encode_document(map_cells(mapper, kind, ORIGIN)([c for _, c in cells], 1))
    except RowRefused as error:
        line = json.dumps({"refused": error.code}).encode()
    assert isinstance(json.loads(line), dict)


@given(st.sampled_from(KINDS), st.dictionaries(TEXT, JSON, max_size=4))
def test_what_a_wire_line_says_stays_as_it_is(kind: Kind, row: dict[str, Any]) -> None:
    line = json.dumps(row).encode()
    try:
        made = json.loads(prepare_wire(kind, ORIGIN)(line, 1))
    except RowRefused:
        assert kind == "profiles"
        return
    if kind in ("events", "orders", "accounts"):
        expected = json.loads(line)
        kept = {name: made[name] for name in expected if name in made}
        lacking = {"type", "messageId", "updated_at"}
        assert json.dumps({k: v for k, v in kept.items() if k not in lacking}) == json.dumps(
            {k: v for k, v in expected.items() if k not in lacking}
        )


@given(st.lists(st.lists(TEXT.filter(lambda t: "\0" not in t), min_size=2, max_size=2), max_size=6))
def test_cells_with_quotes_and_newlines_come_back_as_they_were(rows: list[list[str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["a", "b"], *rows])
    file = CsvFile(Source(written.getvalue().encode()), "utf-8", ",")

    read = [list(row) for row in file.rows()]

    assert read == rows


@given(st.lists(st.sampled_from(["A", "B", "C"]), max_size=40), st.integers(0, 40))
def test_wherever_it_is_cut_every_row_belongs_to_one_document(ids: Sequence[str], at: int) -> None:
    def prepare(row: str, number: int) -> dict[str, Any]:
        if number % 7 == 0:
            raise RowRefused("no", "no")
        return {"order_id": row, "lines": [{"sku": number}]}

    def read(chunks: list[Chunk]) -> list[int]:
        lines = [line for chunk in chunks for line in chunk.lines]
        return [one["sku"] for line in lines for one in msgspec.json.decode(line)["lines"]]

    whole = list(cut_grouped_rows(ids, prepare, "orders"))
    refused = [one.index for chunk in whole for one in chunk.refused]
    assert sorted([*read(whole), *refused]) == list(range(1, len(ids) + 1))
    assert not whole or whole[-1].end == len(ids)
    rest = list(cut_rows(ids[at:], lambda _, n: b"%d" % n, after=at))
    assert [int(line) for chunk in rest for line in chunk.lines] == list(
        range(at + 1, len(ids) + 1)
    )
