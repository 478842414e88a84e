"""Who may send how much, who holds how much of the buffer, and when the door closes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.errors import TooLarge, Unavailable
from cdp.ingest.body import BodyReader, ClientLeft, TooSlow
from cdp.ingest.fair_share import FairShare
from cdp.ingest.lag_gate import LONGEST_WAIT, LagGate
from cdp.ingest.rate_limit import BURST_SECONDS, Bucket, Rate, RateLimits, read_rate
from cdp.model import Source


def source(type_name: Any = "server", **settings: Any) -> Source:
    return Source("src_1", 1, "x", type_name, settings)


def test_a_batch_may_exceed_what_is_saved_up_and_the_next_request_waits_for_it() -> None:
    bucket = Bucket(Rate(10, 50))
    assert bucket.wait(1000) == 0
    bucket.charge(150)
    assert bucket.wait(1000) == 11
    assert bucket.wait(1009) == 2
    assert bucket.wait(1011) == 0


def test_unused_events_are_saved_up_to_the_burst_and_no_further() -> None:
    bucket = Bucket(Rate(10, 50))
    bucket.wait(0)
    bucket.charge(50)
    bucket.wait(10_000)
    bucket.charge(51)
    assert bucket.wait(10_000) > 0


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 500)), max_size=30),
    st.floats(0.5, 100),
    st.floats(1, 200),
)
def test_in_the_long_run_no_more_passes_than_the_rate_and_one_request_over_it(
    requests: list[tuple[float, int]], per_second: float, burst: float
) -> None:
    bucket = Bucket(Rate(per_second, burst))
    now = passed = largest = 0.0
    for pause, events in requests:
        now += pause
        if bucket.wait(now) == 0:
            bucket.charge(events)
            passed += events
            largest = max(largest, events)
    assert passed <= burst + now * per_second + largest + 1e-6


@given(st.integers(1, 10_000), st.floats(0.5, 1000), st.floats(1, 500))
def test_whoever_comes_back_when_told_is_let_in(
    events: int, per_second: float, burst: float
) -> None:
    bucket = Bucket(Rate(per_second, burst))
    bucket.wait(5.0)
    bucket.charge(events)
    wait = bucket.wait(5.0)
    assert bucket.wait(5.0 + wait) == 0


@pytest.mark.parametrize(
    ("setting", "rate"),
    [
        (None, None), (0, None), ("fast", None), ({}, None), ([1], None),
        (5, Rate(5, 5 * BURST_SECONDS)), ({"events_per_second": 2, "burst": 7}, Rate(2, 7)),
        ({"events_per_second": 2}, Rate(2, 2 * BURST_SECONDS)),
    ],
)  # fmt: skip
def test_a_limit_is_read_and_what_is_none_limits_nothing(setting: Any, rate: Rate | None) -> None:
    assert read_rate(setting) == rate


def test_keys_that_lie_in_the_open_have_a_limit_of_their_own() -> None:
    limits = RateLimits(100)
    assert limits.find("a", source("server")) is None
    public = limits.find("b", source("web"))
    assert public is not None
    assert public.rate.events_per_second == 100
    own = limits.find("c", source("web", rate_limit=3))
    assert own is not None
    assert own.rate.events_per_second == 3
    assert RateLimits(0).find("b", source("web")) is None


def test_a_source_that_was_only_read_anew_does_not_pay_off_its_debt() -> None:
    limits = RateLimits(0)
    bucket = limits.find("a", source(rate_limit=1))
    assert bucket is not None
    bucket.wait(0.0)
    bucket.charge(100)
    again = limits.find("a", source(rate_limit=2))
    assert again is bucket
    assert bucket.rate.events_per_second == 2
    assert bucket.wait(0.0) > 0


def test_a_noisy_source_is_refused_before_a_quiet_one() -> None:
    shares = FairShare(1000)
    taken = 0
    while shares.take("noisy", 50):
        taken += 50
    assert 500 <= taken < 1000
    assert shares.take("quiet", 50)
    assert not shares.take("noisy", 50)
    shares.give_back("noisy", taken)
    assert shares.take("noisy", 50)


def test_what_is_larger_than_the_buffer_passes_when_it_is_alone() -> None:
    shares = FairShare(1000)
    assert shares.take("a", 5000)
    assert not shares.take("b", 1)
    shares.give_back("a", 5000)
    assert shares.held == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 400), st.booleans()), max_size=60))
def test_the_buffer_never_holds_more_than_its_bound(steps: list[tuple[str, int, bool]]) -> None:
    shares = FairShare(1000)
    held: list[tuple[str, int]] = []
    for owner, size, gives_back in steps:
        if gives_back and held:
            shares.give_back(*held.pop())
        elif shares.take(owner, size):
            held.append((owner, size))
        assert shares.held == sum(size for _, size in held) <= 1000


def test_the_door_closes_when_too_much_waits_and_opens_with_room_to_spare() -> None:
    gate = LagGate(100)
    gate.look({0: 60, 1: 40}, {}, 0)
    assert gate.retry_after == 0
    gate.look({0: 160}, {0: 50}, 1)
    assert gate.retry_after > 0
    gate.look({0: 160}, {0: 65}, 2)
    assert gate.retry_after > 0
    gate.look({0: 160}, {0: 80}, 3)
    assert gate.retry_after == 0


def test_the_wait_is_what_the_workers_will_need_at_their_present_speed() -> None:
    gate = LagGate(100)
    gate.look({0: 2000}, {0: 0}, 0)
    gate.look({0: 2000}, {0: 20}, 1)
    # 1980 wait, 90 may: at 20 records a second.
    assert gate.retry_after == 95
    gate.look({0: 200_000}, {0: 40}, 2)
    assert gate.retry_after == LONGEST_WAIT


def test_without_a_limit_the_door_never_closes() -> None:
    gate = LagGate(0)
    gate.look({0: 10**9}, {}, 0)
    assert gate.retry_after == 0
    assert gate.lag == 10**9


Messages = list[dict[str, Any] | None]


def read(reader: BodyReader, *messages: dict[str, Any] | None) -> Coroutine[Any, Any, bytes]:
    """Read a body that arrives as ``messages``; ``None`` never comes."""
    return reader.read(deliver(list(messages)), None, "src_1")


def deliver(messages: Messages) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        message = next(left)
        if message is None:
            await asyncio.Event().wait()
        assert message is not None
        return message

    return receive


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize("messages", [(None,), (part(b"x"), None)])
def test_a_body_that_does_not_come_to_an_end_is_cut_off(
    messages: tuple[dict[str, Any] | None, ...],
) -> None:
    async def run() -> None:
        reader = BodyReader(1000, 1, 10_000)
        with pytest.raises(TooSlow):
            await asyncio.wait_for(read(reader, *messages), 15)
        # It held nothing back, and others are read as before.
        assert await read(reader, part(b"a"), part(b"b", more=False)) == b"ab"
        assert reader._shares.held == 0

    asyncio.run(run())


def test_a_caller_that_gives_up_is_not_taken_for_a_slow_body() -> None:
    async def run() -> None:
        reading = asyncio.create_task(read(BodyReader(1000, 1, 10_000), None))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(run())


def test_bodies_that_arrive_together_share_a_bound() -> None:
    async def run() -> None:
        reader = BodyReader(1000, 30, 1000)
        first = asyncio.create_task(read(reader, part(b"x" * 900), None))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await read(reader, part(b"x" * 300), part(b"", more=False))
        assert refused.value.code == "buffer_full"
        assert await read(reader, part(b"whole at once", more=False)) == b"whole at once"
        first.cancel()
        await asyncio.wait([first])
        assert await read(reader, part(b"x" * 300), part(b"", more=False)) == b"x" * 300

    asyncio.run(run())


def test_chunks_that_never_end_are_refused_at_the_limit() -> None:
    async def run() -> None:
        reader = BodyReader(1000, 30, 10_000)
        with pytest.raises(TooLarge):
            await read(reader, *[part(b"x" * 100)] * 20)
        with pytest.raises(ClientLeft):
            await read(reader, part(b"x"), {"type": "http.disconnect"})
        assert reader._shares.held == 0

    asyncio.run(run())


def test_a_process_may_hold_as_many_connections_as_the_system_grants() -> None:
    program = (
        "import resource\n"
        "from cdp.runtime.open_files import allow_connections\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "allow_connections(100)\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        "allow_connections(10**9)\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    soft, hard = map(int, said[0].split())
    assert soft == min(hard, 600) or hard < 0
    assert said[1] == f"{hard} {hard}" or hard < 0
