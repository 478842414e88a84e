"""Which events are taken at the door, which are refused and why, and what their log line is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdp.errors import BadRequest
from cdp.ingest.parse import Judged, judge, open_batch, open_single

LIMIT = 32 * 1024


def judge_batch(body: bytes | dict[str, Any], *, partitions: int = 1) -> Judged:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(open_batch(raw), route_type=None, partitions=partitions, max_event_bytes=LIMIT)


def judge_single(route_type: str, body: bytes | dict[str, Any]) -> Judged:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    opened = open_single(raw, wants_key=True)
    return judge(opened, route_type=route_type, partitions=1, max_event_bytes=LIMIT)


def only_line(judged: Judged) -> dict[str, Any]:
    assert judged.rejected == []
    (lines,) = judged.lines.values()
    (line,) = lines
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize(
    "event",
    [
        {"type": "track", "event": "A", "userId": "u"},
        {"type": "track", "event": "A", "userId": 42},
        {"type": "track", "event": "A", "userId": 2**70},
        {"type": "page", "anonymousId": "a"},
        {"type": "page", "anonymousId": "a", "userId": None},
        {"type": "page", "anonymousId": "a", "userId": ""},
        {"type": "identify", "traits": {"email": "ann@example.com"}},
        {"type": "identify", "context": {"traits": {"phone": "13800138000"}}},
        {"type": "identify", "context": {"traits": {"phone": 13800138000}}},
        {"type": "track", "context": {"externalIds": [{"type": "crm_id", "id": "7"}]}},
        {"type": "screen", "context": {"device": {"id": "d"}}},
        {"type": "identify", "traits": {"email": "ann@example.com", "phone": []}},
        {"type": "identify", "traits": [], "context": {"traits": {"email": "a@example.com"}}},
        {"type": "alias", "userId": "new", "previousId": "old"},
        {"type": "group", "userId": "u", "groupId": 5, "messageId": 7},
    ],
)
def test_an_event_that_names_somebody_is_taken(event: dict[str, Any]) -> None:
    judged = judge_batch({"batch": [event]})
    assert judged.rejected == []
    assert judged.accepted == 1


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "tracks", "userId": "u"}, "unknown_type"),
        ({"userId": "u"}, "unknown_type"),
        ({"type": 7, "userId": "u"}, "unknown_type"),
        ({"type": "track"}, "no_identifier"),
        ({"type": "track", "userId": "", "anonymousId": None}, "no_identifier"),
        ({"type": "track", "userId": "  "}, "no_identifier"),
        ({"type": "group", "groupId": "g", "traits": {"email": "hq@a.example"}}, "no_identifier"),
        ({"type": "track", "userId": 1.5}, "invalid_user_id"),
        ({"type": "track", "userId": 1.0}, "invalid_user_id"),
        ({"type": "track", "userId": ["u"]}, "invalid_user_id"),
        ({"type": "track", "userId": {"id": "u"}}, "invalid_user_id"),
        ({"type": "track", "userId": True}, "invalid_user_id"),
        ({"type": "track", "userId": "u" * 600}, "invalid_user_id"),
        ({"type": "track", "userId": "u", "anonymousId": [1]}, "invalid_anonymous_id"),
        ({"type": "track", "userId": "u", "properties": {"x": "x" * LIMIT}}, "event_too_large"),
        ([], "not_an_object"),
        ("track", "not_an_object"),
        (None, "not_an_object"),
    ],
)
def test_a_bad_event_is_refused_and_its_neighbours_land(event: Any, code: str) -> None:
    good = {"type": "track", "userId": "u", "messageId": "good"}
    judged = judge_batch({"batch": [good, event, good]})
    assert [(one.index, one.code) for one in judged.rejected] == [(1, code)]
    assert judged.rejected[0].raw == json.dumps(event).encode()
    assert judged.accepted == 2


def test_a_refusal_names_the_message_also_when_it_is_too_large() -> None:
    event = {"type": "track", "userId": "u", "messageId": "m7", "x": "x" * LIMIT}
    assert judge_batch({"batch": [event]}).rejected[0].message_id == "m7"


def test_an_ordinary_event_travels_byte_for_byte() -> None:
    line = b'{"type":"track", "userId":"u","n":1.10,"z":{"\xe5\xae\x89":[1 , 2]}}'
    judged = judge_batch(b'{"batch":[ ' + line + b" ]}")
    assert judged.lines == {0: [line]}


def test_an_event_over_several_lines_becomes_one_line() -> None:
    body = json.dumps({"batch": [{"type": "track", "userId": "u", "a": "x\ny"}]}, indent=2)
    (lines,) = judge_batch(body.encode()).lines.values()
    assert b"\n" not in lines[0]
    assert json.loads(lines[0]) == {"type": "track", "userId": "u", "a": "x\ny"}


def test_one_person_goes_to_one_partition_whichever_way_the_event_came() -> None:
    odd = b'{"type":"track","userId":"u-7","n":NaN}'
    plain = b'{"type":"page","userId":"u-7","anonymousId":"a"}'
    judged = judge_batch(b'{"batch":[' + odd + b"," + plain + b"]}", partitions=64)
    assert len(judged.lines) == 1


@pytest.mark.parametrize("written", [{}, {"type": None}, {"type": ""}, {"type": "page"}])
def test_the_route_says_the_type_of_a_single_event(written: dict[str, Any]) -> None:
    line = only_line(judge_single("track", {**written, "event": "A", "userId": "u"}))
    assert line == {"type": "track", "event": "A", "userId": "u"}


def test_a_bad_single_event_is_refused_rather_than_an_error() -> None:
    for body in (b"[]", b'"x"', b'{"userId":1.5}', b"{}"):
        assert len(judge_single("track", body).rejected) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"a":}', b"\xff\xfe{\x00"])
def test_a_body_that_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises(BadRequest) as single:
        open_single(body, wants_key=True)
    with pytest.raises(BadRequest) as batch:
        open_batch(body)
    assert single.value.code == batch.value.code == "invalid_json"


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"batch":{}}', b'{"batch":[]}', b"7"])
def test_a_batch_route_wants_a_batch(body: bytes) -> None:
    with pytest.raises(BadRequest) as error:
        open_batch(body)
    assert error.value.code in ("no_batch", "empty_batch")


@pytest.mark.parametrize(
    ("value", "kept", "flag"),
    [
        (b"NaN", None, "non_finite_number"),
        (b"Infinity", None, "non_finite_number"),
        (b"-Infinity", None, "non_finite_number"),
        (b"1e999", None, "non_finite_number"),
        (b'"a\\ud800b"', None, "lone_surrogate"),
        (b"12345678901234567890123", "12345678901234567890123", "big_integer"),
        (b'"a\\u0000b"', "a\ufffdb", "nul_character"),
    ],
)
def test_a_value_that_strict_json_lacks_costs_itself_alone(
    value: bytes, kept: object, flag: str
) -> None:
    odd = b'{"type":"track","userId":"u","properties":{"v":' + value + b',"w":NaN}}'
    plain = b'{"type":"track","userId":"u"}'
    judged = judge_batch(b'{"batch":[' + plain + b"," + odd + b'],"writeKey":"k"}')
    assert judged.accepted == 2
    (lines,) = judged.lines.values()
    assert lines[0] == plain
    event = json.loads(lines[1])
    assert event["properties"] == {"v": kept, "w": None}
    assert event["context"]["cdp"]["flags"] == sorted({flag, "non_finite_number"})


def test_an_event_nested_too_deeply_is_refused_and_its_neighbours_land() -> None:
    deep = b'{"type":"track","userId":"u","p":' + b"[" * 5000 + b"]" * 5000 + b"}"
    plain = b'{"type":"track","userId":"u"}'
    judged = judge_batch(
        b'{"sentAt":"2026-01-01T00:00:00Z","batch":[' + deep + b"," + plain + b'],"writeKey":"k"}'
    )
    assert [(one.index, one.code) for one in judged.rejected] == [(0, "too_deep")]
    assert judged.lines == {0: [plain]}


def test_an_id_that_is_not_utf8_is_replaced_and_flagged() -> None:
    body = b'{"batch":[{"type":"track","userId":"\xb0\xb2"},{"type":"page","userId":"u"}]}'
    (lines,) = judge_batch(body).lines.values()
    first, second = map(json.loads, lines)
    assert first["userId"] == "\ufffd\ufffd"
    assert first["context"]["cdp"]["flags"] == ["not_utf8"]
    assert "context" not in second


def test_what_the_batch_says_for_all_is_merged_under_each_event() -> None:
    body = {
        "batch": [
            {"type": "track", "userId": "u", "context": {"ip": "1.2.3.4"}},
            {"type": "track", "userId": "v"},
        ],
        "context": {"ip": "0.0.0.0", "locale": "zh-CN"},
        "integrations": {"All": True},
    }
    (lines,) = judge_batch(body).lines.values()
    first, second = map(json.loads, lines)
    assert first["context"] == {"ip": "1.2.3.4", "locale": "zh-CN"}
    assert second["context"] == {"ip": "0.0.0.0", "locale": "zh-CN"}
    assert first["integrations"] == {"All": True}


@pytest.mark.parametrize(
    "body",
    [
        b'{"batch":[{"type":"page","userId":"u"}],"writeKey":"k","sentAt":"2026-01-01T00:00:00Z"}',
        b'{"batch":[{"type":"page","userId":"u","n":NaN}],'
        b'"writeKey":"k","sentAt":"2026-01-01T00:00:00Z"}',
        b'\xef\xbb\xbf{"sentAt":"2026-01-01T00:00:00Z","writeKey":"k",'
        b'"batch":[{"type":"page","userId":"u"}]}',
    ],
)
def test_key_and_sending_time_are_found_in_the_body(body: bytes) -> None:
    opened = open_batch(body)
    assert (opened.write_key, opened.sent_at) == ("k", "2026-01-01T00:00:00Z")
    assert len(opened.items) == 1


def test_the_word_batch_inside_an_event_does_not_confuse_the_cutter() -> None:
    first = (
        b'{"type":"track","userId":"u","batch":[1,{"batch":[2]}],"t":"},{\\"batch\\":[","n":NaN}'
    )
    body = b'{"a":{"batch":[1,2]},"batch":[' + first + b', {"type":"page","userId":"u"} ]}'
    assert judge_batch(body).accepted == 2


TRICKY = [
    # Objects in a list that begin as the events do.
    b'{"batch":[{"type":"track","userId":"u","products":[{"type":"a"},{"type":"b"}]},'
    b'{"type":"page","userId":"u"}]}',
    # The seam between two events, inside a text.
    b'{"batch":[{"type":"track","userId":"u","t":"},{\\"type\\""},{"type":"page","userId":"u"}]}',
    # Events that begin differently.
    b'{"batch":[{"userId":"u","type":"track"},{"type":"page","userId":"u"}]}',
    b'{"batch":[{"type":"track","userId":"u"}, {"type":"page","userId":"u"}]}',
    b'{"batch": [ {"type":"track","userId":"u"} ,\t{"type":"page","userId":"u"} ] }',
    # Lists behind the batch, and other batches before, within and behind it.
    b'{"batch":[{"type":"track","userId":"u"},{"type":"page","userId":"u"}],"x":[{"a":1}]}',
    b'{"x":{"batch":[{"type":"no"}]},"batch":[{"type":"track","userId":"u"},'
    b'{"type":"page","userId":"u"}]}',
    b'{"batch":[{"type":"track","userId":"u"},{"type":"page","userId":"u"}],'
    b'"x":{"batch":[{"type":"no"}]}}',
    b'{"x\\"batch":[{"type":"no"}],"batch":[{"type":"track","userId":"u"},'
    b'{"type":"page","userId":"u"}]}',
    b'{"x":"\\"batch\\":[","batch":[{"type":"track","userId":"u"},{"type":"page","userId":"u"}]}',
    b'{"batch":[{"type":"no"}],"batch":[{"type":"track","userId":"u"},'
    b'{"type":"page","userId":"u"}]}',
]


@pytest.mark.parametrize("body", TRICKY)
def test_a_batch_is_cut_where_json_says_so(body: bytes) -> None:
    judged = judge_batch(body)
    assert judged.rejected == []
    (lines,) = judged.lines.values()
    assert [json.loads(line) for line in lines] == json.loads(body)["batch"]
    assert [json.loads(line)["type"] for line in lines] == ["track", "page"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"x":{"batch":[{"type":"track","userId":"u"}]},"batch":[]}',
        b'{"x\\"batch":[{"type":"track","userId":"u"}],"batch":[]}',
        b'{"x":[{"batch":[{"type":"track","userId":"u"}]}]}',
    ],
)
def test_events_in_some_other_batch_are_none(body: bytes) -> None:
    with pytest.raises(BadRequest):
        open_batch(body)


@pytest.mark.parametrize("body", [b"{", b"nonsense", b'{"userId":"u"'])
def test_a_single_body_that_is_no_json_is_an_error_wherever_the_key_is(body: bytes) -> None:
    for wants_key in (True, False):
        with pytest.raises(BadRequest):
            open_single(body, wants_key=wants_key)
