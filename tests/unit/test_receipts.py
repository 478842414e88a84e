"""Receipts: made from positions alone, waited for without blocking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp import receipts
from cdp.errors import Unprocessable
from cdp.receipts import Progress, Receipt


@given(st.text(max_size=40), st.dictionaries(st.integers(0, 1023), st.integers(0, 2**62)))
def test_a_receipt_reads_back_as_it_was_written(log: str, offsets: dict[int, int]) -> None:
    assert receipts.decode(receipts.encode(log, offsets)) == Receipt(log, offsets)


@pytest.mark.parametrize("text", ["", "x", "....", "WyJhIl0", "上海", "a" * 1001])
def test_other_text_is_no_receipt(text: str) -> None:
    assert receipts.decode(text) is None


@given(st.text())
def test_no_text_makes_reading_fail(text: str) -> None:
    receipts.decode(text)


def test_a_write_is_done_when_every_partition_is_past_it() -> None:
    receipt = Receipt("log", {0: 5, 3: 0})
    assert receipt.is_within({0: 6, 3: 1})
    assert not receipt.is_within({0: 5, 3: 1})
    assert not receipt.is_within({0: 6})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("500ms", 0.5), ("0s", 0), ("1.5s", 1.5), ("2", 2), ("1m", 30), ("99s", 30)],
)
def test_a_wait_is_read_in_seconds_and_never_longer_than_thirty(text: str, seconds: float) -> None:
    assert receipts.parse_wait(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "5 s", "5h", "soon", "1e9s"])
def test_another_wait_is_refused_at_its_place(text: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        receipts.parse_wait(text)
    assert caught.value.details["path"] == "/wait"


class _Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.anyio
async def test_waiting_ends_as_soon_as_the_position_is_past_the_write() -> None:
    time = _Time()
    progress = Progress(
        lambda log: {0: 2 if time.now >= 1 else 1},
        lambda log: {},
        monotonic=time.monotonic,
        sleep=time.sleep,
    )
    assert await progress.wait(Receipt("log", {0: 1}), "profiles", 5)
    assert 1 <= time.now < 1.1


@pytest.mark.anyio
async def test_waiting_in_vain_ends_in_time() -> None:
    time = _Time()
    progress = Progress(lambda log: {}, lambda log: {}, monotonic=time.monotonic, sleep=time.sleep)
    assert not await progress.wait(Receipt("log", {0: 1}), "analytics", 5)
    assert time.now == pytest.approx(5)


@pytest.mark.anyio
async def test_any_number_of_waiting_requests_share_one_look() -> None:
    time = _Time()
    looks: list[str] = []

    def look(log: str) -> dict[int, int]:
        looks.append(log)
        return {0: 9}

    progress = Progress(look, look, monotonic=time.monotonic, sleep=time.sleep)
    for _ in range(50):
        assert await progress.reached(Receipt("log", {0: 1}), "profiles")
    assert looks == ["log"]
