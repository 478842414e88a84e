"""The line that is judged again: what its request said beside it, and an id that stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cdp.ingest.prepare_replay import prepare_line
from cdp.ingest.rejected_store import RejectedRow


def make_row(raw: bytes, **changes: Any) -> RejectedRow:
    fields: dict[str, Any] = {
        "number": 7, "source_id": "src_1", "message_id": None, "code": "c", "message": "m",
        "received_at": datetime(2026, 3, 1, tzinfo=UTC), "raw": raw, "kind": "events", "place": 0,
        "request_id": "req_1", "sent_at": None, "route_type": None, "shared": None,
        "truncated": False, "replayed_at": None,
    }  # fmt: skip
    return RejectedRow(**{**fields, **changes})


@pytest.mark.parametrize(
    "raw",
    [
        b'{"messageId": "own", "type": "track"}',
        b'{"timestamp": "2026-01-01T00:00:00Z",   "type": "track"}',
        b'{"originalTimestamp": "2026-01-01T00:00:00Z"}',
        b"not json",
        b"[1]",
        b"[" * 5000,
    ],
)
def test_what_needs_nothing_is_judged_byte_for_byte(raw: bytes) -> None:
    assert prepare_line(make_row(raw)) == raw


@pytest.mark.parametrize("raw", [b"{}", b'{"messageId": ""}', b'{"messageId": null}'])
@pytest.mark.parametrize("kind", ["events", "orders", "accounts"])
def test_without_an_id_and_a_time_it_gets_an_id_of_its_own(raw: bytes, kind: str) -> None:
    assert json.loads(prepare_line(make_row(raw, kind=kind))) == {"messageId": "rejected-7"}


def test_an_event_keeps_the_id_that_its_row_in_a_file_gave_it() -> None:
    line = prepare_line(make_row(b'{"timestamp": "2026-01-01T00:00:00Z"}', message_id="imp-1-2"))
    assert json.loads(line)["messageId"] == "imp-1-2"
    order = make_row(b'{"order_id": "1"}', kind="orders", message_id="1")
    assert json.loads(prepare_line(order))["messageId"] == "rejected-7"


def test_an_order_with_a_time_keeps_the_id_that_its_content_makes() -> None:
    raw = b'{"order_id": "1", "updated_at": "2026-01-01T00:00:00Z"}'
    assert prepare_line(make_row(raw, kind="orders")) == raw


def test_the_route_and_the_batch_speak_for_it_and_the_event_has_the_last_word() -> None:
    row = make_row(
        b'{"messageId": "m", "context": {"ip": "own"}}',
        route_type="page",
        shared=b'{"context": {"ip": "batch", "library": {"name": "x"}}, "integrations": {"a": 1}}',
    )
    assert json.loads(prepare_line(row)) == {
        "messageId": "m",
        "type": "page",
        "context": {"ip": "own", "library": {"name": "x"}},
        "integrations": {"a": 1},
    }


def test_what_had_to_be_changed_to_be_read_is_still_said() -> None:
    line = prepare_line(make_row(b'{"properties": {"x": NaN}}'))
    assert b"NaN" not in line
    assert json.loads(line)["context"]["cdp"]["flags"]
