"""What both logs do while the server behind them is away, and when it is back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pytest

from cdp.log.port import Log, LogUnavailable
from cdp.storage.database import Database
from tests.contract.conftest import KINDS, Place, make_place
from tests.contract.log_records import (
    PATIENCE_SECONDS,
    append,
    from_start,
    read_all,
    record,
    values,
    wait_until,
)
from tests.support.kafka_broker import KafkaBroker
from tests.support.postgres import PostgresServer, PrivatePostgres


class Server(Protocol):
    def start(self) -> None: ...
    def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


@dataclass
class Fragile:
    """A log whose server the test may take away."""

    server: Server
    place: Place


class _Postgres:
    def __init__(self, private: PrivatePostgres) -> None:
        self.start = private.start
        self.kill = private.stop
        self.freeze = private.freeze
        self.thaw = private.thaw


@pytest.fixture(scope="module")
def private_postgres() -> Iterator[PrivatePostgres]:
    private = PrivatePostgres()
    try:
        yield private
    finally:
        private.close()


@pytest.fixture(params=KINDS)
def fragile(request: pytest.FixtureRequest) -> Iterator[Fragile]:
    if request.param == "kafka":
        broker: KafkaBroker = request.getfixturevalue("restartable")
        database: Database = request.getfixturevalue("database")
        place = make_place(database, broker.servers)
        yield from _lend(Fragile(broker, place))
        return
    private: PrivatePostgres = request.getfixturevalue("private_postgres")
    postgres = PostgresServer(private.url)
    with postgres.fresh_url() as url:
        database = Database(url)
        try:
            yield from _lend(Fragile(_Postgres(private), make_place(database, None)))
        finally:
            database.close()
    postgres.close()


def _lend(fragile: Fragile) -> Iterator[Fragile]:
    try:
        yield fragile
    finally:
        fragile.place.close()


def test_a_log_that_is_away_says_so_and_recovers_by_itself(fragile: Fragile) -> None:
    log = fragile.place.open()
    append(log, record(0, "before"))
    assert values(read_all(log, from_start(log))) == ["before"]
    fragile.server.kill()
    try:
        _assert_away(log)
    finally:
        fragile.server.start()
    wait_until(lambda: _is_appended(log, "after"), even_when_away=True)
    wait_until(lambda: log.check() is None, even_when_away=True)
    wait_until(lambda: "after" in values(read_all(log, from_start(log))), even_when_away=True)
    assert values(read_all(log, from_start(log)))[0] == "before"


def _assert_away(log: Log) -> None:
    with pytest.raises(LogUnavailable):
        append(log, record(0, "lost"))
    with pytest.raises(LogUnavailable):
        log.check()
    with pytest.raises(LogUnavailable):
        log.end_positions()

    def is_said_by_read() -> bool:
        try:
            return bool(log.read({0: 1}, max_bytes=1000, wait_seconds=0.1)) and False
        except LogUnavailable:
            return True

    wait_until(is_said_by_read)


def _is_appended(log: Log, value: str) -> bool:
    return bool(append(log, record(0, value)))


def test_appends_that_wait_while_the_server_restarts_are_taken_in_their_order(
    fragile: Fragile,
) -> None:
    log = fragile.place.open()
    append(log, record(0, "before"))
    # An append waits for a bounded time only: on a busy machine the server may take longer.
    for attempt in range(3):
        texts = [f"v{attempt}.{n}" for n in range(50)]
        errors = _append_across_a_restart(fragile, log, texts)
        if not any(errors):
            break
    assert errors == [None] * 50
    assert values(read_all(log, {0: 0}))[-50:] == texts


def _append_across_a_restart(
    fragile: Fragile, log: Log, texts: Sequence[str]
) -> list[BaseException | None]:
    fragile.server.kill()
    try:
        futures = [log.append([record(0, text)]) for text in texts]
    finally:
        fragile.server.start()
    return [future.exception(timeout=PATIENCE_SECONDS) for future in futures]


def test_what_was_acknowledged_survives_the_end_of_the_server(fragile: Fragile) -> None:
    log = fragile.place.open()
    offsets = [append(log, record(1, f"v{n}"))[0] for n in range(20)]
    fragile.server.kill()
    fragile.server.start()

    def is_there() -> bool:
        found = {one.offset: one.value.decode() for one in read_all(log, {1: 0})}
        return found == {offset: f"v{n}" for n, offset in enumerate(offsets)}

    wait_until(is_there, even_when_away=True)


def test_a_server_that_hangs_is_told_to_the_caller_and_forgiven(fragile: Fragile) -> None:
    log = fragile.place.open()
    append(log, record(0, "before"))
    fragile.server.freeze()
    try:
        with pytest.raises(LogUnavailable):
            append(log, record(0, "unknown"))
    finally:
        fragile.server.thaw()
    wait_until(lambda: _is_appended(log, "after"), even_when_away=True)
    found = values(read_all(log, {0: 0}))
    # Whether the one in between got through is for the caller to send again.
    assert [value for value in found if value != "unknown"] == ["before", "after"]
