"""The malformed set: what broken, hostile or merely unusual callers send, and what becomes of it.

A case is one element of a batch, as bytes, and either the code with which it is refused or what is
stored. ``@`` stands for a message id of its own. Neighbours are sent before and behind each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cdp.model import SourceType

RECEIPT = "receipt"
"""An event time that is the moment of receipt."""


@dataclass(frozen=True)
class Case:
    """What is sent and what becomes of it; a ``code`` means that it is refused."""

    name: str
    line: bytes
    code: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    odd: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    node: tuple[str, str] | None = ("user_id", "u")
    """The strongest identifier; ``None`` for an event without a person."""
    at: datetime | str | None = None
    original_at: str | None = None
    source_type: SourceType = "server"
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Of the events table."""


def event(members: str, base: str = '"type":"track","event":"A","userId":"u"') -> bytes:
    """A track call of user u with more ``members``."""
    return f'{{{base},"messageId":"@",{members}}}'.encode()


def prop(name: str, value: bytes, kept: object, *flags: str) -> Case:
    """A property of this value, and what is kept of it."""
    line = event('"properties":{"v":0}').replace(b'"v":0', b'"v":' + value)
    return Case(name, line, properties={"v": kept}, flags=flags)


def when(name: str, written: str, at: datetime | str, flag: str = "", **more: Any) -> Case:
    """A timestamp, as JSON, and the time that it is read as."""
    flags = (flag,) if flag else ()
    return Case(name, event(f'"timestamp":{written}'), at=at, flags=flags, **more)


def who(name: str, members: str, node: tuple[str, str] | None, **more: Any) -> Case:
    """Identifiers, and the strongest that is read from them."""
    line = f'{{"type":"track","event":"A","messageId":"@",{members}}}'.encode()
    return Case(name, line, node=node, **more)


def refused(name: str, line: str | bytes, code: str) -> Case:
    """An element that is refused with ``code``."""
    return Case(name, line if isinstance(line, bytes) else line.encode(), code)


def padded(size: int) -> bytes:
    """An event of exactly ``size`` bytes, once ``@`` is replaced by 8 characters."""
    line = event('"properties":{"p":""}')
    return line.replace(b'"p":""', b'"p":"' + b"x" * (size - len(line) - 7) + b'"')


SECOND = datetime(2026, 3, 1, 8, 0, 5, tzinfo=UTC)
DEEP = b"[" * 10_000 + b"]" * 10_000
LONG = "x" * 10_000

IDENTIFY = '"type":"identify","userId":"u"'

CASES = [
    # ── JSON that parsers disagree about ────────────────────────────────────────────────────────
    who("a name twice", '"userId":"first","userId":"last"', ("user_id", "last")),
    who("a name twice, the first odd", '"userId":[1],"userId":"last"', ("user_id", "last")),
    refused("a name twice, the last odd", '{"type":"track","userId":"u","userId":[1]}',
            "invalid_user_id"),
    Case("a type twice", b'{"type":"no","type":"track","userId":"u","messageId":"@"}'),
    Case("traits twice", event('"traits":{"a":1},"traits":{"a":2}', IDENTIFY), properties={"a": 2}),
    prop("NaN", b"NaN", None, "non_finite_number"),
    prop("Infinity", b"Infinity", None, "non_finite_number"),
    prop("-Infinity", b"-Infinity", None, "non_finite_number"),
    prop("1e400", b"1e400", None, "non_finite_number"),
    prop("a number of 400 digits and a point", b"1" * 400 + b".5", None, "non_finite_number"),
    prop("1e300", b"1e300", 1e300),
    prop("2^64 - 1", b"18446744073709551615", 2**64 - 1),
    prop("2^64", b"18446744073709551616", "18446744073709551616", "big_integer"),
    prop("a number of 5,000 digits", b"9" * 5000, "9" * 5000, "big_integer"),
    prop("a lone surrogate", b'"a\\ud800b"', None, "lone_surrogate"),
    prop("a pair of surrogates", b'"\\ud83d\\ude00"', "😀"),
    prop("NUL, escaped", b'"a\\u0000b"', "a\ufffdb", "nul_character"),
    prop("NUL, raw", b'"a\0b"', "a\ufffdb", "nul_character"),
    prop("a raw line break in a text", b'"a\nb"', "a\nb"),
    prop("bytes that are no UTF-8", b'"\xb0\xb2"', "\ufffd\ufffd", "not_utf8"),
    prop("50 levels", b"[" * 50 + b"]" * 50, json.loads("[" * 50 + "]" * 50)),
    refused("10,000 levels", event('"properties":{"v":0}').replace(b"0", DEEP), "too_deep"),
    refused("10,000 levels in something unknown", event('"x":0').replace(b"0", DEEP), "too_deep"),
    refused("no object", "[1]", "not_an_object"),
    refused("nothing", "null", "not_an_object"),
    # ── Times ───────────────────────────────────────────────────────────────────────────────────
    when("epoch seconds", "1772352005", SECOND),
    when("epoch seconds with a fraction", "1772352005.25", SECOND.replace(microsecond=250_000)),
    when("epoch milliseconds", "1772352005000", SECOND),
    when("epoch microseconds", "1772352005000000", SECOND),
    when("epoch nanoseconds", "1772352005000000000", SECOND),
    when("epoch seconds as text", '"1772352005"', SECOND),
    when("epoch milliseconds as text", '"1772352005123"', SECOND.replace(microsecond=123_000)),
    when("a date of eight digits", '"20260301"', SECOND.replace(hour=0, second=0)),
    when("before 1970", "-86400", datetime(1969, 12, 31, tzinfo=UTC)),
    when("year 0", '"0000-01-01T00:00:00Z"', RECEIPT, "bad_timestamp",
         original_at="0000-01-01T00:00:00Z"),
    when("year 1", '"0001-01-01T00:00:00Z"', RECEIPT, "bad_timestamp",
         original_at="0001-01-01T00:00:00Z"),
    when("year 9999", '"9999-12-31T23:59:59Z"', RECEIPT, "future_timestamp",
         original_at="9999-12-31T23:59:59Z"),
    when("from the future", '"2130-01-01T00:00:00Z"', RECEIPT, "future_timestamp",
         original_at="2130-01-01T00:00:00Z"),
    when("from the future, by a browser", '"2130-01-01T00:00:00Z"', RECEIPT, "future_timestamp",
         original_at="2130-01-01T00:00:00Z", source_type="web"),
    when("a number beyond all times", "1e300", RECEIPT, "bad_timestamp", original_at="1e+300"),
    when("no time", '"yesterday"', RECEIPT, "bad_timestamp", original_at="yesterday"),
    when("an empty time", '""', RECEIPT),
    when("NaN as time", "NaN", RECEIPT, "non_finite_number"),
    when("an object as time", '{"at":1}', RECEIPT, "odd_shape", odd={"timestamp": {"at": 1}}),
    # ── Identifiers ─────────────────────────────────────────────────────────────────────────────
    who("a number as id", '"userId":42', ("user_id", "42")),
    who("an id of 30 digits", f'"userId":{"9" * 30}', ("user_id", "9" * 30),
        flags=("big_integer",)),
    refused("1.0 as id", '{"type":"track","userId":1.0}', "invalid_user_id"),
    refused("1e2 as id", '{"type":"track","userId":1e2}', "invalid_user_id"),
    refused("1.5 as id", '{"type":"track","userId":1.5,"anonymousId":"a"}', "invalid_user_id"),
    refused("true as id", '{"type":"track","userId":true}', "invalid_user_id"),
    refused("a list as id", '{"type":"track","userId":["u"]}', "invalid_user_id"),
    refused("an object as id", '{"type":"track","userId":{"id":"u"}}', "invalid_user_id"),
    refused("an object as anonymous id", '{"type":"track","userId":"u","anonymousId":{}}',
            "invalid_anonymous_id"),
    refused("NaN as the only id", '{"type":"track","userId":NaN}', "no_identifier"),
    who("NaN beside an id", '"userId":NaN,"anonymousId":"a"', ("anonymous_id", "a"),
        flags=("non_finite_number",)),
    who("an empty id beside one", '"userId":"","anonymousId":"a"', ("anonymous_id", "a")),
    who("blanks beside an id", '"userId":" \\t ","anonymousId":"a"', ("anonymous_id", "a")),
    who("blanks around an id", '"userId":" u "', ("user_id", "u")),
    refused("nothing but empty ids", '{"type":"track","userId":"","anonymousId":null}',
            "no_identifier"),
    refused("nothing but blanks", '{"type":"track","userId":"  "}', "no_identifier"),
    refused("an id of 10,000 characters", f'{{"type":"track","userId":"{LONG}"}}',
            "invalid_user_id"),
    refused("an anonymous id of 10,000 characters",
            f'{{"type":"track","userId":"u","anonymousId":"{LONG}"}}', "invalid_anonymous_id"),
    who("an id of 512 characters", f'"userId":"{"安" * 512}"', ("user_id", "安" * 512)),
    who("NUL in an id", '"userId":"a\\u0000b"', ("user_id", "a\ufffdb"), flags=("nul_character",)),
    who("a value that names nobody", '"userId":"null"', None),
    Case("a number as group", event('"groupId":7', '"type":"group","userId":"u"'),
         columns={"group_id": "7"}),
    Case("a number as previous id", b'{"type":"alias","messageId":"@","previousId":7}',
         node=("anonymous_id", "7")),
    who("one odd external id among good ones",
        '"context":{"externalIds":[{"id":[1],"type":"x"},{"id":"c1","type":"crm_id"}]}',
        ("crm_id", "c1"), flags=("odd_shape",),
        odd={"context.externalIds[0]": {"id": [1], "type": "x"}}),
    who("an external id of 10,000 characters",
        f'"userId":"u","context":{{"externalIds":[{{"id":"{LONG}","type":"x"}}]}}',
        ("user_id", "u"), flags=("odd_shape",),
        odd={"context.externalIds[0]": {"id": LONG, "type": "x"}}),
    Case("a number as message id", b'{"type":"track","userId":"u","messageId":34}',
         columns={"message_id": "34"}),
    # ── Size and shape ──────────────────────────────────────────────────────────────────────────
    Case("32 KB", padded(32 * 1024), properties={"p": ...}),
    refused("32 KB and a byte", padded(32 * 1024 + 1), "event_too_large"),
    Case("pretty-printed", event('\n  "properties": {\n    "a": 1\n  }\n'), properties={"a": 1}),
    Case("properties that are a list", event('"properties":[1]'), flags=("odd_shape",),
         odd={"properties": [1]}),
    Case("context that is a text", event('"context":"x"'), flags=("odd_shape",),
         odd={"context": "x"}),
    Case("members of the caller's own", event('"shelf":{"a":[1,"安"]},"n":1.50'),
         fields={"shelf": {"a": [1, "安"]}, "n": 1.5}),
    Case("members that mean nothing on this call",
         event('"traits":{"a":1},"name":"n","previousId":"p","integrations":{"All":false}'),
         fields={"traits": {"a": 1}, "name": "n", "previousId": "p",
                 "integrations": {"All": False}}),
    Case("what SDKs always say",
         event('"integrations":{"All":true},"channel":null,"_metadata":{"bundled":[]},'
               '"writeKey":"k","originalTimestamp":"2026-03-01T08:00:05Z"'),
         at=SECOND),
    Case("members of the caller's own beside marks of ours",
         event('"context":{"cdp":{"flags":["mine"]}},"x":1,"properties":{"v":NaN}'),
         properties={"v": None}, flags=("mine", "non_finite_number"), fields={"x": 1}),
]  # fmt: skip
