"""How a person is recognised in bytes that know no people."""

from __future__ import annotations

import json

import msgspec
import pytest

from cdp.log.format import ERASED, RejectedLine
from cdp.model import Identifier
from cdp.privacy.log_copies import blank_lines
from cdp.privacy.traces import Traces

ANN = [
    Identifier("email", "ann@example.com"),
    Identifier("phone", "+8613812345678"),
    Identifier("user_id", "42"),
    Identifier("member_card", "安妮的会员卡号码"),
]
TRACES = Traces(ANN, ["message-0001"])


@pytest.mark.parametrize(
    "raw",
    [
        '{"traits": {"email": "Ann@Example.com"}}',
        '{"email":"\\u0061nn@example.com"}',
        "name,ANN@EXAMPLE.COM,3",
        '{"phone": "138-1234-5678"}',
        '{"phone": "+86 138 1234 5678"}',
        '{"userId": "42"}',
        '{"userId": 42}',
        '{"context": {"externalIds": [{"type": "user_id", "id": "42"}]}}',
        '{"messageId": "message-0001"}',
        '{"card": "安妮的会员卡号码"}',
        json.dumps({"card": "安妮的会员卡号码"}),
        "42,Ann,3",
    ],
)
def test_a_person_is_found_however_they_are_spelled(raw: str) -> None:
    assert TRACES.are_in(raw.encode())


@pytest.mark.parametrize(
    "raw",
    [
        '{"email": "joann@example.com"}',
        '{"email": "ann@example.community"}',
        '{"phone": "138 1234 5679"}',
        '{"quantity": 42}',
        '{"userId": "421"}',
        '{"messageId": "message-00012"}',
        "",
        "\\xff\\xfe",
    ],
)
def test_nobody_else_is_taken_for_them(raw: str) -> None:
    assert not TRACES.are_in(raw.encode())


def test_only_the_lines_of_a_person_are_blanked_and_every_line_keeps_its_place() -> None:
    lines = [b'{"userId":"7"}', b'{"userId":"42"}', b'{"userId":"8"}']
    blanked, count = blank_lines("events", b"\n".join(lines), TRACES)
    assert blanked.split(b"\n") == [lines[0], ERASED, lines[2]]
    assert count == 1
    assert blank_lines("events", blanked, TRACES) == (blanked, 0)


def test_a_refused_line_is_recognised_by_the_bytes_that_it_carries() -> None:
    other = RejectedLine("bad", "why", b"x")
    hers = RejectedLine("bad", "why", b'{"userId": "42"}')
    value = b"\n".join(msgspec.json.encode(one) for one in (other, hers))
    blanked, count = blank_lines("rejected", value, TRACES)
    assert count == 1
    left = [msgspec.json.decode(line, type=RejectedLine) for line in blanked.split(b"\n")]
    assert [one.code for one in left] == ["bad", "suppressed"]


def test_ten_thousand_people_are_looked_for_in_one_pass() -> None:
    names = [Identifier("user_id", f"customer-{n:06}") for n in range(10_000)]
    messages = [f"-message {n:06}-" for n in range(20_000)]
    traces = Traces([*names, Identifier("user_id", "########")], messages)
    other = json.dumps({"userId": "customer-9999999", "text": "customer-00001 " * 20}).encode()
    assert not any(traces.are_in(other) for _ in range(2000))
    assert traces.are_in(b'{"userId": "customer-000042"}')
    assert traces.are_in(b"a -message 000007-,b")
    assert not traces.are_in(b"a-message 000007-b")
    assert traces.are_in(b'{"x": "########"}')
