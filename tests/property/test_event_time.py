"""The timestamp rule: whatever is written, an event has one possible time, and the right one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cdp.ingest.event_time import EventTime, decide_time
from cdp.runtime.clock import format_time, read_time

DAY = timedelta(days=1)
times = st.datetimes(
    min_value=datetime(1974, 1, 1),
    max_value=datetime(2200, 1, 1),
    timezones=st.just(UTC),
)
written = st.one_of(
    st.none(),
    st.text(max_size=30),
    st.from_regex(r"-?\d{1,20}(\.\d{1,9})?", fullmatch=True),
    st.from_regex(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:?\d{2})?)?"),
    st.integers(),
    st.floats(),
    times.map(format_time),
)


@given(written, written, times, st.booleans())
def test_whatever_is_written_the_event_has_a_possible_time(
    original: str | int | float | None,
    sent: str | int | float | None,
    received_at: datetime,
    is_trusted: bool,
) -> None:
    found = decide_time(original, sent, received_at, clock_is_trusted=is_trusted)
    assert found.at.utcoffset() == timedelta(0)
    assert found.at <= received_at + DAY
    # Representable in every time zone, and in Postgres.
    assert found.at - DAY < found.at < found.at + DAY
    assert found.at == received_at or not found.is_odd
    if read_time(original) is None:
        assert found.at == received_at
        assert found.is_bad == (original not in (None, ""))
    assert not found.is_as_written or found.at == read_time(original)


@given(times, times, st.timedeltas(timedelta(0), timedelta(days=3000)), st.booleans())
def test_a_waiting_event_happened_as_long_before_its_receipt_as_it_waited(
    received_at: datetime, device_time: datetime, waited: timedelta, is_trusted: bool
) -> None:
    original, sent = device_time.isoformat(), (device_time + waited).isoformat()
    found = decide_time(original, sent, received_at, clock_is_trusted=is_trusted)
    if not is_trusted:
        assert found.at == received_at - waited
    elif device_time <= received_at + DAY:
        assert found == EventTime(device_time, is_as_written=True)
    else:
        assert found == EventTime(received_at, is_future=True)


@given(times.map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)))
def test_a_moment_is_read_alike_however_it_is_written(time: datetime) -> None:
    milliseconds = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    spellings: list[str | int | float] = [
        format_time(time),
        time.isoformat(),
        time.strftime("%Y-%m-%dT%H:%M:%S.%f123Z"),
        milliseconds,
        milliseconds * 1000,
        milliseconds * 1_000_000,
    ]
    if milliseconds % 1000 == 0:
        spellings += [milliseconds // 1000, milliseconds / 1000, milliseconds * 1.0]
    assert {read_time(one) for one in spellings} == {time}
    assert {read_time(str(one)) for one in spellings} == {time}
