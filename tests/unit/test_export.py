"""Fields, cells and masks of an export."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from cdp.errors import Unprocessable
from cdp.runtime.spreadsheet import guard_formula
from cdp.segments.export import write_cell, write_csv, write_ndjson, write_parquet
from cdp.segments.member_fields import MemberField, parse_fields

AT = datetime(2026, 3, 1, 8, tzinfo=UTC)


def chunk(*values: str | None) -> pa.Table:
    """Return a chunk of one field, as it comes out of DuckDB."""
    count = len(values)
    return pa.table(
        {
            "profile_no": list(range(count)),
            "profile_id": [f"prf_{index}" for index in range(count)],
            "entered_at": pa.array([AT] * count, pa.timestamp("us", "UTC")),
            "f0": pa.array(values, pa.string()),
        }
    )


def test_fields_are_identifiers_traits_and_tags() -> None:
    assert parse_fields(r"email,traits.address.city,traits.a\.b,tags.rfm.group", {"rfm"}) == [
        MemberField("email", "identifier", "email"),
        MemberField("traits.address.city", "trait", "address", ("city",)),
        MemberField(r"traits.a\.b", "trait", "a.b"),
        MemberField("tags.rfm.group", "tag", "rfm", ("group",)),
    ]


def test_columns_that_are_always_there_may_be_named() -> None:
    assert parse_fields("profile_id,entered_at,email", set()) == [
        MemberField("email", "identifier", "email")
    ]


def test_the_longest_key_is_the_tag() -> None:
    (field,) = parse_fields("tags.a.b.c", {"a", "a.b"})

    assert (field.key, field.path) == ("a.b", ("c",))


@pytest.mark.parametrize("text", ["traits.", ".", "email,,phone", "tags.x", "other.x", "a,a"])
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        parse_fields(text, set())

    assert refused.value.details["path"] == "/fields"


def test_more_fields_than_are_served_are_refused() -> None:
    with pytest.raises(Unprocessable, match="up to 50"):
        parse_fields(",".join(f"f{index}" for index in range(51)), set())


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_is_quoted(start: str) -> None:
    assert guard_formula(f"{start}cmd") == f"'{start}cmd"


@pytest.mark.parametrize("text", ["", "a=1", "1-2", "'=1", " =1"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert guard_formula(text) == text


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("", ""),
        (-5, "-5"),
        (1.5, "1.5"),
        (True, "true"),
        ({"a": "é"}, '{"a": "é"}'),
        (["=1"], '["=1"]'),
        ("=1", "'=1"),
    ],
)
def test_a_cell_shows_a_json_value(value: Any, cell: str) -> None:
    assert write_cell(value) == cell


def test_csv_survives_quotes_commas_and_line_ends() -> None:
    field = MemberField("traits.note", "trait", "note")

    text = b"".join(write_csv([chunk('"a,\\"b\\"\\r\\nc"')], [field], is_masked=False)).decode()

    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[1] == ["prf_0", "2026-03-01T08:00:00.000Z", 'a,"b"\r\nc']


def test_a_header_is_guarded_too() -> None:
    field = MemberField("=cmd", "identifier", "=cmd")

    (header,) = write_csv([], [field], is_masked=False)

    assert header == b"profile_id,entered_at,'=cmd\r\n"


def test_json_lines_keep_the_types_of_values() -> None:
    field = MemberField("traits.x", "trait", "x")

    lines = b"".join(write_ndjson([chunk("1.5", '"1.5"', "null", None)], [field], is_masked=False))

    assert [line.split(b'"traits.x":')[1] for line in lines.splitlines()] == [
        b"1.5}", b'"1.5"}', b"null}", b"null}",
    ]  # fmt: skip


def test_a_mask_hides_what_lies_below_a_personal_name() -> None:
    field = MemberField("traits.address.city", "trait", "address", ("city",))

    lines = b"".join(write_ndjson([chunk('"Shanghai"')], [field], is_masked=True))

    assert b"Shanghai" not in lines


def test_a_mask_leaves_other_values_alone() -> None:
    field = MemberField("traits.plan", "trait", "plan")

    assert b'"pro"' in b"".join(write_ndjson([chunk('"pro"')], [field], is_masked=True))


def test_parquet_parts_make_one_file_also_without_rows() -> None:
    field = MemberField("traits.x", "trait", "x")
    for chunks in ([], [chunk("1"), chunk('"a"', None)]):
        content = b"".join(write_parquet(chunks, [field], is_masked=False))
        table = pa.parquet.read_table(io.BytesIO(content))
        assert table.column_names == ["profile_id", "entered_at", "traits.x"]
        assert table.num_rows == sum(part.num_rows for part in chunks)
    assert table["traits.x"].to_pylist() == ["1", "a", None]
