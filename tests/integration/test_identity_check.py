"""The check finds what is wrong on live data, and the rebuild puts it right."""

from __future__ import annotations

import pytest

from cdp.identity.check_store import Finding, check_identity
from cdp.identity.repair_store import rebuild_profiles
from cdp.identity.rules_store import read_rules
from cdp.storage.database import Database, driver
from tests.support.identity_rows import apply, make_store, query, stored_partition
from tests.support.identity_world import START, saw

A, B, C, EMAIL = "user_id:a", "user_id:b", "anonymous_id:c", "email:ann@x"


def _check(database: Database) -> dict[str, Finding]:
    with database.snapshot() as connection:
        tx = driver(connection)
        return {one.promise: one for one in check_identity(tx, read_rules(tx, "CN"))}


def _broken(database: Database) -> set[str]:
    return {promise for promise, finding in _check(database).items() if finding.wrong}


@pytest.fixture(autouse=True)
def people(database: Database) -> None:
    store = make_store()
    apply(database, store, saw(f"{A} {C}", 0), saw(f"{B} {C}", 1), saw(f"{A} {EMAIL}", 2))
    apply(database, store, *(saw(f"user_id:u{n} phone:+862112345678", n) for n in range(8)))


def _spoil(database: Database, statement: str) -> None:
    with database.transaction() as connection:
        done = driver(connection).execute(statement)  # type: ignore[arg-type]
        assert done.rowcount > 0


def test_sound_data_keeps_every_promise_and_says_how_much_was_compared(
    database: Database,
) -> None:
    found = _check(database)
    assert not any(finding.wrong for finding in found.values())
    assert found["identifiers belong to whom a rebuild says"].compared == 13
    assert found["no profile holds two values of a unique type"].compared == 10
    assert all(finding.compared for finding in found.values())


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (
            """UPDATE node_profiles s SET profile_no = (
                   SELECT node_id FROM nodes WHERE value = 'b' AND variant = '')
                FROM nodes n WHERE n.node_id = s.node_id AND n.value = 'ann@x'""",
            {"identifiers belong to whom a rebuild says"},
        ),
        (
            "UPDATE profiles SET joined_at = now()",
            {"profiles joined when a rebuild says"},
        ),
        (
            "DELETE FROM refusals WHERE reason = 'unique_conflict'",
            {"refusals are those of a rebuild"},
        ),
        (
            """DELETE FROM profiles p USING nodes n
                WHERE n.node_id = p.profile_no AND n.value = 'u3'""",
            {
                "every moment of an identifier belongs to one live profile",
                "every profile id ever issued leads to a live profile",
                "profiles joined when a rebuild says",
            },
        ),
        (
            """UPDATE node_profiles s SET profile_no = (
                   SELECT node_id FROM nodes WHERE value = 'u1' AND variant = '')
                FROM nodes n WHERE n.node_id = s.node_id AND n.value = 'u2'""",
            {
                "identifiers belong to whom a rebuild says",
                "every profile has identifiers and is named by one of them",
                "no profile holds two values of a unique type",
            },
        ),
        (
            "UPDATE links SET retracted_at = now() WHERE link_id IN (SELECT link_id FROM refusals)",
            {"every refusal names a fact that stands", "refusals are those of a rebuild"},
        ),
    ],
)
def test_damage_is_found(database: Database, damage: str, broken: set[str]) -> None:
    _spoil(database, damage)
    found = _broken(database)
    assert broken <= found
    assert found <= broken | {
        "identifiers belong to whom a rebuild says",
        "profiles joined when a rebuild says",
    }


def test_a_rebuild_of_sound_data_replaces_nobody(database: Database) -> None:
    batches = query(database, "SELECT count(*) FROM batches")
    done = rebuild_profiles(database, "CN", START)
    assert (done.replaced, done.is_equal) == (0, True)
    assert query(database, "SELECT count(*) FROM batches") == batches


def test_a_rebuild_puts_damage_right_and_followers_hear_of_it(database: Database) -> None:
    sound = stored_partition(database)
    _spoil(
        database,
        """UPDATE node_profiles s SET profile_no = (
               SELECT node_id FROM nodes WHERE value = 'b' AND variant = '')
            FROM nodes n WHERE n.node_id = s.node_id AND n.value = 'ann@x'""",
    )
    _spoil(database, "DELETE FROM refusals WHERE reason = 'unique_conflict'")
    done = rebuild_profiles(database, "CN", START)
    assert done.replaced == 2
    assert done.is_equal
    assert any(finding.wrong for finding in done.before)
    assert stored_partition(database) == sound
    moved = query(database, "SELECT moved_nodes FROM batches ORDER BY seq DESC LIMIT 1")[0][0]
    email = query(database, "SELECT node_id FROM nodes WHERE value = 'ann@x'")[0][0]
    assert email in moved  # type: ignore[operator]
