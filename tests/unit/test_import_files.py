"""Readers of imported files: what is in them decides, and damage is said."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cdp.errors import InsufficientStorage, TooLarge, Unavailable, Unprocessable
from cdp.ingest.imports import uploads_folder
from cdp.ingest.imports.chunks import BadRow
from cdp.ingest.imports.mapping import read_mapping
from cdp.ingest.imports.ndjson_file import LONGEST_LINE
from cdp.ingest.imports.open_file import guess_encoding, open_file
from cdp.ingest.imports.prepare import Origin
from cdp.ingest.imports.reading import FileDamaged, RowFile
from cdp.ingest.imports.run_import import Defaults, cut_file
from cdp.ingest.imports.uploads_folder import Uploads


def open_bytes(folder: Path, content: bytes, **mapping: Any) -> RowFile:
    path = folder / "file"
    path.write_bytes(content)
    return open_file(path, read_mapping(mapping, "events"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("after", [0, 1, 3, 9])
def test_reading_goes_on_behind_any_row(tmp_path: Path, pack: Any, after: int) -> None:
    lines = b"\xef\xbb\xbf" + b"".join(b'{"n":%d} \r\n\n' % n for n in range(3)) + b'{"n":3}'

    file = open_bytes(tmp_path, pack(lines))

    assert list(file.rows(after)) == [b'{"n":%d}' % n for n in range(4)][after:]
    assert file.share_read() == 1
    file.close()


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8-sig", {}),
        ("utf-8", {}),
        ("gb18030", {}),
        ("utf-16", {}),
        ("gbk", {"encoding": "gbk"}),
    ],
)
def test_chinese_csv_is_read_in_any_usual_encoding(
    tmp_path: Path, encoding: str, said: Any
) -> None:
    text = '姓名;"备注"\r\n张三;"两\r\n""行"""\r\n\r\n李四;x;\r\n'

    file = open_bytes(tmp_path, text.encode(encoding), **said)

    assert file.columns == ("姓名", "备注")
    assert [list(row) for row in file.rows()] == [["张三", '两\r\n"行"'], ["李四", "x"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(tmp_path: Path, delimiter: str) -> None:
    content = f'"a,;b"{delimiter}c\n1{delimiter}2\n'.encode()

    assert open_bytes(tmp_path, content).columns == ("a,;b", "c")


def test_a_row_of_another_width_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    file = open_bytes(tmp_path, b"a,b\n1,2,3\n4\n5,6\n")

    bad, short, last = file.rows()

    assert isinstance(bad, BadRow)
    assert bad.code == "wrong_number_of_cells"
    assert [list(short), list(last)] == [["4", ""], ["5", "6"]]


def test_an_open_quote_costs_its_row_and_not_the_file(tmp_path: Path) -> None:
    content = b'a,b\n1,"' + b"x" * 2_000_000 + b"\n3,4\n"

    rows = list(open_bytes(tmp_path, content).rows())

    assert isinstance(rows[0], BadRow)
    assert list(rows[-1]) == ["3", "4"]


def test_a_line_without_end_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    content = b'{"a":"' + b"x" * (LONGEST_LINE + 3_000_000) + b'"}\n{"b":1}\n'

    bad, good = open_bytes(tmp_path, content).rows()

    assert isinstance(bad, BadRow)
    assert good == b'{"b":1}'


def test_parquet_skips_row_groups_that_were_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    table = pa.table({"n": range(250), "at": pa.array([1_000] * 250, pa.timestamp("ns"))})
    pq.write_table(table, path, row_group_size=100)

    file = open_file(path, read_mapping({}, "events"))

    assert file.total_rows == 250
    assert [row[0] for row in file.rows(130)] == list(range(130, 250))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_parquet_within_an_archive_is_read(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "x"
    pq.write_table(pa.table({"n": [1, 2]}), path)

    assert [row[0] for row in open_bytes(tmp_path, pack(path.read_bytes())).rows()] == [1, 2]
    assert [found.name for found in tmp_path.iterdir()] != []


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_cut_archive_gives_its_rows_and_then_says_so(tmp_path: Path, pack: Any) -> None:
    whole = pack(b"".join(b'{"n":%d}\n' % (n * n) for n in range(400_000)))
    file = open_bytes(tmp_path, whole[:-1000])
    rows: list[Any] = []

    with pytest.raises(FileDamaged):
        rows.extend(file.rows())

    assert rows[0] == b'{"n":0}'


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (gzip.compress(b""), "empty"),
        (b"PK\x03\x04abc", "Excel"),
        (b'[{"a": 1}]', "one object a line"),
        (b"PAR1 this is none", "Parquet"),
        (b"\x1f\x8bnothing", "damaged"),
        (b"\n\n\n", "name the columns"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_with_a_hint(
    tmp_path: Path, content: bytes, word: str
) -> None:
    with pytest.raises(Unprocessable, match=word):
        open_bytes(tmp_path, content)


def test_bytes_of_another_encoding_refuse_their_row_only(tmp_path: Path) -> None:
    # Far behind what the encoding is guessed from.
    content = b"id,c\0ity\n" + b"2,x\n" * 300_000
    content += "3,上海\n".encode("gb18030") + "4,上海\n".encode()
    mapping = read_mapping({"columns": {"id": "userId"}}, "profiles")
    origin, defaults = Origin("d" * 64, "m" * 32, ""), Defaults("UTC", "CNY")

    file = open_bytes(tmp_path, content)
    chunks = list(cut_file(file, mapping, "profiles", origin, defaults, 299_999))

    assert [(one.index, one.code) for one in chunks[0].refused] == [(300_001, "not_utf8")]
    assert chunks[0].refused[0].raw.startswith(b'["3",')
    assert "上海".encode() in chunks[0].lines[-1]


def test_half_a_character_at_the_samples_end_is_still_utf_8() -> None:
    assert guess_encoding("汉字".encode()[:-1]) == "utf-8"
    assert guess_encoding("汉字汉字".encode("gb18030")) == "gb18030"


def test_an_upload_is_private_and_leaves_nothing_when_discarded(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, max_bytes=10)
    file = uploads.start("imp_1")
    file.write(b"12345")
    file.keep()
    file.discard()

    assert uploads.path("imp_1").stat().st_mode & 0o777 == 0o600
    other = uploads.start("imp_2")
    with pytest.raises(TooLarge):
        other.write(b"x" * 11)
    other.discard()
    assert [path.name for path in uploads.folder.iterdir()] == ["imp_1"]


def test_an_upload_leaves_the_database_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads_folder, "KEPT_FREE_BYTES", 1 << 60)
    file = Uploads(tmp_path, max_bytes=10).start("imp_1")

    with pytest.raises(InsufficientStorage):
        file.write(b"x")
    file.discard()


def test_a_full_disk_is_told_from_a_broken_one() -> None:
    assert uploads_folder.refuse_disk(OSError(28, "")).status == 507
    assert isinstance(uploads_folder.refuse_disk(OSError(5, "")), Unavailable)
