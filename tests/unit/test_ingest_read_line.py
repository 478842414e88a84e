"""What the worker reads out of a log line: who, when, what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from cdp.identity.identifiers import identify as identify_claims
from cdp.identity.rules import default_rules
from cdp.ingest.event_time import decide_time
from cdp.ingest.read_line import read_line
from cdp.log.format import LoggedLine, RejectedLine
from cdp.model import Event, Identifier, Source, SourceType

RECEIVED = datetime(2026, 3, 1, 8, 0, 10, tzinfo=UTC)
RECEIVED_TEXT = "2026-03-01T08:00:10.000Z"
identify = partial(identify_claims, rules=default_rules("CN"))


def read(
    event: dict[str, Any] | bytes,
    *,
    source_type: SourceType = "web",
    sent_at: str | None = None,
    request_id: str = "req_1",
    ordinal: int = 0,
) -> Event:
    line = event if isinstance(event, bytes) else json.dumps(event).encode()
    logged = LoggedLine("src_1", request_id, RECEIVED_TEXT, sent_at, ordinal, line)
    found = read_line(logged, Source("src_1", 1, "shop", source_type), identify)
    assert isinstance(found, Event), found
    return found


def keep_claims(claims: Sequence[tuple[str, object]]) -> tuple[Identifier, ...]:
    return tuple(Identifier(kind, str(value)) for kind, value in claims)


def claims_of(event: dict[str, Any]) -> set[tuple[str, str]]:
    logged = LoggedLine("src_1", "r", RECEIVED_TEXT, None, 0, json.dumps(event).encode())
    found = read_line(logged, Source("src_1", 1, "shop", "server"), keep_claims)
    assert isinstance(found, Event)
    return {(one.type, one.value) for one in found.identifiers}


@pytest.mark.parametrize(
    ("event", "claims"),
    [
        ({"type": "track", "userId": "u", "anonymousId": "a"},
         {("user_id", "u"), ("anonymous_id", "a")}),
        ({"type": "track", "userId": 42}, {("user_id", "42")}),
        # Servers and browsers alike: an untyped earlier id.
        ({"type": "alias", "userId": "new", "previousId": "old", "anonymousId": "old"},
         {("user_id", "new"), ("anonymous_id", "old")}),
        ({"type": "alias", "userId": "new", "previousId": 7},
         {("user_id", "new"), ("anonymous_id", "7")}),
        ({"type": "track", "userId": "u", "previousId": "x"}, {("user_id", "u")}),
        ({"type": "alias", "userId": "u", "mergeProperties": [
            {"type": "email", "value": "a@b.example"}, {"type": "mobile", "value": "138"},
            {"type": 1, "value": "x"}, {"value": "y"}, "z", {"type": "crm_id", "value": True}]},
         {("user_id", "u"), ("email", "a@b.example"), ("phone", "138")}),
        # analytics-next, of somebody whom it knows already.
        ({"type": "alias", "userId": "u", "previousId": "u", "anonymousId": "a"},
         {("user_id", "u"), ("anonymous_id", "a")}),
        ({"type": "identify", "userId": "u", "traits": {"email": "A@b.example", "phone": 138}},
         {("user_id", "u"), ("email", "A@b.example"), ("phone", "138")}),
        # rudder-js repeats the visitor's traits on every call.
        ({"type": "track", "userId": "u", "context": {"traits": {"email": "a@b.example"}}},
         {("user_id", "u"), ("email", "a@b.example")}),
        # The traits of a track call mean nothing, those of a group call are the account's.
        ({"type": "track", "userId": "u", "traits": {"email": "a@b.example"}}, {("user_id", "u")}),
        ({"type": "group", "userId": "u", "groupId": "g", "traits": {"email": "hq@b.example"},
          "context": {"traits": {"email": "a@b.example"}}},
         {("user_id", "u"), ("email", "a@b.example")}),
        ({"type": "track", "anonymousId": "a", "context": {"externalIds": [
            {"id": "o1", "type": "wechat_openid", "collection": "users", "encoding": "none"},
            {"id": 7, "type": "crm_id"},
            {"id": "acme", "type": "group_id", "collection": "accounts"},
            {"id": "x"}, {"type": "y"}]}},
         {("anonymous_id", "a"), ("wechat_openid", "o1"), ("crm_id", "7")}),
        ({"type": "screen", "context": {"device": {
            "id": "d", "type": "ios", "advertisingId": "AD"}}},
         {("device_id", "d"), ("idfa", "AD")}),
        ({"type": "screen", "context": {"device": {"type": "android", "advertisingId": "AD"}}},
         {("gaid", "AD")}),
    ],
)  # fmt: skip
def test_every_identifier_on_an_event_is_claimed(
    event: dict[str, Any], claims: set[tuple[str, str]]
) -> None:
    assert claims_of(event) == claims


def test_identifiers_come_normalised_and_strongest_first() -> None:
    event = read({"type": "identify", "anonymousId": "a", "traits": {"email": " A@B.example "}})
    assert event.identifiers == (
        Identifier("email", "a@b.example"),
        Identifier("anonymous_id", "a"),
    )


def test_an_event_whose_identifiers_are_all_blocked_is_kept_without_a_person() -> None:
    assert read({"type": "track", "event": "A", "userId": "null"}).identifiers == ()


@pytest.mark.parametrize(
    ("event", "traits"),
    [
        ({"type": "identify", "userId": "u", "traits": {"plan": "pro", "city": None}},
         {"plan": "pro", "city": None}),
        ({"type": "identify", "userId": "u", "context": {"traits": {"plan": "pro"}}},
         {"plan": "pro"}),
        ({"type": "identify", "userId": "u", "traits": {"plan": "pro"},
          "context": {"traits": {"plan": "free", "city": "上海"}}},
         {"plan": "pro", "city": "上海"}),
        ({"type": "group", "userId": "u", "groupId": "g", "traits": {"plan": "team"}}, {}),
        ({"type": "track", "userId": "u", "traits": {"plan": "pro"}}, {}),
    ],
)  # fmt: skip
def test_traits_are_those_of_the_person(event: dict[str, Any], traits: dict[str, Any]) -> None:
    assert dict(read(event).traits) == traits


@pytest.mark.parametrize(
    ("event", "properties"),
    [
        ({"type": "track", "userId": "u", "properties": {"a": 1}}, {"a": 1}),
        ({"type": "track", "userId": "u", "properties": None}, {}),
        ({"type": "track", "userId": "u"}, {}),
        ({"type": "identify", "userId": "u", "traits": {"a": 1}, "properties": {"b": 2}}, {"a": 1}),
        ({"type": "identify", "userId": "u", "context": {"traits": {"a": 1}}}, {"a": 1}),
        ({"type": "group", "userId": "u", "groupId": "g", "traits": {"a": 1}}, {"a": 1}),
        (
            {"type": "page", "userId": "u", "name": "Home", "category": "Shop"},
            {"name": "Home", "category": "Shop"},
        ),
        (
            {"type": "page", "userId": "u", "name": "Home", "properties": {"name": "H"}},
            {"name": "H"},
        ),
        ({"type": "screen", "userId": "u", "name": "Home", "category": None}, {"name": "Home"}),
    ],
)
def test_properties_are_what_the_call_was_about(
    event: dict[str, Any], properties: dict[str, Any]
) -> None:
    assert json.loads(read(event).properties) == properties


def test_what_was_not_touched_stays_byte_for_byte() -> None:
    line = b'{"type":"track","userId":"u","properties":{"n": 1.10},"context":{"ip" :"x"}}'
    event = read(line)
    assert (event.properties, event.context) == (b'{"n": 1.10}', b'{"ip" :"x"}')


def test_consents_of_both_families_are_read() -> None:
    segment = {"consent": {"categoryPreferences": {"marketing": True, "ads": False, "odd": "yes"}}}
    rudder = {"consentManagement": {"allowedConsentIds": ["C1"], "deniedConsentIds": ["C2"]}}
    base = {"type": "track", "userId": "u"}
    assert read({**base, "context": segment}).consents == {"marketing": True, "ads": False}
    assert read({**base, "context": rudder}).consents == {"C1": True, "C2": False}


@pytest.mark.parametrize(
    ("original", "sent", "at"),
    [
        # The device's clock is an hour slow; the event waited for two seconds.
        ("2026-03-01T07:00:00.000Z", "2026-03-01T07:00:02.000Z", RECEIVED - timedelta(seconds=2)),
        # Without a time of sending nothing is known of the clock, however old the event.
        ("2019-01-01T00:00:00.000Z", None, datetime(2019, 1, 1, tzinfo=UTC)),
        ("2026-03-01T08:00:05.123456+00:00", None, RECEIVED - timedelta(seconds=4.876544)),
        ("2026-03-01", None, datetime(2026, 3, 1, tzinfo=UTC)),
        (1772352005, None, RECEIVED - timedelta(seconds=5)),
        (1772352005000, None, RECEIVED - timedelta(seconds=5)),
        (None, "2026-03-01T07:00:02.000Z", RECEIVED),
        ("yesterday", None, RECEIVED),
        ("2027-03-01T08:00:00.000Z", None, RECEIVED),
        ("0001-01-01T00:00:00Z", None, RECEIVED),
        ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", RECEIVED),
    ],
)
def test_a_visitors_clock_is_corrected(original: object, sent: str | None, at: datetime) -> None:
    event = {"type": "track", "userId": "u"}
    if original is not None:
        event["timestamp"] = original  # type: ignore[assignment]
    assert read(event, sent_at=sent).at == at


def test_a_trusted_clock_is_taken_at_its_word() -> None:
    event = {"type": "track", "userId": "u", "timestamp": "2026-03-01T07:00:00.000Z"}
    found = read(event, source_type="server", sent_at="2026-03-01T07:00:02.000Z")
    assert found.at == datetime(2026, 3, 1, 7, tzinfo=UTC)
    assert found.original_at is None


def test_the_callers_timestamp_beats_originaltimestamp() -> None:
    event = {
        "type": "track",
        "userId": "u",
        "timestamp": "2025-05-01T00:00:00.000Z",
        "originalTimestamp": "2026-03-01T08:00:00.000Z",
    }
    assert read(event, source_type="server").at == datetime(2025, 5, 1, tzinfo=UTC)
    del event["timestamp"]
    assert read(event).at == datetime(2026, 3, 1, 8, tzinfo=UTC)


def test_an_events_own_time_of_sending_beats_the_batchs() -> None:
    event = {
        "type": "track",
        "userId": "u",
        "timestamp": "2026-03-01T07:00:00.000Z",
        "sentAt": "2026-03-01T07:00:01.000Z",
    }
    found = read(event, sent_at="2026-03-01T07:30:00.000Z")
    assert found.at == RECEIVED - timedelta(seconds=1)
    assert found.original_at == "2026-03-01T07:00:00.000Z"


def test_a_time_that_cannot_be_is_flagged() -> None:
    for written, flag in (("never", "bad_timestamp"), ("2030-01-01", "future_timestamp")):
        event = read({"type": "track", "userId": "u", "timestamp": written})
        assert json.loads(event.context) == {"cdp": {"flags": [flag]}}


def test_a_visitors_clock_within_a_day_ahead_is_believed() -> None:
    tomorrow = RECEIVED + timedelta(hours=23)
    found = decide_time(tomorrow.isoformat(), None, RECEIVED, clock_is_trusted=False)
    assert found.at == tomorrow


def test_a_copy_of_a_message_without_an_id_gets_the_same_id() -> None:
    event = {"type": "track", "userId": "u", "timestamp": "2026-03-01T08:00:00.000Z"}
    first = read({**event, "sentAt": "2026-03-01T08:00:01.000Z"}, request_id="req_1")
    again = read({**event, "sentAt": "2026-03-01T08:05:00.000Z"}, request_id="req_2", ordinal=5)
    other = read({**event, "event": "B"})
    assert first.message_id == again.message_id != other.message_id


def test_a_message_without_id_and_time_is_new_in_every_request() -> None:
    event = {"type": "track", "userId": "u"}
    ids = {
        read(event, request_id=request_id, ordinal=ordinal).message_id
        for request_id in ("req_1", "req_2")
        for ordinal in (0, 1)
    }
    assert len(ids) == 4
    assert read(event).message_id in ids


def test_messages_without_id_and_time_differ_though_each_is_the_first_line_of_its_record() -> None:
    # Two people of one request lie in two partitions, so in two records.
    one, two = ({"type": "track", "userId": user} for user in ("u", "v"))
    assert read(one).message_id != read(two).message_id


@pytest.mark.parametrize("written", ["", None])
def test_an_empty_message_id_is_none(written: str | None) -> None:
    assert read({"type": "track", "userId": "u", "messageId": written}).message_id != ""


def test_numbers_as_ids_become_digits() -> None:
    event = read({"type": "group", "userId": "u", "groupId": 12, "messageId": 34})
    assert (event.group_id, event.message_id) == ("12", "34")


@pytest.mark.parametrize(
    ("value", "kept", "flag"),
    [
        ('"a\\u0000b"', "a\ufffdb", "nul_character"),
        ('"\\udc00"', None, "lone_surrogate"),
        ("123456789012345678901234567890", "123456789012345678901234567890", "big_integer"),
        ("-1e400", None, "non_finite_number"),
    ],
)
def test_what_postgres_and_duckdb_refuse_is_replaced_and_flagged(
    value: str, kept: object, flag: str
) -> None:
    event = read(f'{{"type":"track","userId":"u","properties":{{"v":{value}}}}}'.encode())
    assert json.loads(event.properties) == {"v": kept}
    assert json.loads(event.context)["cdp"]["flags"] == [flag]


def test_bytes_that_are_not_utf8_are_replaced_and_flagged() -> None:
    event = read(b'{"type":"track","userId":"u","properties":{"city":"\xb0\xb2"}}')
    assert json.loads(event.properties) == {"city": "\ufffd\ufffd"}
    assert json.loads(event.context)["cdp"]["flags"] == ["not_utf8"]


@pytest.mark.parametrize(
    "value", ['"\\ud83d\\ude00"', "18446744073709551615", '"12345678901234567890123"', "1e300"]
)
def test_unusual_but_sound_values_stay(value: str) -> None:
    line = f'{{"type":"track","userId":"u","properties":{{"v":{value}}}}}'.encode()
    event = read(line)
    assert event.properties == f'{{"v":{value}}}'.encode()
    assert event.context == b"{}"


@pytest.mark.parametrize(
    "odd",
    [
        {"properties": [1]},
        {"properties": "x"},
        {"context": "x"},
        {"context": {"traits": [1]}},
        {"context": {"device": "x"}},
        {"context": {"device": {"id": [1]}}},
        {"context": {"externalIds": {"id": 1}}},
        {"context": {"externalIds": ["x"]}},
        {"context": {"consent": {"categoryPreferences": ["x"]}}},
        {"context": {"consentManagement": {"allowedConsentIds": "x"}}},
        {"traits": "x"},
        {"timestamp": {"at": 1}},
        {"sentAt": True},
        {"messageId": {"a": 1}},
        {"event": ["x"]},
        {"groupId": 1.5},
    ],
)
def test_a_member_of_unexpected_type_costs_itself_and_is_kept_aside(odd: dict[str, Any]) -> None:
    event = read({"type": "track", "userId": "u", "anonymousId": "a", **odd})
    assert [one.type for one in event.identifiers] == ["user_id", "anonymous_id"]
    context = json.loads(event.context)
    assert "odd_shape" in context["cdp"]["flags"]
    (name,) = odd
    assert any(path.startswith(name) for path in context["cdp"]["odd"])
    assert json.loads(event.properties) == {}


def test_a_number_as_event_name_is_its_text() -> None:
    assert read({"type": "track", "userId": "u", "event": 404}).name == "404"


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b'{"type":"x","userId":"u"}', b"\xff"])
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    logged = LoggedLine("src_1", "r", RECEIVED_TEXT, None, 0, line)
    found = read_line(logged, Source("src_1", 1, "shop", "web"), identify)
    assert isinstance(found, RejectedLine)
    assert found.raw == line


def test_a_consent_dated_ahead_counts_from_its_receipt() -> None:
    ahead = RECEIVED + timedelta(hours=3)
    stated = {"consent": {"categoryPreferences": {"marketing": False}}}
    call = {"type": "track", "event": "x", "userId": "u", "timestamp": ahead.isoformat()}
    assert read(call, source_type="server").at == ahead
    found = read({**call, "context": stated}, source_type="server")
    assert (found.at, found.original_at) == (RECEIVED, ahead.isoformat())
    assert b"future_timestamp" in found.context
    past = {**call, "timestamp": (RECEIVED - timedelta(hours=3)).isoformat(), "context": stated}
    assert read(past, source_type="server").at == RECEIVED - timedelta(hours=3)
