"""Imports: from an uploaded file to people and orders, whatever happens on the way."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cdp.storage.database import Database
from tests.support.import_desk import ImportDesk, run_desk


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[ImportDesk]:
    with run_desk(database, tmp_path) as running:
        yield running


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def tracks(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "type": "track", "event": "Bought", "userId": f"u{n % 7}",
            "timestamp": "2026-03-01T08:00:00Z", "properties": {"n": n},
        }
        for n in range(first, first + count)
    ]  # fmt: skip


def count_events(desk: ImportDesk) -> int:
    return int(desk.query("SELECT count(*) FROM events")[0][0])


def parquet(folder: Path, table: pa.Table) -> bytes:
    pq.write_table(table, folder / "x.parquet", row_group_size=100)
    return (folder / "x.parquet").read_bytes()


def test_wire_format_lines_become_events_and_bad_ones_keep_their_row(desk: ImportDesk) -> None:
    rows = [*tracks(3), {"type": "dance", "userId": "u"}, {"type": "track", "event": "Alone"}]

    done = desk.import_file(lines(*rows) + b"{broken\n\n" + lines(*tracks(1, 9)))

    assert (done["status"], done["rows"], done["accepted"], done["rejected"]) == ("done", 7, 4, 3)
    assert done["progress"] == 1
    assert done["file"]["name"] == "rows.bin"
    assert [(r["row"], r["code"]) for r in desk.rejected(done["id"])] == [
        (4, "unknown_type"), (5, "no_identifier"), (6, "invalid_json"),
    ]  # fmt: skip
    assert json.loads(desk.rejected(done["id"])[0]["raw"])["type"] == "dance"
    assert count_events(desk) == 4
    refused = desk.query("SELECT code, message_id FROM rejected ORDER BY rejected_id")
    assert [code for code, _ in refused] == ["unknown_type", "no_identifier", "invalid_json"]


def test_the_same_file_again_is_the_same_import_and_doubles_nothing(desk: ImportDesk) -> None:
    content = lines(*tracks(20))
    first = desk.import_file(content, mapping={})
    again = desk.post(content)

    assert again.json()["existing"] is True
    assert again.json()["id"] == first["id"]
    forced = desk.import_file(content, again="true")
    assert forced["id"] != first["id"]
    assert (forced["accepted"], forced["rejected"]) == (20, 0)
    assert count_events(desk) == 20


def test_equal_rows_are_two_events_and_a_row_of_its_own_message_id_is_one(desk: ImportDesk) -> None:
    one = tracks(1)[0]

    desk.import_file(lines(one, one, {**one, "messageId": "m"}, {**one, "messageId": "m"}))

    assert count_events(desk) == 3


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_compressed_files_are_known_by_their_content(desk: ImportDesk, pack: Any) -> None:
    assert desk.import_file(pack(lines(*tracks(30))))["accepted"] == 30


def test_a_cut_off_archive_fails_and_keeps_what_was_readable(desk: ImportDesk) -> None:
    whole = gzip.compress(lines(*tracks(12_000)))

    done = desk.import_file(whole[:-2000])

    assert done["status"] == "failed"
    assert done["error"]["code"] == "file_damaged"
    assert 0 < done["accepted"] < 12_000


def test_parquet_with_types_becomes_the_same_events(desk: ImportDesk, tmp_path: Path) -> None:
    table = pa.table(
        {
            "type": ["track"] * 250,
            "event": ["Bought"] * 250,
            "userId": pa.array(range(250), pa.int64()),
            "timestamp": pa.array([1_772_352_000_000] * 250, pa.timestamp("ms")),
            "properties": [{"total": 12.5, "n": n} for n in range(250)],
        }
    )

    done = desk.import_file(parquet(tmp_path, table))

    assert (done["rows"], done["accepted"], done["file"]["format"]) == (250, 250, "parquet")
    # A time without a zone is one of the workspace's, which is Shanghai's.
    at, properties = desk.query("SELECT at, properties FROM events LIMIT 1")[0]
    assert at.isoformat() == "2026-03-01T00:00:00+00:00"
    assert properties["total"] == 12.5


def test_a_chinese_crm_export_becomes_people(desk: ImportDesk) -> None:
    content = (
        "姓名,手机号码,邮箱,性别,生日,城市,更新时间,营销授权,备注\r\n"
        '张三,138 0013 8000,ZHANG@example.com,男,1990年3月1日,上海,2026/3/1 8:00,是,"两\n行"\r\n'
        "李四,+86 139-1234-5678,,女,1988-12-31,北京,2026-03-01 09:30:00,否,\r\n"
        "王五,,,男,昨天,广州,,,\r\n"
    ).encode("gb18030")

    done = desk.import_file(content, "profiles", {"preset": "crm-contacts"})

    assert (done["accepted"], done["rejected"]) == (2, 1)
    refused = desk.rejected(done["id"])[0]
    assert (refused["row"], refused["code"]) == (3, "invalid_value")
    assert "生日" in refused["message"]
    assert "昨天" not in refused["message"]
    found = desk.query("SELECT type, value FROM nodes ORDER BY 1, 2")
    assert ("phone", "+8613800138000") in found
    assert ("phone", "+8613912345678") in found
    assert ("email", "zhang@example.com") in found
    traits = dict(desk.query("SELECT name, value FROM traits ORDER BY at"))
    assert traits["备注"] == "两\n行"
    assert desk.query("SELECT min(at) FROM events")[0][0].isoformat() == "2026-03-01T00:00:00+00:00"


def test_receipt_lines_of_one_order_become_one_order(desk: ImportDesk) -> None:
    content = (
        "小票号,销售时间,门店,会员手机,商品编码,商品名称,数量,单价,合计\n"
        'A1,2026-03-01 10:00,南京路,13800138000,s1,围巾,1,￥199.00,"1,197.00"\n'
        'A1,2026-03-01 10:00,南京路,13800138000,s2,外套,2,499.00元,"1,197.00"\n'
        "A2,2026-03-01 11:00,南京路,,s1,围巾,1,199,199\n"
        "A3,没有时间,南京路,,s1,围巾,1,199,199\n"
    ).encode()

    done = desk.import_file(content, "orders", {"preset": "pos-receipts"})

    assert (done["rows"], done["accepted"], done["rejected"]) == (4, 2, 1)
    orders = desk.query("SELECT order_id, total, placed_at FROM orders ORDER BY 1")
    assert [(order_id, total) for order_id, total, _ in orders] == [("A1", 119_700), ("A2", 19_900)]
    assert orders[0][2].isoformat() == "2026-03-01T02:00:00+00:00"


def test_a_repeated_import_leaves_orders_as_a_later_correction_made_them(desk: ImportDesk) -> None:
    content = lines({"order_id": "1", "total": "10.00", "placed_at": "2026-03-01T00:00:00Z"})
    desk.import_file(content, "orders")
    correction = {"order_id": "1", "total": "7.00", "updated_at": "2026-03-02T00:00:00Z"}
    desk.import_file(lines(correction), "orders")

    desk.import_file(content, "orders", again="true")

    assert desk.query("SELECT order_id, total FROM orders") == [("1", 700)]


def test_accounts_are_imported_with_members_from_several_rows(desk: ImportDesk) -> None:
    content = (
        b"account_id,traits.name,members.identifiers.email,members.role\n"
        b"acme,Acme,ann@example.com,buyer\n"
        b"acme,Acme,bob@example.com,owner\n"
        b"other,Other,,\n"
    )

    done = desk.import_file(content, "accounts")

    assert (done["rows"], done["accepted"], done["rejected"]) == (3, 2, 0)
    assert [row[0] for row in desk.query("SELECT account_id FROM accounts ORDER BY 1")] == [
        "acme", "other",
    ]  # fmt: skip


def test_a_corrected_mapping_of_profiles_has_its_effect(desk: ImportDesk) -> None:
    content = b"mail,town\nann@example.com,Rome\n"
    desk.import_file(
        content, "profiles", {"columns": {"mail": "identifiers.email", "town": "traits.cit"}}
    )

    desk.import_file(
        content, "profiles", {"columns": {"mail": "identifiers.email", "town": "traits.city"}}
    )

    assert ("city", "Rome") in desk.query("SELECT name, value FROM traits")


class Killed(BaseException):
    """What ends a runner between an append and its checkpoint."""


class DyingLog:
    """A log whose caller dies once an append has succeeded."""

    def __init__(self, log: Any, after: int) -> None:
        self._log, self._left = log, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, records: Any) -> Any:
        self._left -= 1
        done = self._log.append(records)
        if self._left < 0:
            done.result()
            raise Killed
        return done


def test_an_import_goes_on_behind_its_last_checkpoint_and_counts_once(desk: ImportDesk) -> None:
    rows = tracks(9_000)
    rows[4_500] = {"type": "dance"}
    answer = desk.post(lines(*rows))
    with pytest.raises(Killed):
        desk.make_runner(DyingLog(desk.log, after=1)).run_next()
    broken = desk.show(answer.json()["id"])

    assert (broken["status"], broken["rows"], broken["accepted"]) == ("running", 4_000, 4_000)
    assert not desk.runner.run_next()
    desk.end_leases()
    desk.run_all()
    done = desk.show(answer.json()["id"])
    assert (done["status"], done["rows"]) == ("done", 9_000)
    assert (done["accepted"], done["rejected"]) == (8_999, 1)
    assert [row["row"] for row in desk.rejected(done["id"])] == [4_501]
    assert count_events(desk) == 8_999
    assert desk.query("SELECT count(*) FROM rejected") == [(1,)]
