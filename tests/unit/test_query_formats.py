"""How rows leave: JSON values, CSV cells, Arrow and Parquet."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdp.analytics.answer_formats import (
    to_arrow,
    to_csv,
    to_json_value,
    to_parquet,
    to_records,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (datetime(2026, 3, 1, 8, tzinfo=UTC), "2026-03-01T08:00:00.000Z"),
        (Decimal("12.50"), 12.5),
        (Decimal("12"), 12),
        (float("nan"), None),
        (2**60, str(2**60)),
        (b"\xaa", "aa"),
        ({"a": [1, None]}, {"a": [1, None]}),
        ("text", "text"),
        (True, True),
    ],
)
def test_values_become_json(value: Any, shown: Any) -> None:
    result = to_json_value(value)
    assert result == shown
    assert type(result) is type(shown)


def test_json_columns_are_shown_as_what_they_hold() -> None:
    rows = pa.table({"v": ['"pro"', "42", '{"a":1e999}', None]})
    assert to_records([("v", "JSON")], rows) == [
        {"v": "pro"}, {"v": 42}, {"v": {"a": None}}, {"v": None},
    ]  # fmt: skip


def test_csv_disarms_formulas_in_text_and_headers_but_keeps_numbers() -> None:
    rows = pa.table(
        {"=n": [-1], "text": ["=1+1"], "tab": ["\tx"], "json": ['"@x"'], "none": [None]}
    )
    columns = [("=n", "BIGINT"), ("text", "VARCHAR"), ("tab", "VARCHAR"), ("json", "JSON"),
               ("none", "VARCHAR")]  # fmt: skip
    assert to_csv(columns, rows).decode() == ("'=n,text,tab,json,none\r\n-1,'=1+1,'\tx,'@x,\r\n")


def test_arrow_and_parquet_hold_the_rows() -> None:
    rows = pa.table({"a": [1, 2]})
    columns = [("n", "BIGINT")]
    assert pa.ipc.open_stream(to_arrow(columns, rows)).read_all().to_pydict() == {"n": [1, 2]}
    assert pq.read_table(io.BytesIO(to_parquet(columns, rows))).to_pydict() == {"n": [1, 2]}
