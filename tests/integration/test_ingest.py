"""The door for SDKs on a real socket, over the log in a real Postgres."""

from __future__ import annotations

import gzip
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cdp import receipts
from cdp.errors import NotFound, Unavailable
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import add_key, create_source, delete_key, patch_source
from cdp.log.port import Log, LogUnavailable, NewRecord
from cdp.log.postgres_log import PostgresLog
from cdp.runtime.error_answers import install_error_answers
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from tests.support.ingest_server import IngestServer, run_ingest, wait_until
from tests.support.postgres import PostgresServer

ORIGIN = {"Origin": "https://shop.example"}


def make_api() -> FastAPI:
    """Stands for the rest of the program: one route that works and some that fail."""
    api = FastAPI(redirect_slashes=False)
    install_error_answers(api)

    @api.get("/v1/fine")
    def fine() -> dict[str, bool]:
        return {"fine": True}

    @api.get("/v1/away")
    def away() -> None:
        raise Unavailable("away", "later", retry_after=7)

    @api.get("/v1/missing")
    def missing() -> None:
        raise NotFound("missing", "not here")

    @api.get("/v1/broken")
    def broken() -> None:
        raise RuntimeError("broken")

    return api


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[Database]:
    """One database for this module: its tests differ by their source."""
    with postgres_server.fresh_url() as url:
        database = Database(url, application_name="cdp-test")
        yield database
        database.close()


@pytest.fixture(scope="module")
def log(database: Database) -> Iterator[PostgresLog]:
    log = PostgresLog(database, 4)
    yield log
    log.close()


@pytest.fixture(scope="module")
def directory(database: Database) -> Iterator[SourceDirectory]:
    directory = SourceDirectory(database)
    directory.start()
    yield directory
    directory.close()


@pytest.fixture(scope="module")
def url(directory: SourceDirectory, log: PostgresLog) -> Iterator[str]:
    with run_ingest(directory, log, make_api()) as url:
        yield url


@pytest.fixture
def write_key(database: Database, directory: SourceDirectory) -> str:
    with database.transaction() as connection:
        _, key = create_source(driver(connection), "shop", "web", {})
    directory.refresh()
    return key


@pytest.fixture
def server(url: str, directory: SourceDirectory, log: PostgresLog, write_key: str) -> IngestServer:
    """The running ingest with a source of this test's own."""
    source = directory.by_key(write_key)
    assert source is not None
    return IngestServer(url, write_key, source.source_id, log)


@pytest.fixture
def client(server: IngestServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def track(**fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "A", "userId": "u1", **fields}


def test_what_is_answered_with_success_is_in_the_log(
    server: IngestServer, client: httpx.Client
) -> None:
    batch = [track(messageId=f"m{n}", userId=f"u{n}") for n in range(20)]
    answer = client.post("/v1/batch", json={"batch": batch}, auth=(server.write_key, ""))
    assert answer.status_code == 200
    body = answer.json()
    assert (body["success"], body["accepted"], body["rejected"]) == (True, 20, [])
    assert sorted(e["messageId"] for e in server.read_events()) == sorted(
        e["messageId"] for e in batch
    )
    receipt = receipts.decode(body["receipt"])
    assert receipt is not None
    assert receipt.log == "postgres"
    assert receipt.is_within(server.log.end_positions())
    assert not receipt.is_within(dict.fromkeys(range(4), 0))


def test_a_bad_event_is_reported_and_kept_with_its_bytes(
    server: IngestServer, client: httpx.Client
) -> None:
    bad = track(userId=1.5, messageId="bad")
    answer = client.post(
        "/v1/batch", json={"batch": [track(), bad]}, auth=(server.write_key, "")
    ).json()
    assert answer["accepted"] == 1
    assert [(r["index"], r["messageId"], r["code"]) for r in answer["rejected"]] == [
        (1, "bad", "invalid_user_id")
    ]
    (line,) = server.read_lines("rejected")
    kept = json.loads(line.line)
    assert kept["code"] == "invalid_user_id"
    assert kept["message_id"] == "bad"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/track", "track"), ("/v1/identify", "identify"), ("/v1/page", "page"),
        ("/v1/screen", "screen"), ("/v1/group", "group"), ("/v1/alias", "alias"),
        ("/v1/t", "track"), ("/t", "track"), ("/i", "identify"), ("/p", "page"), ("/s", "screen"),
        ("/g", "group"), ("/a", "alias"), ("/v1/merge", "alias"),
    ],
)  # fmt: skip
def test_every_single_event_route_takes_its_type(
    server: IngestServer, client: httpx.Client, path: str, kind: str
) -> None:
    answer = client.post(path, json={"userId": "u", "writeKey": server.write_key})
    assert answer.json()["accepted"] == 1
    assert [event["type"] for event in server.read_events()] == [kind]


@pytest.mark.parametrize("path", ["/v1/batch", "/b", "/v1/b", "/v1/import", "/beacon/v1/batch"])
def test_every_batch_route_takes_the_key_from_anywhere(
    server: IngestServer, client: httpx.Client, path: str
) -> None:
    key, body = server.write_key, {"batch": [track()]}
    old = {"Authorization": b"Basic " + b64encode(key.encode())}
    for answer in (
        client.post(path, json={**body, "writeKey": key}),
        client.post(path, json=body, auth=(key, "")),
        client.post(path, json=body, headers=old),
        client.post(path, params={"writeKey": key}, json=body),
        client.post(path, json={**body, "writeKey": key}, headers={"Authorization": "Bearer x"}),
    ):
        assert answer.status_code == 200, answer.text
    assert len(server.read_events()) == 5


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_any_content_type_and_gzip_will_do(
    server: IngestServer, client: httpx.Client, content_type: str | None
) -> None:
    headers = {"Content-Encoding": "gzip"}
    if content_type:
        headers["Content-Type"] = content_type
    body = gzip.compress(json.dumps({"batch": [track()]}).encode())
    answer = client.post("/v1/batch", content=body, headers=headers, auth=(server.write_key, ""))
    assert answer.json()["accepted"] == 1


def test_a_body_in_chunks_without_a_length_will_do(
    server: IngestServer, client: httpx.Client
) -> None:
    body = json.dumps({"batch": [track(n=n) for n in range(1000)]}).encode()
    chunks = (body[start : start + 1000] for start in range(0, len(body), 1000))
    answer = client.post("/v1/batch", content=chunks, auth=(server.write_key, ""))
    assert answer.json()["accepted"] == 1000


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"auth": ("nobody", "")}, 401, "unknown_write_key"),
        ({"auth": None}, 401, "missing_write_key"),
        ({"content": b"{"}, 400, "invalid_json"),
        ({"content": b'{"batch":[]}'}, 400, "empty_batch"),
        ({"content": b"{}"}, 400, "no_batch"),
        ({"content": b"\x1f\x8bx", "headers": {"Content-Encoding": "gzip"}}, 400, "corrupt_gzip"),
        ({"headers": {"Content-Encoding": "zstd"}}, 400, "unsupported_encoding"),
        ({"content": b" " * (5 * 1024 * 1024 + 1)}, 413, "body_too_large"),
        (
            {
                "content": gzip.compress(b" " * 20_000_000),
                "headers": {"Content-Encoding": "gzip"},
            },
            413,
            "body_too_large",
        ),
        ({"content": iter([b" " * 1024 * 1024] * 6)}, 413, "body_too_large"),
    ],
)
def test_every_refusal_has_code_message_and_cors(
    server: IngestServer, client: httpx.Client, change: dict[str, Any], status: int, code: str
) -> None:
    request: dict[str, Any] = {
        "content": json.dumps({"batch": [track()]}).encode(),
        "auth": (server.write_key, ""),
        **change,
    }
    request["headers"] = {**ORIGIN, **request.get("headers", {})}
    answer = client.post("/v1/batch", **request)
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert answer.json()["message"]
    assert "detail" not in answer.json()
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert server.read_events() == []


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff\xfe{\x00"])
def test_a_single_event_that_is_no_json_is_an_error_wherever_its_key_is(
    server: IngestServer, client: httpx.Client, body: bytes
) -> None:
    for options in ({"auth": (server.write_key, "")}, {"params": {"writeKey": server.write_key}}):
        answer = client.post("/v1/track", content=body, **options)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")


def test_another_method_is_told_which_is_right(client: httpx.Client) -> None:
    answer = client.get("/v1/batch")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/v1/t", "/v1/z", "/v1/fine", "/sourceConfig/", "/anything"])
def test_a_preflight_is_answered_everywhere_before_any_key(client: httpx.Client, path: str) -> None:
    asked = "authorization,x-retry-count"
    answer = client.options(
        path,
        headers={
            **ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        },
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert answer.headers["access-control-allow-headers"] == asked
    assert answer.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/fine", 200), ("/v1/missing", 404), ("/v1/nowhere", 404), ("/v1/broken", 500)],
)
def test_the_rest_of_the_program_answers_with_cors_too(
    client: httpx.Client, path: str, status: int
) -> None:
    answer = client.get(path, headers=ORIGIN)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert status == 200 or {"code", "message"} <= answer.json().keys()


def test_every_503_says_when_to_come_back_in_both_dialects(client: httpx.Client) -> None:
    answer = client.get("/v1/away", headers=ORIGIN)
    assert answer.status_code == 503
    assert (answer.headers["retry-after"], answer.headers["x-ratelimit-reset"]) == ("7", "7")


@pytest.mark.parametrize("path", ["/v1/projects/{key}/settings", "/projects/{key}/settings"])
def test_segments_settings_say_where_we_are(
    server: IngestServer, client: httpx.Client, path: str
) -> None:
    answer = client.get(path.format(key=server.write_key), headers=ORIGIN)
    segment = answer.json()["integrations"]["Segment.io"]
    host = server.url.removeprefix("http://")
    assert segment == {"apiKey": server.write_key, "apiHost": f"{host}/v1", "protocol": "http"}
    assert "max-age" in answer.headers["cache-control"]
    assert client.get(path.format(key="nobody")).status_code == 401


@pytest.mark.parametrize("path", ["/sourceConfig", "/sourceConfig/"])
def test_rudderstacks_settings_are_found_with_and_without_slash(
    server: IngestServer, client: httpx.Client, path: str
) -> None:
    by_query = client.get(path, params={"p": "npm", "writeKey": server.write_key})
    by_header = client.get(path, auth=(server.write_key, ""))
    assert by_query.json() == by_header.json()
    source = by_query.json()["source"]
    assert source["id"] == server.source_id
    assert source["destinations"] == []
    probe = client.head(path, params={"view": "ad"})
    assert (probe.status_code, probe.content) == (200, b"")


def test_the_public_address_stands_in_the_settings_when_it_is_set(
    directory: SourceDirectory, log: PostgresLog, write_key: str
) -> None:
    settings = Settings(public_url="https://cdp.example")
    with run_ingest(directory, log, make_api(), settings) as url:
        answer = httpx.get(f"{url}/v1/projects/{write_key}/settings").json()
    segment = answer["integrations"]["Segment.io"]
    assert (segment["protocol"], segment["apiHost"]) == ("https", "cdp.example/v1")


def test_a_pixel_brings_an_event(server: IngestServer, client: httpx.Client) -> None:
    answer = client.get(
        "/pixel/v1/track",
        params={"writeKey": server.write_key, "userId": "u", "event": "Opened"},
    )
    assert answer.headers["content-type"] == "image/gif"
    assert answer.content.startswith(b"GIF89a")
    (event,) = server.read_events()
    assert event == {"userId": "u", "event": "Opened", "type": "track"}


def test_metrics_of_the_sdk_are_swallowed(server: IngestServer, client: httpx.Client) -> None:
    assert client.post("/v1/m", content=b'{"series":[]}').status_code == 200
    assert server.read_events() == []


def test_a_source_may_take_larger_events(
    database: Database, server: IngestServer, client: httpx.Client
) -> None:
    event = track(properties={"x": "x" * 100_000})
    auth = (server.write_key, "")
    refused = client.post("/v1/track", json=event, auth=auth).json()["rejected"]
    assert [one["code"] for one in refused] == ["event_too_large"]
    with database.transaction() as connection:
        patch_source(driver(connection), server.source_id, settings={"max_event_bytes": 200_000})
    wait_until(lambda: client.post("/v1/track", json=event, auth=auth).json()["accepted"] == 1)


def test_keys_come_and_go_at_once(
    database: Database, server: IngestServer, client: httpx.Client
) -> None:
    with database.transaction() as connection:
        key_id, key = add_key(driver(connection), server.source_id)

    def is_welcome() -> bool:
        return client.post("/v1/track", json=track(), auth=(key, "")).status_code == 200

    wait_until(is_welcome, 1)
    with database.transaction() as connection:
        delete_key(driver(connection), server.source_id, key_id)
    wait_until(lambda: not is_welcome(), 1)
    assert client.post("/v1/track", json=track(), auth=(server.write_key, "")).status_code == 200


def test_a_disabled_source_takes_nothing(
    database: Database, server: IngestServer, client: httpx.Client
) -> None:
    with database.transaction() as connection:
        patch_source(driver(connection), server.source_id, disabled=True)
    wait_until(
        lambda: (
            client.post("/v1/track", json=track(), auth=(server.write_key, "")).status_code == 401
        ),
        1,
    )


def test_many_requests_at_once_each_get_their_own_answer(server: IngestServer) -> None:
    def post(number: int) -> receipts.Receipt:
        answer = httpx.post(
            f"{server.url}/v1/track",
            json=track(userId=f"u{number}", messageId=f"m{number}"),
            auth=(server.write_key, ""),
        )
        receipt = receipts.decode(answer.json()["receipt"])
        assert receipt is not None
        return receipt

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(80)))
    where = {}
    positions = dict.fromkeys(range(4), 0)
    for record in server.log.read(positions, max_bytes=1 << 22, wait_seconds=0):
        for line in record.value.split(b"\n"):
            where[json.loads(line).get("messageId")] = {record.partition: record.offset}
    assert [where[f"m{n}"] for n in range(80)] == [receipt.offsets for receipt in answers]


class LogThatIsAway:
    """The one seam where a log can fail: refuses, or never answers, until told otherwise."""

    def __init__(self, log: Log, failure: LogUnavailable | None) -> None:
        self._log = log
        self.failure = failure
        self.is_away = True
        self.name = log.name
        self.partitions = log.partitions

    def append(self, records: list[NewRecord]) -> Future[list[int]]:
        if not self.is_away:
            return self._log.append(records)
        answer: Future[list[int]] = Future()
        if self.failure is not None:
            answer.set_exception(self.failure)
        return answer


def test_a_log_that_is_away_is_a_503_and_recovers_by_itself(
    directory: SourceDirectory, log: PostgresLog, write_key: str
) -> None:
    away = LogThatIsAway(log, LogUnavailable("gone"))
    with run_ingest(directory, away, make_api()) as url:  # type: ignore[arg-type]
        auth = (write_key, "")
        refused = httpx.post(f"{url}/v1/track", json=track(), auth=auth, headers=ORIGIN)
        assert refused.status_code == 503
        assert refused.json()["code"] == "log_unavailable"
        assert int(refused.headers["retry-after"]) >= 5
        assert refused.headers["x-ratelimit-reset"] == refused.headers["retry-after"]
        assert refused.headers["access-control-allow-origin"] == ORIGIN["Origin"]
        away.is_away = False
        assert httpx.post(f"{url}/v1/track", json=track(), auth=auth).status_code == 200


def test_a_log_that_never_answers_is_a_503_before_any_sdk_gives_up(
    directory: SourceDirectory, log: PostgresLog, write_key: str
) -> None:
    away = LogThatIsAway(log, None)
    with run_ingest(directory, away, make_api()) as url:  # type: ignore[arg-type]
        answer = httpx.post(f"{url}/v1/track", json=track(), auth=(write_key, ""), timeout=10)
        assert answer.status_code == 503


def test_keys_are_known_while_postgres_is_away(database: Database, write_key: str) -> None:
    broken = SourceDirectory(Database("postgresql://127.0.0.1:1/none"))
    broken.start()
    try:
        with pytest.raises(Unavailable):
            broken.by_key(write_key)
    finally:
        broken.close()
    # One that has read them once goes on with what it knows.
    known = SourceDirectory(database)
    known.refresh()
    known._database = Database("postgresql://127.0.0.1:1/none")
    assert known.by_key(write_key) is not None
    assert known.by_key("nobody") is None


def test_a_directory_that_follows_nobody_finds_a_new_source_by_its_id(database: Database) -> None:
    directory = SourceDirectory(database)
    assert directory.by_id("src_nobody") is None
    with database.transaction() as connection:
        source, _ = create_source(driver(connection), "late", "server", {})
    threading.Event().wait(0.6)
    assert directory.by_id(source.source_id) == source
