"""Whatever is told, decided, changed and killed in whatever order: the facts alone say who is who.

The machine posts events and orders, in any order and again; lets one of three workers, or all at
once, take what is there, and kills some of them after a step of their transaction; merges, parts,
blocks and takes back by hand; changes the rules and applies them piece by piece. In between and in
the end: who is who is what the resolver makes of all facts; every moment belongs to a live profile;
every profile id ever read leads to one in one hop; no event and no amount is lost or doubled; what
people said last is what they are; DuckDB and a segment say the same.

The invariants, and where each is proved (``R``: ``test_resolve``, ``S``: ``test_identity_store``):
1 order: R, S. 2 idempotence: R, S, ``tell_everything_again``. 3 batches: S, ``compare``.
4 partition: R, S, the first ``@invariant``. 5 unique types and recorded refusals: R, ``compare``.
6 connectivity: R with networkx, ``test_identity_oracle``. 7 isolation: R.
8 no lost trait: ``test_profiles``, ``compare``. 9 no lost event or amount: ``compare``.
10 derived data: ``look_into_duckdb``, ``test_membership_refresh``.
11 undo: ``merge_and_undo``, ``test_identity_by_hand``. 12 redirects: S, the first ``@invariant``.
13 first seen: the second ``@invariant``. 14 deletion: ``integration/test_privacy``.
15 crash: ``work`` and ``dies``. 16 concurrency: ``work_at_once``. 17 time travel: R, ``compare``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from cdp.analytics.engine import Engine
from cdp.analytics.feed import Feed
from cdp.errors import Conflict, NotFound
from cdp.identity.change_rules_store import change_rules
from cdp.identity.rules import default_rules
from cdp.model import Identifier
from cdp.pipeline import STEPS
from cdp.segments import segments_store
from cdp.segments.refresh import Refresher
from cdp.storage.database import driver
from tests.support.identity_lab import ALL, Killed, Lab
from tests.support.identity_model import Model, Told, day, read_decisions, read_truth, work_out
from tests.support.postgres import PostgresServer
from tests.support.wire import RECEIVED_AT

NAMES = [
    Identifier(kind, value)
    for kind, values in {
        "user_id": "abc",
        "crm_id": "kl",
        "wechat_unionid": "uv",
        "email": ("e@x.cn", "f@x.cn", "g@x.cn"),
        "anonymous_id": "1234",
        "device_id": "56",
    }.items()
    for value in values
]
_FEW_HOT = default_rules("CN").model_copy(update={"hot_limit": 2, "version": 2})
_CHANGES: list[dict[str, Any]] = [
    {"shared_device": "last_authenticated"},
    {"shared_device": "last_authenticated", "session_timeout": "3d"},
    {"shared_device": "anonymous"},
    {"hot_limit": 3},
    {"hot_limit": 2},
    {"rebind_after": "20d"},
    {"rebind_after": "180d"},
    {"types": {"wechat_unionid": {"unique": True}}},
    {"types": {"wechat_unionid": {"unique": False}}},
    {"types": {"email": {"limit": 1}}},
    {"types": {"email": {"limit": 20}}},
]
_some_names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
_two_names = st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True)
_days = st.one_of(st.integers(0, 8), st.integers(0, 440))
_events = st.lists(
    st.tuples(_some_names, _days, st.booleans(), st.sampled_from(["上海", "北京"])),
    min_size=1,
    max_size=5,
)
_server: list[PostgresServer] = []


@pytest.fixture(scope="module", autouse=True)
def server(postgres_server: PostgresServer) -> Iterator[None]:
    _server.append(postgres_server)
    yield
    _server.clear()


class IdentityMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.open = ExitStack()
        self.lab = Lab(self.open.enter_context(_server[0].fresh_url()), _FEW_HOT)
        self.open.callback(self.lab.close)
        folder = self.open.enter_context(tempfile.TemporaryDirectory())
        self.engine = Engine(Path(folder) / "analytics.duckdb", "256MB", 1)
        self.open.callback(self.engine.close)
        self.feed = Feed(self.lab.database, self.engine)
        self.open.callback(self.feed.close)
        self.model = Model(_FEW_HOT, self.lab.salt)
        self.made: list[str] = []

    # ── What arrives ────────────────────────────────────────────────────────────────────────

    @initialize(
        timeout=st.sampled_from([None, "4h", "2d"]),
        moments=st.lists(st.tuples(st.sampled_from("abx"), st.integers(0, 40)), max_size=8),
    )
    def share_a_device(self, timeout: str | None, moments: list[tuple[str, int]]) -> None:
        """Let two people use one device in turn, and somebody (x) who does not say who they are."""
        if timeout is not None:
            self.change_rules({"shared_device": "last_authenticated", "session_timeout": timeout})
        for who, hours in moments:
            names = [Identifier("user_id", who)] if who != "x" else []
            names.append(Identifier("device_id", "5"))
            self._tell(Told(f"i{len(self.model.told)}", tuple(names), day(hours / 4)))

    def _tell(self, one: Told) -> None:
        self.model.told[one.message_id] = one
        if one.amount is None:
            self.lab.post_events([one.write()], "web" if one.public else "server")
        else:
            self.lab.post_orders([one.write()])

    @rule(events=_events)
    def post_events(self, events: list[tuple[list[Identifier], int, bool, str]]) -> None:
        for names, when, public, city in events:
            number = len(self.model.told)
            at = day(494 + when % 6 if public else when)
            said = city if any(name.type == "user_id" for name in names) else None
            message_id = f"m{number * 7 % 100:02}-{number}"
            self._tell(Told(message_id, tuple(names), at, public, city=said))

    @rule(names=_some_names, when=_days, amount=st.integers(1, 9))
    def post_order(self, names: list[Identifier], when: int, amount: int) -> None:
        message_id = f"o-{len(self.model.told)}"
        self._tell(Told(message_id, tuple(names), day(when + 0.25), amount=amount))

    @precondition(lambda self: self.model.told)
    @rule(number=st.integers(0))
    def post_again(self, number: int) -> None:
        told = list(self.model.told.values())
        self._tell(told[number % len(told)])

    # ── Work ────────────────────────────────────────────────────────────────────────────────

    @rule(
        worker=st.integers(0, 2),
        partitions=st.frozensets(st.sampled_from(sorted(ALL)), min_size=1),
        dies_after=st.one_of(st.none(), st.integers(0, len(STEPS) - 1)),
    )
    def work(self, worker: int, partitions: frozenset[int], dies_after: int | None) -> None:
        self.lab.work(worker, partitions, dies_after)

    @rule()
    def work_at_once(self) -> None:
        self.lab.work_at_once()

    @rule()
    def follow(self) -> None:
        self.feed.catch_up()

    # ── What people decide ──────────────────────────────────────────────────────────────────

    @rule(names=_two_names, anyway=st.booleans(), dies=st.booleans())
    def merge(self, names: list[Identifier], anyway: bool, dies: bool) -> None:
        with suppress(Conflict, NotFound, Killed):
            decided = self.lab.decide(
                lambda hand: hand.merge(names, allow_unique_conflict=anyway), dies=dies
            )
            self.made.append(decided.decision_id)

    @rule(names=_two_names, both=st.booleans(), dies=st.booleans())
    def unmerge(self, names: list[Identifier], both: bool, dies: bool) -> None:
        with suppress(Conflict, NotFound, Killed):
            chosen = names if both else names[:1]
            decided = self.lab.decide(lambda hand: hand.unmerge(chosen), dies=dies)
            self.made.append(decided.decision_id)

    @rule(name=st.sampled_from([name for name in NAMES if name.type != "user_id"]))
    def block(self, name: Identifier) -> None:
        self.settle()
        self.made.append(self.lab.decide(lambda hand: hand.block(*name)).decision_id)
        self.model.rules = self.lab.read_rules()

    @precondition(lambda self: self.made)
    @rule(number=st.integers(0), dies=st.booleans())
    def undo(self, number: int, dies: bool) -> None:
        self.settle()
        with suppress(Killed):
            decision_id = self.made[number % len(self.made)]
            self.lab.decide(lambda hand: hand.undo(decision_id), dies=dies)
        self.model.rules = self.lab.read_rules()

    @rule(change=st.sampled_from(_CHANGES))
    def change_rules(self, change: dict[str, Any]) -> None:
        self.settle()
        document = self.lab.read_rules().document()
        for kind, members in change.get("types", {}).items():
            document["types"][kind].update(members)
        document.update({name: value for name, value in change.items() if name != "types"})
        with self.lab.database.transaction() as connection:
            change_rules(driver(connection), document, "CN", "token:test")
        self.model.rules = self.lab.read_rules()

    @rule(dies=st.booleans())
    def apply_rules(self, dies: bool) -> None:
        with suppress(Killed):
            self.lab.apply_rules(dies=dies)

    @rule(names=_two_names)
    def merge_and_undo(self, names: list[Identifier]) -> None:
        """Undone at once, a merge leaves nothing behind but its place in the history."""
        self.settle()
        before = read_truth(self.lab)
        try:
            decided = self.lab.decide(lambda hand: hand.merge(names, allow_unique_conflict=True))
        except (Conflict, NotFound):
            return
        if decided.decision_id in self.made:
            return
        joined = read_truth(self.lab).owners
        assert joined[names[0]][-1][2] == joined[names[1]][-1][2]
        self.lab.decide(lambda hand: hand.undo(decided.decision_id))
        assert read_truth(self.lab) == before

    # ── What holds ──────────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """Let all that arrived be worked off, and the rules be applied."""
        self.lab.settle()
        while self.lab.apply_rules():
            pass
        self.model.hear()

    @rule()
    def compare(self) -> None:
        self.settle()
        wanted, stored = work_out(self.model, read_decisions(self.lab)), read_truth(self.lab)
        assert stored == wanted
        homes = [names for names in self.model.heard.values() if names]
        told = [one for one in self.model.told.values() if self.model.heard[one.message_id]]
        assert len(homes) == sum(stored.events.values()) + sum(
            one.amount is not None for one in told
        )
        assert sum(stored.amounts.values()) == 100 * sum(one.amount or 0 for one in told)

    @rule()
    def tell_everything_again(self) -> None:
        """Once all has been worked off, hearing it again changes nothing and writes no history."""
        self.settle()
        before = read_truth(self.lab)
        history = self.lab.ask("SELECT count(*) FROM profile_changes")
        versions = self.lab.ask("SELECT profile_id, version FROM profiles ORDER BY 1")
        for number in range(len(self.model.told)):
            self.post_again(number)
        self.lab.work_at_once()
        assert read_truth(self.lab) == before
        assert self.lab.ask("SELECT count(*) FROM profile_changes") == history
        assert self.lab.ask("SELECT profile_id, version FROM profiles ORDER BY 1") == versions

    @invariant()
    def every_moment_belongs_to_a_live_profile_and_every_id_leads_to_one(self) -> None:
        broken = self.lab.ask(
            """SELECT n.node_id FROM nodes n
                 LEFT JOIN node_profiles s USING (node_id) LEFT JOIN profiles p USING (profile_no)
                GROUP BY n.node_id
               HAVING count(p.profile_no) < count(*)
                   OR count(*) FILTER (WHERE s.since = '-infinity') <> 1
                   OR count(*) FILTER (WHERE s.until = 'infinity') <> 1
                   OR count(DISTINCT s.since) <> count(*)"""
        )
        live = {row[0] for row in self.lab.ask("SELECT profile_id FROM profiles")}
        self.model.issued |= live
        leading = {
            row[0]
            for row in self.lab.ask(
                """SELECT n.profile_id FROM nodes n
                     JOIN node_profiles s ON s.node_id = n.node_id AND s.since = '-infinity'
                     JOIN profiles p USING (profile_no)"""
            )
        }
        assert not broken
        assert self.model.issued <= leading

    @invariant()
    def first_seen_never_moves_forward(self) -> None:
        for kind, value, first in self.lab.ask(
            "SELECT type, value, first_seen FROM nodes WHERE variant = ''"
        ):
            name = Identifier(kind, value)
            assert first <= self.model.first_seen.get(name, first)
            self.model.first_seen[name] = first

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                self.compare()
                self.look_into_duckdb()
        finally:
            self.open.close()

    def look_into_duckdb(self) -> None:
        """What follows says the same: events by person, and who is in a segment."""
        rule = {"event": "Seen", "count": {"op": "gte", "value": 2}}
        with self.lab.database.transaction() as connection:
            segments_store.create_segment(
                driver(connection), key="busy", name="Busy", description="",
                rule=rule, consent=None, actor="test", now=RECEIVED_AT,
            )  # fmt: skip
        self.feed.catch_up()
        wanted = read_truth(self.lab).events
        found = self.engine.read(
            "SELECT profile_id, count(*) AS n FROM events WHERE profile_id IS NOT NULL GROUP BY 1"
        )
        assert {row["profile_id"]: row["n"] for row in found.to_pylist()} == wanted
        Refresher(self.lab.database, self.engine, timezone="UTC", time_seconds=15).refresh(
            RECEIVED_AT
        )
        members = self.engine.read("SELECT profile_id FROM memberships WHERE segment = 'busy'")
        busy = {profile_id for profile_id, count in wanted.items() if count >= 2}
        assert {row["profile_id"] for row in members.to_pylist()} == busy


def test_who_is_who_depends_on_the_facts_alone_whatever_happens_on_the_way() -> None:
    run(
        IdentityMachine,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            # To find a shorter story would take minutes of a real database.
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
