"""What both logs promise to ingest and to the worker."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from cdp.log.port import Log, LogUnavailable, NewRecord, Record
from tests.contract.conftest import PARTITIONS, Place
from tests.contract.log_records import (
    PATIENCE_SECONDS,
    append,
    from_start,
    read_all,
    record,
    values,
    wait_until,
)


def test_a_new_log_is_empty_and_has_the_partitions_asked_for(log: Log) -> None:
    assert log.partitions == PARTITIONS
    assert log.end_positions() == {0: 0, 1: 0, 2: 0, 3: 0}
    assert log.read(from_start(log), max_bytes=1000, wait_seconds=0) == []


def test_the_number_of_partitions_stays_what_it_was_made_with(place: Place, log: Log) -> None:
    append(log, record(0, "one"))
    place.settings = place.settings.model_copy(update={"log_partitions": 9})
    assert place.open().partitions == PARTITIONS


def test_two_handles_agree_on_the_name_under_which_positions_are_kept(
    place: Place, log: Log
) -> None:
    assert place.open().name == log.name


def test_records_come_back_in_the_order_of_the_calls_that_appended_them(log: Log) -> None:
    futures = [log.append([record(0, f"a{n}"), record(1, f"b{n}")]) for n in range(300)]
    for future in futures:
        future.result(timeout=PATIENCE_SECONDS)
    found = read_all(log, from_start(log))
    assert values(found, 0) == [f"a{n}" for n in range(300)]
    assert values(found, 1) == [f"b{n}" for n in range(300)]


def test_offsets_start_at_zero_and_have_no_gaps(log: Log) -> None:
    assert append(log, record(2, "x"), record(2, "y"), record(3, "z")) == [0, 1, 0]
    assert append(log, record(3, "w"), record(2, "v")) == [1, 2]
    assert log.end_positions() == {0: 0, 1: 0, 2: 3, 3: 2}


def test_the_acknowledged_offset_is_where_the_record_is_read(log: Log) -> None:
    offsets = append(log, *[record(n % PARTITIONS, f"v{n}") for n in range(40)])
    found = {(one.partition, one.offset): one.value for one in read_all(log, from_start(log))}
    assert found == {(n % PARTITIONS, offsets[n]): f"v{n}".encode() for n in range(40)}


def test_headers_and_values_come_back_as_they_were_given(log: Log) -> None:
    headers = {"cdp-source": "src_商店", "cdp-requests": '[["è́ 🛒","\\u0000",null,1]]', "leer": ""}
    append(log, NewRecord(1, "ключ".encode(), headers, '{"name":"王小明 👩‍💻"}'.encode()))
    [found] = read_all(log, from_start(log))
    assert found.headers == headers
    assert found.value.decode() == '{"name":"王小明 👩‍💻"}'


def test_any_byte_may_stand_in_a_value(log: Log) -> None:
    everything = bytes(range(256)) * 3
    append(log, record(0, everything))
    assert read_all(log, from_start(log))[0].value == everything


def test_huge_and_tiny_records_travel_together(log: Log) -> None:
    huge = b"x" * (5 * 1024 * 1024)
    append(log, record(0, b""), record(0, huge), record(0, b"{}"), record(1, b"y"))
    found = read_all(log, from_start(log))
    assert [one.value for one in found if one.partition == 0] == [b"", huge, b"{}"]
    assert values(found, 1) == ["y"]


def test_a_record_larger_than_the_asked_bytes_is_read_alone(log: Log) -> None:
    append(log, record(0, "small"), record(0, b"x" * 100_000), record(0, "after"))
    assert [one.offset for one in _read_some(log, {0: 1}, max_bytes=10)] == [1]


def test_a_read_stays_within_the_asked_bytes(log: Log) -> None:
    append(log, *[record(n % PARTITIONS, b"x" * 1000) for n in range(80)])
    found = _read_some(log, from_start(log), max_bytes=10_500)
    assert 1 <= len(found) <= 11


def test_reading_in_small_steps_gives_every_record_once(log: Log) -> None:
    append(log, *[record(n % PARTITIONS, f"v{n}".encode() * (1 + n % 50)) for n in range(400)])
    found = read_all(log, from_start(log), max_bytes=700)
    for partition in range(PARTITIONS):
        offsets = [one.offset for one in found if one.partition == partition]
        assert offsets == list(range(100))


def test_only_the_asked_partitions_are_read(log: Log) -> None:
    append(log, *[record(partition, f"p{partition}") for partition in range(PARTITIONS)])
    found = read_all(log, {1: 0, 3: 0})
    assert sorted(one.partition for one in found) == [1, 3]


def test_a_reader_resumes_from_any_position(place: Place, log: Log) -> None:
    append(log, *[record(0, f"v{n}") for n in range(10)])
    assert values(read_all(log, {0: 7})) == ["v7", "v8", "v9"]
    assert values(read_all(log, {0: 2}))[0] == "v2"
    assert values(read_all(place.open(), {0: 9})) == ["v9"]


def test_a_reader_may_read_the_same_positions_again(log: Log) -> None:
    append(log, *[record(0, f"v{n}") for n in range(10)])
    first = _read_some(log, {0: 3}, max_bytes=1 << 20)
    again = _read_some(log, {0: 3}, max_bytes=1 << 20)
    assert [one.offset for one in again] == [one.offset for one in first]


def test_a_reader_whose_partitions_change_misses_nothing(log: Log) -> None:
    append(log, *[record(n % PARTITIONS, f"v{n}") for n in range(40)])
    assert len(read_all(log, {0: 0, 1: 0}, max_bytes=20)) == 20
    assert [one.offset for one in read_all(log, {1: 8, 2: 0}, max_bytes=20)].count(9) == 2


def test_a_waiting_reader_wakes_when_somebody_appends(place: Place, log: Log) -> None:
    assert log.read({0: 0}, max_bytes=1000, wait_seconds=0) == []
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(log.read, {0: 0}, max_bytes=1000, wait_seconds=PATIENCE_SECONDS)
        append(place.open(), record(0, "here"))
        assert values(found.result()) == ["here"]


def test_an_append_of_nothing_is_acknowledged(log: Log) -> None:
    assert append(log) == []


def test_a_partition_that_does_not_exist_is_refused_at_once(log: Log) -> None:
    with pytest.raises(ValueError, match="no partition 4"):
        log.append([record(4, "x")])


def test_a_closed_log_refuses(place: Place) -> None:
    closed = place.open()
    closed.close()
    with pytest.raises(LogUnavailable):
        append(closed, record(0, "x"))


def test_closing_waits_for_what_is_under_way(place: Place, log: Log) -> None:
    other = place.open()
    futures = [other.append([record(0, f"v{n}")]) for n in range(200)]
    other.close()
    assert [future.result(timeout=0) for future in futures] == [[n] for n in range(200)]
    assert log.end_positions()[0] == 200


def test_a_caller_who_gives_up_disturbs_nobody(log: Log) -> None:
    futures = [log.append([record(0, f"v{n}")]) for n in range(50)]
    for future in futures[::2]:
        future.cancel()
    for future in futures[1::2]:
        future.result(timeout=PATIENCE_SECONDS)
    append(log, record(0, "last"))
    assert values(read_all(log, {0: 0}))[-1] == "last"


def test_a_reader_that_follows_many_appenders_sees_every_offset_in_turn(place: Place) -> None:
    reader = place.open()
    appenders = [place.open() for _ in range(3)]
    total = 3 * 200
    futures: list[Future[list[int]]] = []
    lock = threading.Lock()

    def run(log: Log, name: int) -> None:
        for n in range(200):
            future = log.append([record(n % 2, f"{name}-{n}"), record((n + 1) % 2, "other")])
            with lock:
                futures.append(future)

    threads = [threading.Thread(target=run, args=(log, n)) for n, log in enumerate(appenders)]
    for thread in threads:
        thread.start()
    at = {0: 0, 1: 0}

    def follow() -> bool:
        for one in reader.read(at, max_bytes=20_000, wait_seconds=0.2):
            assert one.offset == at[one.partition], "a record was skipped or came twice"
            at[one.partition] += 1
        return sum(at.values()) == 2 * total

    wait_until(follow)
    for thread in threads:
        thread.join()
    given = sorted(offset for future in futures for offset in future.result(PATIENCE_SECONDS))
    assert given == sorted([*range(total), *range(total)])


def test_what_was_acknowledged_survives_kill_9_of_the_appender(place: Place, log: Log) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.appending_process"],
        env=place.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(300)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    # The pipe may end in the middle of a line.
    acknowledged = [line.rstrip("\n").split(" ", 2) for line in lines if line.endswith("\n")]
    assert len(acknowledged) >= 300
    found = {
        (one.partition, one.offset): one.value.decode() for one in read_all(log, from_start(log))
    }
    for partition, offset, value in acknowledged:
        assert found[int(partition), int(offset)] == value


def test_the_log_takes_appends_after_an_appender_was_killed(place: Place, log: Log) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.appending_process"],
        env=place.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    [offset] = append(log, record(0, "next"))
    found = read_all(log, {0: 0})
    assert found[offset].value == b"next"
    assert [one.offset for one in found] == list(range(len(found)))


def _read_some(log: Log, positions: dict[int, int], *, max_bytes: int) -> list[Record]:
    """One non-empty read."""
    found: list[Record] = []

    def is_there() -> bool:
        found.extend(log.read(positions, max_bytes=max_bytes, wait_seconds=0.5))
        return bool(found)

    wait_until(is_there)
    return found
