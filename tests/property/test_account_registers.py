"""Whatever the order, repetition and batching in which things are said of accounts, what is known

of them in the end is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdp.accounts.account import AccountSaid, MemberSaid
from cdp.accounts.accounts_store import PlacedAccount, write_accounts
from cdp.storage.database import Database, driver
from tests.support.postgres import PostgresServer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

_members = st.tuples(
    st.integers(1, 2),
    st.builds(MemberSaid, st.booleans(), st.sampled_from((None, "buyer", "user")), st.booleans()),
)


@st.composite
def statements(draw: st.DrawFn) -> list[PlacedAccount]:
    made = []
    for number in range(draw(st.integers(1, 7))):
        said = AccountSaid(
            draw(st.sampled_from(("acme", "é"))),
            NOON + timedelta(hours=draw(st.integers(0, 2))),
            f"m{number}",
            draw(st.dictionaries(st.just("parent"), st.sampled_from((None, "beta")), max_size=1)),
            draw(st.dictionaries(st.sampled_from("pq"), st.sampled_from((1, "x", None)))),
        )
        members = draw(st.lists(_members, max_size=2, unique_by=lambda one: one[0]))
        made.append(PlacedAccount(said, draw(st.integers(1, 2)), members))
    return made


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[Database]:
    with postgres_server.fresh_url() as url:
        database = Database(url)
        yield database
        database.close()


def tell(database: Database, told: list[PlacedAccount], cuts: list[int]) -> list[Any]:
    """Write everything, cut into transactions; return what is known then."""
    with database.transaction() as connection:
        connection.exec_driver_sql("TRUNCATE accounts, account_facts, account_members")
    edges = sorted({0, len(told), *(cut % (len(told) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        with database.transaction() as connection:
            write_accounts(driver(connection), told[start:end])
    with database.transaction() as connection:
        return [
            [tuple(row) for row in connection.exec_driver_sql(statement)]
            for statement in (
                "SELECT account_id FROM accounts ORDER BY 1",
                """SELECT account_id, kind, name, value::text, at, message_id, source_number
                     FROM account_facts JOIN accounts USING (account_no) ORDER BY 1, 2, 3""",
                """SELECT account_id, node_id, fact, value::text, at, message_id
                     FROM account_members JOIN accounts USING (account_no) ORDER BY 1, 2, 3""",
            )
        ]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(statements(), st.lists(st.integers(0, 12), max_size=4), st.randoms(use_true_random=False))
def test_any_order_and_repetition_gives_the_same_accounts(
    database: Database, told: list[PlacedAccount], cuts: list[int], random: Any
) -> None:
    wanted = tell(database, told, [])
    again = told + told[: len(told) // 2]
    random.shuffle(again)
    assert tell(database, again, cuts) == wanted


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(statements())
def test_what_is_said_again_changes_nothing(database: Database, told: list[PlacedAccount]) -> None:
    tell(database, told, [])
    with database.transaction() as connection:
        changes = write_accounts(driver(connection), told)
    assert (changes.accounts, changes.nodes) == (set(), set())
