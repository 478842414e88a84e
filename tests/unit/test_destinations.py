"""What destinations may be, how they are signed, and when they are tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pa_parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from cdp.activation.address import is_refused, read_literal
from cdp.activation.delivery import Delivery, name_delivery
from cdp.activation.destination import Stream, check_settings, show_settings
from cdp.activation.difference import Change, Row, SentRow, list_changes
from cdp.activation.drop_folder import drop_file
from cdp.activation.retry import GIVE_UP_AFTER, Attempt, decide
from cdp.activation.signature import check_secret, make_secret, sign
from cdp.errors import Unprocessable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
VIP = Stream("segment", "vip")


def test_a_receiver_verifies_what_was_signed() -> None:
    secret, body = make_secret(), '{"name":"安妮"}'.encode()
    timestamp = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, "msg_1", timestamp, body),
    }

    assert Webhook(secret).verify(body, headers) == {"name": "安妮"}


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64", "x" * 200])
def test_a_secret_that_is_too_weak_or_no_base64_is_refused(secret: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        check_secret(secret)
    assert refused.value.details["path"] == "/settings/secret"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost", "LOCALHOST.", "db.localhost",
        "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "[::1]", "::", "fe80::1%eth0", "fc00::1",
        "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_what_is_not_on_the_public_network_is_refused_however_it_is_written(host: str) -> None:
    address = read_literal(host)
    assert address is not None
    assert is_refused(address)


@pytest.mark.parametrize("host", ["1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_pass(host: str) -> None:
    address = read_literal(host)
    assert address is not None
    assert not is_refused(address)


@pytest.mark.parametrize("host", ["example.com", "local.example.com", "a-b.cn"])
def test_names_are_looked_up_only_when_something_is_delivered(host: str) -> None:
    assert read_literal(host) is None


URL = "https://example.com/hook"


@pytest.mark.parametrize(
    ("type", "settings", "code", "path"),
    [
        ("webhook", {}, "missing_setting", "/settings/url"),
        ("webhook", {"url": "ftp://example.com"}, "bad_setting", "/settings/url"),
        ("webhook", {"url": "https://u:p@example.com"}, "bad_setting", "/settings/url"),
        ("webhook", {"url": "https://[::1"}, "bad_setting", "/settings/url"),
        ("webhook", {"url": "http://127.0.0.1:9/x"}, "private_address", "/settings/url"),
        (
            "webhook",
            {"url": URL, "headers": {"Host": "x"}},
            "bad_setting",
            "/settings/headers/Host",
        ),
        (
            "webhook",
            {"url": URL, "headers": {"a": "b\r\nc: d"}},
            "bad_setting",
            "/settings/headers/a",
        ),
        ("webhook", {"url": URL, "color": 1}, "unknown_setting", "/settings/color"),
        ("webhook", {"url": URL, "batch_size": 0}, "bad_setting", "/settings/batch_size"),
        ("kafka", {"topic": "t"}, "missing_setting", "/settings/bootstrap_servers"),
        (
            "kafka",
            {"bootstrap_servers": "localhost:9092", "topic": "t"},
            "private_address",
            "/settings/bootstrap_servers",
        ),
        (
            "kafka",
            {"bootstrap_servers": "k.example.com:9092", "topic": "a b"},
            "bad_setting",
            "/settings/topic",
        ),
        ("file", {"path": "../x"}, "bad_setting", "/settings/path"),
        ("file", {"path": "/etc"}, "bad_setting", "/settings/path"),
        ("file", {"path": "x", "format": "xls"}, "bad_setting", "/settings/format"),
    ],
)
def test_settings_that_cannot_work_are_refused_where_they_are_wrong(
    type: Any, settings: dict[str, Any], code: str, path: str
) -> None:
    with pytest.raises(Unprocessable) as refused:
        check_settings(type, settings, allows_private=False)
    assert (refused.value.code, refused.value.details["path"]) == (code, path)


def test_the_refusal_of_a_private_address_names_the_setting_that_allows_it() -> None:
    settings = {"url": "http://10.0.0.1/"}
    with pytest.raises(Unprocessable, match="CDP_ALLOW_PRIVATE_DESTINATIONS"):
        check_settings("webhook", settings, allows_private=False)
    assert check_settings("webhook", settings, allows_private=True) == settings


def test_headers_are_shown_without_what_they_say() -> None:
    shown = show_settings({"url": URL, "headers": {"Authorization": "Bearer x"}})
    assert shown == {"url": URL, "headers": {"Authorization": "***"}}


# ── What is sent ────────────────────────────────────────────────────────────────────────────────

people = st.dictionaries(st.integers(0, 8), st.integers(0, 2), max_size=8)


def make_rows(held: dict[int, int]) -> list[Row]:
    return [Row(no, f"prf_{no}", NOW, None, {"v": value}) for no, value in held.items()]


def take(sent: dict[int, SentRow], changes: list[Change]) -> None:
    for change in changes:
        if change.digest is None:
            del sent[change.profile_no]
        else:
            sent[change.profile_no] = SentRow(change.profile_no, change.profile_id, change.digest)


@given(st.lists(people, max_size=5))
def test_a_receiver_that_applies_the_differences_holds_the_rows_and_is_told_nothing_twice(
    worlds: list[dict[int, int]],
) -> None:
    sent: dict[int, SentRow] = {}
    for world in worlds:
        rows = make_rows(world)
        take(sent, list_changes(VIP, rows, list(sent.values())))
        assert sent.keys() == world.keys()
        assert list_changes(VIP, rows, list(sent.values())) == []


def test_somebody_who_changed_is_updated_and_somebody_gone_has_left() -> None:
    first = list_changes(VIP, make_rows({1: 0, 2: 0}), [])
    sent: dict[int, SentRow] = {}
    take(sent, first)
    changes = list_changes(VIP, make_rows({1: 1}), list(sent.values()))

    assert [(one.change, one.profile_id) for one in first] == [
        ("entered", "prf_1"),
        ("entered", "prf_2"),
    ]
    assert [(one.change, one.profile_id) for one in changes] == [
        ("updated", "prf_1"),
        ("left", "prf_2"),
    ]


# ── When it fails ───────────────────────────────────────────────────────────────────────────────

FAILED = Attempt(False, 500)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 100))
def test_pauses_grow_with_jitter_and_end_after_a_day(chance: float, attempts: int) -> None:
    again = decide(FAILED, attempts, NOW, NOW, chance)
    assert again.kind == "again"
    assert timedelta(seconds=4) <= again.at - NOW <= timedelta(hours=4.8)
    assert again.at <= NOW + GIVE_UP_AFTER

    over = decide(FAILED, attempts, NOW, NOW + GIVE_UP_AFTER, chance)
    assert over.kind == "pause"
    assert over.reason is not None
    assert "500" in over.reason


def test_a_receiver_that_is_gone_is_not_asked_again() -> None:
    assert decide(Attempt(False, 410), 1, NOW, NOW, 0.5).kind == "pause"


def test_a_receiver_says_when_to_come_back_within_reason() -> None:
    asked = Attempt(False, 429, retry_after=timedelta(minutes=7))
    greedy = Attempt(False, 429, retry_after=timedelta(days=7))
    assert decide(asked, 1, NOW, NOW, 0.5).at == NOW + timedelta(minutes=7)
    assert decide(greedy, 1, NOW, NOW, 0.5).at == NOW + timedelta(hours=1)


# ── Files ───────────────────────────────────────────────────────────────────────────────────────


def make_delivery(*rows: dict[str, Any]) -> Delivery:
    return Delivery(name_delivery("dst_1", 3), "dst_1", 3, list(rows), 0, NOW, None)


ROW = {
    "key": "segment:vip:prf_1",
    "change": "entered",
    "segment": "vip",
    "profile_id": "prf_1",
    "at": "2026-03-01T00:00:00.000Z",
    "cause": "event",
    "entered_at": "2026-03-01T00:00:00.000Z",
    "fields": {"email": "ann@x.cn", "traits.note": "=1+1", "traits.n": 3},
}
FIELDS = ["email", "traits.note", "traits.n"]


def test_a_file_is_written_whole_and_again_under_the_same_name(tmp_path: Path) -> None:
    settings = {"path": "crm/vip"}
    for _ in range(2):
        assert drop_file(tmp_path, settings, FIELDS, make_delivery(ROW)).is_delivered

    (file,) = (tmp_path / "crm" / "vip").iterdir()
    header, line = file.read_text().splitlines()
    assert file.name.startswith("000000000003-msg_")
    assert header.split(",")[-3:] == FIELDS
    assert line.endswith(",ann@x.cn,'=1+1,3")


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    settings = {"path": "p", "format": "parquet"}
    drop_file(tmp_path, settings, FIELDS, make_delivery(ROW))
    (row,) = pa_parquet.read_table(next((tmp_path / "p").iterdir())).to_pylist()
    assert row["profile_id"] == "prf_1"
    assert (row["traits.note"], row["traits.n"]) == ("=1+1", "3")


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    root = tmp_path / "drops"
    root.mkdir()
    (root / "crm").symlink_to(tmp_path / "outside")
    attempt = drop_file(root, {"path": "crm"}, FIELDS, make_delivery(ROW))
    assert not attempt.is_delivered
    assert list((tmp_path / "outside").iterdir()) == []
