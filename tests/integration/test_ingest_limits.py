"""Abuse of the door, from this machine and small: every attack ends by itself, others go on."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import httpx
import pytest

from cdp.errors import Unavailable
from cdp.ingest.asgi import IngestApp
from cdp.ingest.lag_gate import LagGate
from cdp.ingest.packing import PackingWriter, RequestLog
from cdp.ingest.source_directory import SourceDirectory
from cdp.ingest.sources_store import create_source
from cdp.lag_watch import LagWatch
from cdp.log.format import JoinedLines
from cdp.log.port import NewRecord
from cdp.log.postgres_log import PostgresLog
from cdp.runtime.bounded_http import bound_http
from cdp.settings import Settings
from cdp.storage.database import Database, driver
from cdp.storage.positions import advance_positions
from tests.support.ingest_server import serve, wait_until
from tests.support.postgres import PostgresServer

ORIGIN = {"Origin": "https://shop.example"}
SETTINGS = Settings(body_seconds=1, max_request_bytes=1024 * 1024, max_batch_events=10_000)


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[Database]:
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
def directory(database: Database) -> SourceDirectory:
    return SourceDirectory(database)


@pytest.fixture(scope="module")
def gate() -> LagGate:
    return LagGate(10)


@pytest.fixture(scope="module")
def refused() -> list[str]:
    """The reasons that metrics are told."""
    return []


@pytest.fixture(scope="module")
def url(
    directory: SourceDirectory, log: PostgresLog, gate: LagGate, refused: list[str]
) -> Iterator[str]:
    http = bound_http(
        max_connections=20, max_header_bytes=8192, header_seconds=0.5, leftover_seconds=0.5
    )
    writer = PackingWriter(log, 1)
    app = IngestApp(directory, writer, SETTINGS, _nothing, gate=gate, on_refused=refused.append)
    with serve(app, http) as url:
        yield url


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no route but the door's is asked for")


def make_key(database: Database, directory: SourceDirectory, **settings: Any) -> str:
    with database.transaction() as connection:
        _, key = create_source(driver(connection), "shop", "web", settings)
    directory.refresh()
    return key


def batch(size: int) -> dict[str, Any]:
    return {"batch": [{"type": "track", "event": "A", "userId": f"u{n}"} for n in range(size)]}


def talk(url: str, sent: bytes) -> bytes:
    """Send bytes on a connection, then listen until the server hangs up."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), 15) as connection:
        connection.sendall(sent)
        heard = b""
        while chunk := connection.recv(65536):
            heard += chunk
        return heard


def test_a_key_in_debt_is_told_when_to_come_back_before_its_body_is_read(
    database: Database, directory: SourceDirectory, url: str, refused: list[str]
) -> None:
    key = make_key(database, directory, rate_limit={"events_per_second": 10, "burst": 20})
    first = httpx.post(f"{url}/v1/batch", json=batch(320), auth=(key, ""))
    assert first.json()["accepted"] == 320
    head = f"POST /v1/batch?writeKey={key} HTTP/1.1\r\nHost: x\r\nOrigin: https://shop.example\r\n"
    # The body never comes, and is not waited for.
    answer = talk(url, f"{head}Content-Length: 100000\r\n\r\n".encode())
    status, _, rest = answer.partition(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in rest.partition(b"\r\n\r\n")[0].split(b"\r\n"))
    assert status == b"HTTP/1.1 429 Too Many Requests"
    assert 25 <= int(headers[b"retry-after"]) <= 31
    assert headers[b"x-ratelimit-reset"] == headers[b"retry-after"]
    assert headers[b"x-ratelimit-limit"] == b"10"
    assert headers[b"access-control-allow-origin"] == b"https://shop.example"
    assert b"Retry-After" in headers[b"access-control-expose-headers"]
    in_body = httpx.post(f"{url}/v1/track", json={"userId": "u", "writeKey": key})
    assert (in_body.status_code, in_body.json()["code"]) == (429, "rate_limited")
    assert refused[-2:] == ["rate_limited", "rate_limited"]
    other = make_key(database, directory)
    assert httpx.post(f"{url}/v1/track", json={"userId": "u"}, auth=(other, "")).is_success


def test_every_event_counts_against_the_limit_however_it_comes(
    database: Database, directory: SourceDirectory, url: str
) -> None:
    bodies: list[tuple[str, Any]] = [
        ("/v1/track", {"json": {"userId": "u"}}),
        ("/v1/track", {"json": {"userId": 1.5}}),
        ("/v1/batch", {"json": batch(1)}),
        ("/v1/batch", {"json": {"batch": [1]}}),
        ("/v1/track", {"content": gzip.compress(b'{"userId":"u"}')}),
    ]
    for path, options in bodies:
        key = make_key(database, directory, rate_limit={"events_per_second": 0.001, "burst": 1})
        statuses = [httpx.post(url + path, auth=(key, ""), **options).status_code for _ in range(2)]
        assert statuses == [200, 429], path
    key = make_key(database, directory, rate_limit={"events_per_second": 0.001, "burst": 1})
    query = {"writeKey": key, "userId": "u", "event": "A"}
    pixels = [httpx.get(f"{url}/pixel/v1/track", params=query).status_code for _ in range(2)]
    assert pixels == [200, 429]


def test_while_workers_are_behind_events_wait_with_their_senders(
    database: Database, directory: SourceDirectory, log: PostgresLog, url: str, gate: LagGate
) -> None:
    key = make_key(database, directory)
    watch = LagWatch(database, log, gate)
    for number in range(12):
        httpx.post(f"{url}/v1/track", json={"userId": f"u{number}"}, auth=(key, ""))
    watch.start()
    try:
        wait_until(lambda: gate.retry_after)
        answer = httpx.post(f"{url}/v1/batch", json=batch(1), auth=(key, ""), headers=ORIGIN)
        assert (answer.status_code, answer.json()["code"]) == (503, "log_behind")
        assert int(answer.headers["retry-after"]) >= 5
        with database.transaction() as connection:
            moves = {p: (0, end) for p, end in log.end_positions().items()}
            advance_positions(driver(connection), log.name, moves)
        wait_until(lambda: not gate.retry_after)
        assert httpx.post(f"{url}/v1/batch", json=batch(1), auth=(key, "")).is_success
    finally:
        watch.close()
        gate.open()


def test_a_body_that_drips_is_cut_off_with_an_answer_that_every_sdk_heeds(
    database: Database, directory: SourceDirectory, url: str
) -> None:
    key = make_key(database, directory)
    head = f"POST /v1/track?writeKey={key} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    answer = talk(url, head.encode() + b'{"userId":')
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"body_too_slow" in answer
    assert b"retry-after: 5" in answer


@pytest.mark.parametrize("sent", [b"", b"POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_headers_that_do_not_come_are_not_waited_for(url: str, sent: bytes) -> None:
    assert talk(url, sent) == b""


def test_headers_without_end_are_refused(url: str) -> None:
    sent = b"POST /v1/track HTTP/1.1\r\nHost: x\r\n" + b"X-Long: y\r\n" * 1000
    assert talk(url, sent).startswith(b"HTTP/1.1 431 ")


def test_the_rest_of_a_body_that_was_refused_is_not_read_for_ever(url: str) -> None:
    head = b"POST /v1/track?writeKey=nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"
    answer = talk(url, head + b"x" * 100)
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_connections_beyond_the_limit_are_told_to_come_back(url: str) -> None:
    address = httpx.URL(url)
    with httpx.Client() as patient:
        held = [socket.create_connection((address.host, address.port or 80)) for _ in range(21)]
        heard = held[-1].recv(65536)
        assert heard.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in heard
        for connection in held:
            connection.close()
        wait_until(lambda: patient.get(f"{url}/v1/track").status_code == 405, 5)


def test_ten_thousand_events_in_a_request_are_taken_and_one_more_is_not(
    database: Database, directory: SourceDirectory, url: str
) -> None:
    key = make_key(database, directory)
    answer = httpx.post(f"{url}/v1/batch", json=batch(10_000), auth=(key, ""), timeout=20)
    assert answer.json()["accepted"] == 10_000
    too_many = httpx.post(f"{url}/v1/batch", json={"batch": [1] * 10_001}, auth=(key, ""))
    assert (too_many.status_code, too_many.json()["code"]) == (413, "too_many_events")


def test_gzip_that_ends_early_or_swells_is_refused(
    database: Database, directory: SourceDirectory, url: str
) -> None:
    key = make_key(database, directory)
    whole = gzip.compress(json.dumps(batch(100)).encode())
    bomb = gzip.compress(b" " * 50_000_000)
    for body, status in ((whole[:-20], 400), (bomb, 413), (whole, 200)):
        answer = httpx.post(f"{url}/v1/batch", content=body, auth=(key, ""))
        assert answer.status_code == status, answer.text


class SilentLog:
    """The one seam: a log that takes everything and acknowledges nothing."""

    name = "silent"
    partitions = 1

    def append(self, records: list[NewRecord]) -> Future[list[int]]:
        return Future()


def test_a_noisy_source_leaves_room_in_the_buffer_for_others() -> None:
    async def run() -> None:
        writer = PackingWriter(SilentLog(), 1, max_buffered_bytes=100_000)  # type: ignore[arg-type]
        line = {0: JoinedLines(1, b"x" * 10_000)}

        def post(source_id: str) -> asyncio.Task[Any]:
            request = RequestLog(source_id, "r", "t", None, line, 10_000)
            return asyncio.create_task(writer.append(request))  # type: ignore[arg-type]

        noisy = [post("noisy") for _ in range(20)]
        await asyncio.sleep(0)
        turned_away = [task for task in noisy if task.done()]
        assert 0 < len(turned_away) < len(noisy)
        for task in turned_away:
            assert isinstance(task.exception(), Unavailable)
        quiet = post("quiet")
        await asyncio.sleep(0)
        assert not quiet.done()
        waiting = [quiet, *(task for task in noisy if not task.done())]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert writer.buffered_bytes == 0

    asyncio.run(run())
