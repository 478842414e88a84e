"""The mapping document, values, presets and wire lines of imports."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from cdp.errors import Unprocessable
from cdp.ingest.imports.chunks import cut_grouped_rows, cut_rows
from cdp.ingest.imports.map_row import ObjectMapper, RowRefused, compile_mapping
from cdp.ingest.imports.mapping import Column, read_mapping
from cdp.ingest.imports.prepare import Origin, encode_document, map_cells, prepare_wire
from cdp.ingest.imports.presets import PRESETS
from cdp.ingest.imports.targets import Kind
from cdp.ingest.imports.values import make_converter

ORIGIN = Origin("d" * 64, "m" * 32, "2026-03-05T00:00:00.000Z")


def convert(
    value: Any, target: str = "properties.x", zone: str = "Asia/Shanghai", **said: Any
) -> Any:
    document = {"columns": {"c": {"to": target, **said}}}
    kind: Kind = "orders" if target in ("total",) else "events"
    column = read_mapping(document, kind).columns["c"]
    found = make_converter(column, target=target, timezone=zone, currency="CNY")
    return value if found is None else found(value)


def map_row(document: dict[str, Any], kind: Kind, row: dict[str, Any], **more: Any) -> Any:
    options = {"timezone": "Asia/Shanghai", "currency": "CNY", "is_typed": False, **more}
    mapper = compile_mapping(read_mapping(document, kind), kind, list(row), **options)
    made = map_cells(mapper, kind, ORIGIN)(list(row.values()), 7)
    return json.loads(encode_document(made))


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], "/mapping"),
        ({"colums": {}}, "/mapping/colums"),
        ({"columns": []}, "/mapping/columns"),
        ({"columns": {"a": "nowhere"}}, "/mapping/columns/a"),
        ({"columns": {"a/b": {"to": "traits.x", "typ": "text"}}}, "/mapping/columns/a~1b/typ"),
        ({"columns": {"a": {"type": "text"}}}, "/mapping/columns/a/to"),
        ({"columns": {"a": {"to": "traits.x", "type": "txt"}}}, "/mapping/columns/a/type"),
        ({"columns": {"a": {"to": "sentAt", "timezone": "Mars"}}}, "/mapping/columns/a/timezone"),
        ({"columns": {"a": {"to": "traits.x", "currency": "XX"}}}, "/mapping/columns/a/currency"),
        ({"columns": {"a": "traits..x"}}, "/mapping/columns/a"),
        ({"constants": {"event": []}}, "/mapping/constants/event"),
        ({"delimiter": ";;"}, "/mapping/delimiter"),
        ({"encoding": "klingon"}, "/mapping/encoding"),
        ({"unknown": "maybe"}, "/mapping/unknown"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_mapping_is_named_by_its_path(document: Any, path: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        read_mapping(document, "events")

    assert refused.value.details["path"] == path


def test_a_mapping_may_be_its_columns_alone() -> None:
    short = {"mail": "identifiers.email", "since": {"to": "traits.since", "type": "date"}}
    assert read_mapping(short, "profiles") == read_mapping({"columns": short}, "profiles")


def test_a_column_that_the_file_lacks_is_named() -> None:
    mapping = read_mapping({"columns": {"手机": "identifiers.phone"}}, "profiles")

    with pytest.raises(Unprocessable) as refused:
        compile_mapping(
            mapping, "profiles", ["电话"], timezone="UTC", currency="CNY", is_typed=False
        )

    assert refused.value.details["path"] == "/mapping/columns/手机"
    assert "电话" in refused.value.message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03-01 08:00", "2026-03-01T00:00:00.000Z"),
        ("2026/3/1 8:00:05", "2026-03-01T00:00:05.000Z"),
        ("2026年3月1日 8时05分", "2026-03-01T00:05:00.000Z"),
        ("2026年3月1日", "2026-02-28T16:00:00.000Z"),
        ("20260301", "2026-02-28T16:00:00.000Z"),
        ("20260301080000", "2026-03-01T00:00:00.000Z"),
        ("2026.3.1", "2026-02-28T16:00:00.000Z"),
        ("2026-03-01T08:00:00.123Z", "2026-03-01T08:00:00.123Z"),
        ("2026-03-01 08:00:00+0100", "2026-03-01T07:00:00.000Z"),
        (datetime(2026, 3, 1, 8), "2026-03-01T00:00:00.000Z"),
        (datetime(2026, 3, 1, 8, tzinfo=UTC), "2026-03-01T08:00:00.000Z"),
        (date(2026, 3, 1), "2026-02-28T16:00:00.000Z"),
        (1_772_323_200, "2026-03-01T00:00:00.000Z"),
        (1_772_323_200_000, "2026-03-01T00:00:00.000Z"),
    ],
)
def test_times_are_read_as_people_write_them_in_the_workspaces_zone(
    value: Any, expected: str
) -> None:
    assert convert(value, type="time") == expected


def test_a_mapping_says_form_and_zone_of_a_time() -> None:
    said = {"type": "time", "format": ["%d.%m.%Y %H:%M", "%d.%m.%Y"], "timezone": "Europe/Berlin"}

    assert convert("01.07.2026 10:00", **said) == "2026-07-01T08:00:00.000Z"
    assert convert("01.07.2026", **said) == "2026-06-30T22:00:00.000Z"
    assert convert("1772323200", type="time", format="epoch") == "2026-03-01T00:00:00.000Z"
    with pytest.raises(ValueError, match="form that the mapping says"):
        convert("2026-07-01", **said)


@pytest.mark.parametrize("value", ["gestern", "2026-13-01", "2026-02-30", "", "25:00", True, 1e300])
def test_what_is_no_time_is_refused_without_being_repeated(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^not a time$"):
        convert(value, type="time")


@pytest.mark.parametrize(
    ("value", "currency", "expected"),
    [
        ("￥1,299.00", "CNY", "1299.00"),
        ("1299元", "CNY", "1299.00"),
        ("CNY 1 299.5", "CNY", "1299.50"),
        ("(12.00)", "CNY", "-12.00"),
        ("1,200", "JPY", "1200"),
        ("0.1", "KWD", "0.100"),
        (19.990000000000002, "CNY", "19.99"),
        (Decimal("7.10"), "CNY", "7.10"),
    ],
)
def test_money_is_exact_in_its_currency(value: Any, currency: str, expected: str) -> None:
    assert convert(value, target="total", type="money", currency=currency) == Decimal(expected)


def test_money_in_traits_is_minor_units_and_in_properties_names_its_currency() -> None:
    mapping = {
        "columns": {
            "a": {"to": "traits.balance", "type": "money"},
            "b": {"to": "properties.total", "type": "money", "currency": "USD"},
        },
        "constants": {"event": "Bought", "userId": "u"},
    }

    made = map_row(mapping, "events", {"a": "12.5", "b": "$3.10"})

    assert made["traits"]["balance"] == {"amount": 1250, "currency": "CNY"}
    assert made["properties"] == {"total": 3.10, "currency": "USD"}


@pytest.mark.parametrize(
    ("value", "said", "expected"),
    [
        ("1,299.5", {"type": "number"}, 1299.5),
        ("45%", {"type": "number"}, 0.45),
        ("12.0", {"type": "integer"}, 12),
        ("是", {"type": "boolean"}, True),
        ("N", {"type": "boolean"}, False),
        ("active", {"type": "boolean", "true": "active", "false": "gone"}, True),
        ("a; b;;c", {"type": "list", "separator": ";"}, ["a", "b", "c"]),
        ('{"a": [1]}', {"type": "json"}, {"a": [1]}),
        ("男", {"values": {"男": "male"}}, "male"),
        (13800138000.0, {"type": "text"}, "13800138000"),
        ("1990/3/1", {"type": "date"}, "1990-03-01"),
    ],
)
def test_values_become_what_their_type_says(value: Any, said: Any, expected: Any) -> None:
    assert convert(value, **said) == expected


@pytest.mark.parametrize(
    ("value", "type"),
    [("x", "number"), ("1.5", "integer"), ("perhaps", "boolean"), ("{", "json"),
     ("NaN", "number"), ("1e999", "number"), ("1e400", "integer"), ("x", "money")],
)  # fmt: skip
def test_what_a_type_does_not_hold_is_refused(value: str, type: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        convert(value, type=type)


def test_identifiers_go_where_the_wire_has_them() -> None:
    mapping = {
        "columns": {
            "u": "identifiers.user_id", "e": "identifiers.email", "p": "identifiers.phone",
            "c": "identifiers.loyalty_id", "d": "identifiers.device_id", "ok": "consent.marketing",
        }
    }  # fmt: skip
    row = {"u": "42", "e": "a@b.c", "p": "138", "c": "L1", "d": "dev", "ok": "yes"}

    profile = map_row(mapping, "profiles", row)
    event = map_row({**mapping, "constants": {"event": "Visit"}}, "events", row)

    assert (profile["type"], profile["userId"]) == ("identify", "42")
    assert profile["traits"] == {"email": "a@b.c", "phone": "138"}
    assert profile["context"]["externalIds"][0]["type"] == "loyalty_id"
    assert profile["context"]["consent"] == {"categoryPreferences": {"marketing": True}}
    assert event["context"]["traits"] == {"email": "a@b.c", "phone": "138"}
    assert event["context"]["device"] == {"id": "dev"}
    assert "traits" not in event


def test_columns_that_nobody_named_are_kept_or_dropped() -> None:
    row = {"id": "1", "城市": "上海", "": "x"}
    mapping = {"columns": {"id": "userId"}}

    assert map_row(mapping, "profiles", row)["traits"] == {"城市": "上海"}
    assert "traits" not in map_row({**mapping, "unknown": "drop"}, "profiles", row)
    assert (
        map_row({"columns": {"id": "userId", "城市": None}}, "profiles", row).get("traits") is None
    )


def test_an_empty_cell_says_nothing_or_removes() -> None:
    row = {"id": "1", "city": ""}
    mapping = {"columns": {"id": "userId", "city": "traits.city"}}

    assert "traits" not in map_row(mapping, "profiles", row)
    assert map_row({**mapping, "empty": "null"}, "profiles", row)["traits"] == {"city": None}


def test_a_table_in_wire_format_needs_no_mapping() -> None:
    row = {
        "type": "track", "event": "Bought", "user_id": "42", "timestamp": "2026-03-01 08:00",
        "properties": '{"sku": "a"}', "properties.total": "12.50", "properties.order_id": "0012",
        "properties.code": "12", "context.ip": "10.0.0.1", "colour": "red",
    }  # fmt: skip

    made = map_row({}, "events", row)

    assert made["userId"] == "42"
    assert made["timestamp"] == "2026-03-01T00:00:00.000Z"
    assert made["properties"] == {
        "sku": "a", "total": 12.5, "order_id": "0012", "code": "12", "colour": "red",
    }  # fmt: skip
    assert made["context"] == {"ip": "10.0.0.1"}
    assert made["messageId"] == f"import-{'d' * 24}-7"


def test_json_objects_are_mapped_by_dotted_columns() -> None:
    mapping = read_mapping(
        {
            "columns": {
                "customer.mail": "identifiers.email",
                "sum": {"to": "properties.total", "type": "number"},
            },
            "constants": {"event": "Bought"},
        },
        "events",
    )
    mapper = ObjectMapper(mapping, "events", timezone="UTC", currency="CNY")

    made = mapper.map({"customer": {"mail": "a@b.c", "x": 1}, "sum": "5", "extra": None, "more": 2})

    assert made["context"]["traits"]["email"] == "a@b.c"
    assert made["properties"] == {"total": 5, "more": 2}
    with pytest.raises(RowRefused, match="column sum: not a number"):
        mapper.map({"sum": "five"})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_says_which_column_it_misses(name: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        map_row({"preset": name}, PRESETS[name], {"nothing": "x"})

    assert refused.value.code == "missing_column"


def test_a_service_desk_export_becomes_events_of_known_people() -> None:
    row = {"工单号": "T1", "创建时间": "2026-03-01 08:00", "手机": "13800138000", "满意度": "5",
           "问题类型": "物流", "别的": "x"}  # fmt: skip

    made = map_row({"preset": "service-tickets"}, "events", row)

    assert (made["type"], made["event"]) == ("track", "Ticket Created")
    assert made["context"]["traits"] == {"phone": "13800138000"}
    assert made["properties"] == {
        "ticket_id": "T1", "satisfaction": 5, "category": "物流", "别的": "x",
    }  # fmt: skip


def test_an_erp_export_becomes_accounts_with_their_contact() -> None:
    row = {
        "客户编码": "C1",
        "客户名称": "大公司",
        "信用额度": "1,000.00",
        "联系人邮箱": "a@b.c",
        "职务": "采购",
    }

    made = map_row({"preset": "erp-customers"}, "accounts", row)

    assert made["account_id"] == "C1"
    assert made["traits"] == {
        "name": "大公司", "credit_limit": {"amount": 100_000, "currency": "CNY"},
    }  # fmt: skip
    assert made["members"] == [{"identifier": {"type": "email", "value": "a@b.c"}, "role": "采购"}]


def test_the_users_own_word_on_a_column_outranks_the_presets() -> None:
    made = map_row(
        {"preset": "crm-contacts", "columns": {"邮箱": "traits.work_mail"}},
        "profiles",
        {"邮箱": "a@b.c", "手机": "138"},
    )

    assert made["traits"] == {"work_mail": "a@b.c", "phone": "138"}


def test_a_line_in_wire_format_gets_only_what_it_lacks() -> None:
    prepare = prepare_wire("events", ORIGIN)
    own = f"import-{'d' * 24}-3"

    assert (
        prepare(b'{"type":"page","messageId":"m","a":1}', 3)
        == b'{"type":"page","messageId":"m","a":1}'
    )
    assert json.loads(prepare(b'{"event":"E","messageId":null}', 3)) == {
        "event": "E", "messageId": own, "type": "track",
    }  # fmt: skip
    assert json.loads(prepare(b'{"type":"page","a":1e400}', 3))["messageId"] == own
    assert prepare(b"{broken", 3) == b"{broken"
    assert json.loads(prepare(b"{}", 3)) == {"type": "track", "messageId": own}


def test_profiles_come_as_identify_calls_as_identifiers_and_flat() -> None:
    prepare = prepare_wire("profiles", ORIGIN)

    def read(row: dict[str, Any]) -> Any:
        return json.loads(prepare(json.dumps(row).encode(), 1))

    assert read({"userId": "1", "traits": {"a": 1}})["type"] == "identify"
    named = read({"identifiers": [{"type": "email", "value": "a@b.c"}], "traits": {"a": 1}})
    assert named["traits"] == {"a": 1, "email": "a@b.c"}
    assert read({"userId": "1", "city": "Rome"})["traits"] == {"city": "Rome"}
    with pytest.raises(RowRefused):
        read({"type": "track", "event": "x"})


def test_orders_without_a_time_of_their_own_say_one_that_does_not_change() -> None:
    prepare = prepare_wire("orders", ORIGIN)

    assert b'"updated_at":"2026-01-01"' in prepare(b'{"order_id":1,"placed_at":"2026-01-01"}', 1)
    assert ORIGIN.said_at.encode() in prepare(b'{"order_id":1}', 2)
    assert (
        prepare(b'{"order_id":1,"updated_at":"2026"}', 1) == b'{"order_id":1,"updated_at":"2026"}'
    )


def test_rows_of_one_order_are_joined_only_while_they_follow_one_another() -> None:
    rows = [("A", 1), ("A", 2), ("B", 3), ("A", 4), (None, 5)]

    def prepare(row: Any, _: int) -> dict[str, Any]:
        return {"order_id": row[0], "lines": [{"sku": row[1]}]}

    (chunk,) = cut_grouped_rows(rows, prepare, "orders")

    assert [json.loads(line)["lines"] for line in chunk.lines] == [
        [{"sku": 1}, {"sku": 2}], [{"sku": 3}], [{"sku": 4}], [{"sku": 5}],
    ]  # fmt: skip
    assert (chunk.numbers, chunk.end) == ([1, 3, 4, 5], 5)


def test_a_refused_row_is_kept_so_that_it_is_masked_as_a_whole() -> None:
    def prepare(row: Any, _: int) -> bytes:
        raise RowRefused("no", "no")

    (chunk,) = cut_rows([("张三", "138")], prepare)

    assert json.loads(chunk.refused[0].raw) == ["张三", "138"]


def test_a_dropped_column_is_no_column() -> None:
    assert read_mapping({"columns": {"a": None}}, "events").columns["a"] == Column(None)
