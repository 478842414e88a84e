"""Every path of the wire, by its whole name, as somebody posts to it who has no SDK."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cdp.ingest.sdk_routes import SDK_ROUTES
from tests.support.small_stack import Sender, SmallStack

SINGLE = {
    "track": ("/v1/track", "/v1/t", "/track", "/t"),
    "identify": ("/v1/identify", "/v1/i", "/identify", "/i"),
    "page": ("/v1/page", "/v1/p", "/page", "/p"),
    "screen": ("/v1/screen", "/v1/s", "/screen", "/s"),
    "group": ("/v1/group", "/v1/g", "/group", "/g"),
    "alias": ("/v1/alias", "/v1/a", "/alias", "/a", "/v1/merge", "/merge"),
}
BATCH = ("/v1/batch", "/v1/b", "/v1/import", "/batch", "/b", "/import", "/beacon/v1/batch")
PIXELS = {path: kind for kind in SINGLE for path in (f"/pixel/v1/{kind}", f"/v1/pixel/{kind}")}
OTHERS = ("/v1/m", "/m", "/sourceConfig")
SINGLE_PATHS = [(path, kind) for kind, paths in SINGLE.items() for path in paths]


@pytest.fixture
def sender(stack: SmallStack) -> Sender:
    return stack.add_source()


@pytest.fixture
def client(stack: SmallStack, sender: Sender) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, auth=(sender.key, ""), timeout=20) as client:
        yield client


def read_stored(stack: SmallStack, sender: Sender, events: int) -> list[dict[str, Any]]:
    account = stack.wait_for(sender, events)
    assert (account.stored, account.duplicate, account.rejected) == (events, 0, 0)
    return stack.read_events(sender)


def test_the_paths_below_are_all_that_there_are() -> None:
    """Whoever adds a path adds it here."""
    assert {*dict(SINGLE_PATHS), *BATCH, *PIXELS, *OTHERS} == SDK_ROUTES.keys()


@pytest.mark.parametrize(("path", "kind"), SINGLE_PATHS)
def test_a_single_event_is_of_its_paths_type(
    stack: SmallStack, sender: Sender, client: httpx.Client, path: str, kind: str
) -> None:
    answer = client.post(path, json={"userId": "u", "messageId": "m"})
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    (row,) = read_stored(stack, sender, 1)
    assert (row["type"], row["message_id"]) == (kind, "m")


@pytest.mark.parametrize("path", BATCH)
def test_a_batch_may_hold_every_type(
    stack: SmallStack, sender: Sender, client: httpx.Client, path: str
) -> None:
    kinds = [*SINGLE, "merge"]
    batch = [{"type": kind, "userId": "u", "messageId": kind} for kind in kinds]
    answer = client.post(path, json={"batch": batch}, params={"writeKey": sender.key})
    assert answer.json()["accepted"] == len(kinds)
    rows = read_stored(stack, sender, len(kinds))
    read = {row["message_id"]: row["type"] for row in rows}
    assert read == {kind: "alias" if kind == "merge" else kind for kind in kinds}


@pytest.mark.parametrize("path", PIXELS)
def test_a_pixel_brings_an_event_by_name_or_whole(
    stack: SmallStack, sender: Sender, path: str
) -> None:
    event = {"userId": "u", "event": "Opened", "writeKey": sender.key, "messageId": "whole"}
    whole = b64encode(json.dumps(event).encode()).decode()
    by_name = {"writeKey": sender.key, "anonymousId": "a", "messageId": "by name"}
    for query in ({"data": whole}, by_name):
        answer = httpx.get(stack.url + path, params=query)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
    rows = read_stored(stack, sender, 2)
    assert {row["message_id"] for row in rows} == {"whole", "by name"}
    assert {row["type"] for row in rows} == {PIXELS[path]}


@pytest.mark.parametrize("path", ["/v1/m", "/m"])
def test_metrics_of_an_sdk_need_no_key_and_are_no_events(stack: SmallStack, path: str) -> None:
    body = b'{"series":[{"type":"Counter","metric":"analytics_js.invoke","value":1,"tags":{}}]}'
    answer = httpx.post(stack.url + path, content=body, headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()) == (200, {"success": True})


@pytest.mark.parametrize("path", ["//v1/batch", "/v1/batch/", "/v1//track", "/t/"])
def test_a_slash_too_many_in_a_base_address_does_no_harm(
    client: httpx.Client, stack: SmallStack, path: str
) -> None:
    event = {"type": "track", "userId": "u"}
    body = {"batch": [event]} if "batch" in path else event
    answer = client.post(stack.url + path, json=body)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)


def test_segments_kotlin_sdk_streams_packed_text_without_a_length(
    stack: SmallStack, sender: Sender
) -> None:
    """As its source says: gzip, ``text/plain``, chunked, the key in the body alone."""
    body = {"batch": [{"type": "screen", "anonymousId": "a"}] * 3, "writeKey": sender.key}
    packed = gzip.compress(json.dumps(body).encode())
    answer = httpx.post(
        f"{stack.url}/v1/b",
        content=(packed[start : start + 20] for start in range(0, len(packed), 20)),
        headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"},
    )
    assert "content-length" not in answer.request.headers
    assert (answer.status_code, answer.json()["accepted"]) == (200, 3)
    read_stored(stack, sender, 3)


def test_a_merge_ties_its_identifiers_to_its_user(
    stack: SmallStack, sender: Sender, client: httpx.Client
) -> None:
    name = sender.source_id
    merge = {
        "type": "merge",
        "userId": name,
        "mergeProperties": [
            {"type": "email", "value": f"{name}@example.com"},
            {"type": "mobile", "value": "+86 138 0013 8000"},
        ],
    }
    client.post("/v1/merge", json=merge)
    read_stored(stack, sender, 1)
    with stack.database.transaction() as connection:
        rows = connection.exec_driver_sql(
            """SELECT b.type, b.value FROM nodes a
                 JOIN node_profiles own USING (node_id)
                 JOIN node_profiles same ON same.profile_no = own.profile_no
                 JOIN nodes b ON b.node_id = same.node_id
                WHERE (a.type, a.value) = ('user_id', %s)""",
            (name,),
        )
        found = {tuple(row) for row in rows}
    assert found == {
        ("user_id", name),
        ("email", f"{name.lower()}@example.com"),
        ("phone", "+8613800138000"),
    }


@pytest.mark.parametrize("path", ["/v1/projects/{}/settings", "/projects/{}/settings"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_both_addresses_of_settings_are_answered(
    stack: SmallStack, sender: Sender, path: str, method: str
) -> None:
    answer = httpx.request(method, stack.url + path.format(sender.key))
    assert (answer.status_code, bool(answer.content)) == (200, method == "GET")
