"""Lists that are read page by page while somebody writes: nothing twice, nothing passed over."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cdp.accounts.accounts_read_store import find_account, read_members
from cdp.model import Identifier
from cdp.profiles.feed_routes import take_page
from cdp.profiles.feed_store import catch_up, read_ends, read_feed
from cdp.profiles.profile_store import find_people
from cdp.profiles.search_store import TraitFilter, search_people
from cdp.profiles.timeline_store import read_timeline
from cdp.runtime.clock import now
from cdp.storage.database import Database, Driver, driver
from tests.support.privacy_desk import PrivacyWorld
from tests.support.wire import RECEIVED_AT, identify, track

_SIZE = 3
_PASSES = 3

Step = Callable[[Driver, Any], tuple[list[Any], Any]]
"""From a place (``None``: the beginning) to a page and the place of the next, ``None``: none."""


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[PrivacyWorld]:
    world = PrivacyWorld(database, tmp_path)
    world.send(_write_round(0, people=10))
    yield world
    world.close()


def _write_round(turn: int, people: int = 3) -> list[dict[str, Any]]:
    """Ann does something, late and early; newcomers join the account and live in her city."""
    at = RECEIVED_AT - timedelta(days=1)
    events: list[dict[str, Any]] = []
    for number in range(people):
        user, name = f"u-{turn}-{number}", f"{turn}-{number}"
        hours = timedelta(hours=(turn * 7 + number * 5) % 24, seconds=turn)
        events += [
            track("Seen", f"t-{name}", at=at - hours, userId="ann"),
            identify(f"i-{name}", at=at, userId=user, traits={"city": "上海"}),
            {"type": "group", "userId": user, "groupId": "acme", "messageId": f"g-{name}"},
        ]
    return events


@contextmanager
def _writing(world: PrivacyWorld) -> Iterator[Callable[[], int]]:
    """Write in another thread until left; gives how many rounds are committed."""
    is_over = threading.Event()
    done, failures = [0], list[Exception]()

    def write() -> None:
        try:
            while not is_over.is_set() and done[0] < 1_000:
                world.send(_write_round(done[0] + 1))
                done[0] += 1
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: done[0]
    finally:
        is_over.set()
        thread.join(60)
    assert not failures
    assert not thread.is_alive()


def _read_all(database: Database, step: Step, wait: Callable[[], object]) -> list[Any]:
    found: list[Any] = []
    place: Any = None
    while True:
        with database.snapshot() as connection:
            page, place = step(driver(connection), place)
        found += page
        if place is None:
            return found
        wait()


def _read_timeline(tx: Driver, place: Any) -> tuple[list[Any], Any]:
    [ann] = find_people(tx, [Identifier("user_id", "ann")])
    assert ann is not None
    page = read_timeline(tx, ann.profile_no, limit=_SIZE, past=place)
    following = page[-1].key if len(page) == _SIZE else None
    return [event.message_id for event in page], following


def _read_upwards(tx: Driver, place: Any) -> tuple[list[Any], Any]:
    [ann] = find_people(tx, [Identifier("user_id", "ann")])
    assert ann is not None
    page = read_timeline(tx, ann.profile_no, limit=_SIZE, past=place, order="asc")
    following = page[-1].key if len(page) == _SIZE else None
    return [event.message_id for event in page], following


def _read_search(tx: Driver, place: Any) -> tuple[list[Any], Any]:
    wanted = TraitFilter("city", (), "上海")
    page = search_people(tx, traits=[wanted], after=place or 0, limit=_SIZE)
    return page, page[-1] if len(page) == _SIZE else None


def _read_members(tx: Driver, place: Any) -> tuple[list[Any], Any]:
    account = find_account(tx, "acme", now())
    assert account is not None
    page = read_members(tx, account.account_no, now(), after=place or 0, limit=_SIZE)
    following = page[-1].profile_no if len(page) == _SIZE else None
    return [one.profile_no for one in page], following


@pytest.mark.parametrize(
    "step", [_read_timeline, _read_upwards, _read_search, _read_members], ids=lambda s: s.__name__
)
def test_what_is_there_all_along_comes_once_whatever_is_written_meanwhile(
    world: PrivacyWorld, step: Step
) -> None:
    with _writing(world) as rounds:
        for _ in range(_PASSES):
            there = _read_all(world.database, step, lambda: None)
            began = rounds()
            # The writer goes on between any two of the first pages.
            turns = iter(range(4))

            def wait(turns: Iterator[int] = turns, began: int = began) -> None:
                turn = next(turns, None)
                if turn is not None:
                    _wait_for(lambda: rounds() > began + turn)

            found = _read_all(world.database, step, wait)
            assert max(Counter(found).values()) == 1
            assert set(there) <= set(found)
    assert len(there) >= 10


def _wait_for(is_so: Callable[[], bool]) -> None:
    waiter = threading.Event()
    for _ in range(6_000):
        if is_so():
            return
        waiter.wait(0.01)
    raise AssertionError("the writer does not go on")


def test_changes_followed_while_they_come_are_those_read_at_the_end(world: PrivacyWorld) -> None:
    followed: list[dict[str, Any]] = []
    place = (0, 0)
    with _writing(world) as rounds:
        while rounds() < 8:
            page, place = _read_changes(world.database, place)
            followed += page
    left, _ = _read_changes(world.database, place, limit=100_000)
    followed += left
    whole, _ = _read_changes(world.database, (0, 0), limit=100_000)
    assert followed == whole
    assert len(whole) > 100


def _read_changes(
    database: Database, place: tuple[int, int], limit: int = _SIZE
) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """As the route does it."""
    catch_up(database)
    with database.snapshot() as connection:
        tx = driver(connection)
        ends = read_ends(tx)
        rows = read_feed(tx, since=place[0], limit=limit + 2)
    page, following = take_page(rows, place, limit, None)
    return page, following or (ends.newest + 1, 0)
