"""Accounts in DuckDB: fed from Postgres as they stand, and whom a change of one touches."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cdp.accounts.account import AccountSaid, MemberSaid
from cdp.accounts.accounts_store import PlacedAccount, write_accounts
from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.segments import segments_store
from cdp.segments.evaluate import explain
from cdp.segments.membership_store import read_touched
from cdp.segments.parse import parse_rule
from cdp.segments.person_engine import read_person_facts
from cdp.segments.refresh import Refresher
from cdp.storage.database import Database, driver
from tests.support.committed import Batch, committing

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUYER = MemberSaid(True, "buyer", True)


def tell(
    batch: Batch,
    *members: tuple[int, MemberSaid],
    hours: int = 0,
    fields: dict[str, str | None] | None = None,
    **traits: Any,
) -> None:
    """Say something of the account acme, ``hours`` after noon."""
    said = AccountSaid("acme", NOON + timedelta(hours=hours), f"m{hours}", fields or {}, traits)
    changed = write_accounts(batch.tx, [PlacedAccount(said, 1, members)])
    batch.changes.accounts |= changed.accounts
    batch.changes.trait_nodes |= changed.nodes


def rows(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in engine.read(sql).to_pylist()]


def read_accounts(engine: Engine, schema: str = "main") -> list[tuple[Any, ...]]:
    found = rows(engine, f"FROM {schema}.accounts ORDER BY account_id")
    return [(*row[:-1], json.loads(row[-1])) for row in found]


def test_an_account_and_its_members_arrive(database: Database, engine: Engine, feed: Feed) -> None:
    with committing(database) as batch:
        ann, bob = batch.add_person("ann"), batch.add_person("bob")
        fields = {"type": "company", "parent": "holding"}
        members = (ann, BUYER), (bob, MemberSaid(True))
        tell(batch, *members, fields=fields, plan="pro", seats=5, gone=None)

    step = feed.step(0)

    assert step.touched == {ann, bob}
    assert read_accounts(engine) == [
        ("acme", "company", "holding", {"plan": "pro", "seats": 5}),
        ("holding", None, None, {}),
    ]
    assert rows(engine, "FROM account_members ORDER BY profile_id") == [
        ("acme", "prf_user_id_ann", "buyer"),
        ("acme", "prf_user_id_bob", None),
    ]


def test_another_trait_touches_every_member_and_the_same_one_again_nobody(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann, bob = batch.add_person("ann"), batch.add_person("bob")
        tell(batch, (ann, BUYER), (bob, BUYER), plan="free")
    feed.step(0)
    with committing(database) as batch:
        tell(batch, (ann, MemberSaid(True)), hours=1, plan="free")
    assert feed.step(0).touched == set()
    with committing(database) as batch:
        tell(batch, hours=2, plan="pro")
    assert feed.step(0).touched == {ann, bob}
    assert read_accounts(engine)[0][-1] == {"plan": "pro"}
    with database.transaction() as connection:
        assert sorted(read_touched(driver(connection), 2, 3).profiles) == [ann, bob]


def test_a_member_who_leaves_is_gone_and_merged_members_are_one(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        ann, guest = batch.add_person("ann"), batch.add_person("g", "anonymous_id")
        tell(batch, (ann, BUYER), (guest, MemberSaid(True, "user", True)))
    feed.step(0)
    with committing(database) as batch:
        batch.merge([guest], into=ann)
    feed.step(0)
    listed = "SELECT profile_id, role FROM account_members"
    assert len(rows(engine, listed)) == 1
    with committing(database) as batch:
        tell(batch, (guest, MemberSaid(False)), hours=1)
    feed.step(0)
    assert rows(engine, listed) == []


def test_an_erased_member_is_gone(database: Database, engine: Engine, feed: Feed) -> None:
    with committing(database) as batch:
        ann = batch.add_person("ann")
        tell(batch, (ann, BUYER))
    feed.step(0)
    with committing(database) as batch:
        batch.tx.execute("DELETE FROM account_members WHERE node_id = %s", (ann,))
        batch.erase(ann)
    feed.step(0)
    assert rows(engine, "FROM core.account_members") == []


def test_personal_values_of_accounts_are_masked_as_everywhere(
    database: Database, engine: Engine, feed: Feed
) -> None:
    with committing(database) as batch:
        role = MemberSaid(True, "call ann@example.com", True)
        tell(batch, (batch.add_person("ann"), role), email="ann@example.com", plan="pro")
    feed.step(0)
    assert read_accounts(engine, "masked")[0][-1] == {"email": "a***", "plan": "pro"}
    assert rows(engine, "SELECT role FROM masked.account_members") == [("call ***",)]


def test_a_rebuild_gives_the_same_accounts(database: Database, engine: Engine, feed: Feed) -> None:
    with committing(database) as batch:
        ann, bob = batch.add_person("ann"), batch.add_person("bob")
        tell(batch, (ann, BUYER), (bob, BUYER), plan="free")
    with committing(database) as batch:
        tell(batch, (bob, MemberSaid(False)), hours=1, fields={"type": "household"}, plan=None)
    feed.catch_up()
    before = rows(engine, "FROM accounts"), rows(engine, "FROM account_members")
    assert len(before[1]) == 1
    feed.rebuild()
    assert (rows(engine, "FROM accounts"), rows(engine, "FROM account_members")) == before


def test_a_segment_follows_the_traits_and_the_members_of_accounts(
    database: Database, engine: Engine, feed: Feed
) -> None:
    pro = {"trait": "plan", "op": "eq", "value": "pro"}
    with database.transaction() as connection:
        segments_store.create_segment(
            driver(connection),
            key="pro",
            name="pro",
            description="",
            rule={"account": pro},
            consent=None,
            actor="test",
            now=NOON,
        )
    refresher = Refresher(database, engine, timezone="UTC", time_seconds=3600)

    def members_at(hours: int) -> list[str]:
        feed.catch_up()
        refresher.refresh(NOON + timedelta(hours=hours))
        found = rows(engine, "SELECT profile_id FROM memberships ORDER BY 1")
        return [name.removeprefix("prf_user_id_") for (name,) in found]

    with committing(database) as batch:
        ann, bob = batch.add_person("ann"), batch.add_person("bob")
        tell(batch, (ann, BUYER), plan="free")
    assert members_at(1) == []
    with committing(database) as batch:
        tell(batch, hours=2, plan="pro")
    assert members_at(2) == ["ann"]
    with committing(database) as batch:
        tell(batch, (ann, MemberSaid(False)), (bob, BUYER), hours=3)
    assert members_at(3) == ["bob"]
    # What is dated ahead comes true when its time has come, though nothing arrives then.
    with committing(database) as batch:
        tell(batch, hours=9, plan="free")
    assert members_at(4) == []
    with committing(database) as batch:
        tell(batch, hours=10, plan="pro")
    assert members_at(8) == []
    assert members_at(11) == ["bob"]

    facts = read_person_facts(engine, bob)
    why = explain(parse_rule({"account": pro}), facts, NOON + timedelta(hours=11))
    assert (why["holds"], why["value"], why["account"]["value"]) == (True, ["acme"], "pro")
