"""Whoever appends gets an answer, whatever the log does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cdp.log.backlog import Backlog
from cdp.log.port import LogUnavailable, NewRecord


@contextmanager
def _backlog(*, max_bytes: int = 10_000, timeout_seconds: float = 600) -> Iterator[Backlog]:
    backlog = Backlog(max_bytes=max_bytes, timeout_seconds=timeout_seconds)
    try:
        yield backlog
    finally:
        backlog.close(0)


def _records(size: int = 100) -> list[NewRecord]:
    return [NewRecord(0, None, {}, b"x" * size)]


def test_a_settled_append_has_its_offsets() -> None:
    with _backlog() as backlog:
        append = backlog.admit(_records())
        assert not append.is_answered
        backlog.settle(append, [7])
        assert append.future.result(0) == [7]


def test_what_the_log_never_answers_fails_when_the_time_is_over() -> None:
    with _backlog(timeout_seconds=0) as backlog:
        append = backlog.admit(_records())
        assert isinstance(append.future.exception(timeout=60), LogUnavailable)


def test_an_acknowledgement_after_the_time_is_over_changes_nothing() -> None:
    with _backlog(timeout_seconds=0) as backlog:
        append = backlog.admit(_records())
        append.future.exception(timeout=60)
        backlog.settle(append, [1])
        with pytest.raises(LogUnavailable):
            append.future.result(0)


def test_a_full_backlog_refuses_at_once_and_takes_again_when_there_is_room() -> None:
    with _backlog(max_bytes=10_000) as backlog:
        first = backlog.admit(_records(9_000))
        assert isinstance(backlog.admit(_records(2_000)).future.exception(0), LogUnavailable)
        backlog.settle(first, [0])
        assert not backlog.admit(_records(2_000)).is_answered


def test_an_append_larger_than_the_whole_backlog_is_taken_when_nothing_else_waits() -> None:
    with _backlog(max_bytes=1_000) as backlog:
        assert not backlog.admit(_records(5_000)).is_answered


def test_once_the_log_is_away_one_tries_it_and_the_others_are_refused() -> None:
    with _backlog() as backlog:
        backlog.fail(backlog.admit(_records()), "no broker")
        trying = backlog.admit(_records())
        assert not trying.is_answered
        refused = backlog.admit(_records()).future.exception(0)
        assert str(refused) == "no broker"
        backlog.settle(trying, [0])
        assert not any(backlog.admit(_records()).is_answered for _ in range(3))


def test_one_bad_record_does_not_make_the_log_away() -> None:
    with _backlog() as backlog:
        backlog.fail(backlog.admit(_records()), "too large", is_away=False)
        assert not any(backlog.admit(_records()).is_answered for _ in range(3))


def test_closing_fails_what_is_left_and_refuses_the_rest() -> None:
    with _backlog() as backlog:
        left = backlog.admit(_records())
        backlog.close(0)
        assert isinstance(left.future.exception(0), LogUnavailable)
        assert isinstance(backlog.admit(_records()).future.exception(0), LogUnavailable)
