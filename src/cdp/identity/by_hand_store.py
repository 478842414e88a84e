"""What people decide by hand, carried out: merge, unmerge, block, and undo any of them.

Each is a fact for the replay and a batch of its own, so that followers see it like an event. The
caller commits; a refusal is an error, and then nothing was done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cdp.access.audit_store import record
from cdp.errors import Conflict, NotFound, Unprocessable
from cdp.identity import decisions_store as decisions
from cdp.identity.apply_rules_store import release_cooled
from cdp.identity.components_store import load_components, lock_components
from cdp.identity.facts import LinkFact, LinkKind, Node
from cdp.identity.find_store import PROFILE_ID_TYPE
from cdp.identity.identifiers import normalise
from cdp.identity.recompute import replay
from cdp.identity.resolve import resolve
from cdp.identity.rules import Rules
from cdp.identity.rules_store import (
    count_generation,
    ensure_salt,
    hold_rules,
    read_rules,
    share_rules,
)
from cdp.model import Identifier
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Driver

_REFUSALS = {
    "unique_conflict": "both have an identifier of a type that a person has only one of; send "
    "allow_unique_conflict to merge them all the same",
    "shared_device": "a shared device belongs to several people; name the people instead",
    "hot_identifier": "an identifier that ties so many people together is nobody's",
    "blocked": "a blocked identifier is nobody's; unblock it first",
    "component_full": "one of them is tied to too many identifiers to take in more",
}


class Profile(NamedTuple):
    """Whose an identifier is now."""

    profile_no: int
    profile_id: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a decision: its id, and whose each of its identifiers is now."""

    decision_id: str
    profiles: dict[Identifier, str]


@dataclass(slots=True)
class Hand:
    """Carries out decisions in one transaction. ``actor`` decides, for ``reason``, at ``now``."""

    conn: Driver
    country: str
    actor: str
    reason: str
    now: datetime
    rules: Rules = field(init=False)
    changes: BatchChanges = field(default_factory=BatchChanges)

    # ── Merge and unmerge ───────────────────────────────────────────────────────────────────

    def merge(
        self, identifiers: Iterable[Identifier], *, allow_unique_conflict: bool = False
    ) -> Decided:
        """Make the people of ``identifiers`` one.

        Raises ``NotFound`` for an identifier that nobody has, ``Conflict`` when a rule forbids it.
        """
        self._share_rules()
        nodes = self._find(identifiers)
        if len(nodes) < 2:
            raise Unprocessable("two_identifiers", "name at least two", path="/identifiers")
        labels = lock_components(self.conn, nodes.values())
        before = self._owners(nodes.values())
        standing = decisions.find_standing(self.conn, "merge", nodes)
        if standing is not None and len(set(before.values())) == 1:
            return self._decided(standing.decision_id, nodes)
        kind: LinkKind = "exception" if allow_unique_conflict else "merge"
        node_ids = sorted(nodes.values())
        decision_id, link_id = self._decide("merge", kind, nodes, node_ids, labels)
        batch_id = open_batch(self.conn)
        self._replay(node_ids, batch_id, ties=[node_ids])
        after = self._owners(node_ids)
        if len(set(after.values())) > 1:
            raise self._refusal(link_id, before.values())
        details = {"allow_unique_conflict": allow_unique_conflict}
        self._tell("merged_by_hand", decision_id, after.values(), batch_id, **details)
        self._close(batch_id)
        return self._decided(decision_id, nodes)

    def unmerge(self, identifiers: Iterable[Identifier]) -> Decided:
        """Part people: one identifier leaves its profile; several go to one profile each.

        Raises ``NotFound`` for an identifier that nobody has, ``Conflict`` when there is nothing
        to part.
        """
        self._share_rules()
        nodes = self._find(identifiers)
        if not nodes:
            raise Unprocessable("no_identifier", "name at least one", path="/identifiers")
        labels = lock_components(self.conn, nodes.values())
        before = self._owners(nodes.values())
        kind: LinkKind = "detached" if len(nodes) == 1 else "parted"
        node_ids = list(nodes.values())
        if kind == "detached":
            node_ids += self._find_rest(node_ids[0], labels[node_ids[0]][0], before[node_ids[0]])
        is_apart = len(node_ids) == 1 or (
            kind == "parted" and len(set(before.values())) == len(nodes)
        )
        if is_apart:
            standing = decisions.find_standing(self.conn, "unmerge", nodes)
            if standing is None:
                raise Conflict("nothing_to_part", "no two of these are one person")
            return self._decided(standing.decision_id, nodes)
        decision_id, _ = self._decide("unmerge", kind, nodes, node_ids, labels)
        batch_id = open_batch(self.conn)
        self._replay(node_ids, batch_id)
        self._tell("parted_by_hand", decision_id, self._owners(node_ids).values(), batch_id)
        self._close(batch_id)
        return self._decided(decision_id, nodes)

    def _find_rest(self, node_id: int, component_id: int, profile: Profile) -> list[int]:
        """Return the nodes of its profile that a node is to be detached from.

        One that a merge by hand named goes with those that it was one person with before.
        """
        rows = self.conn.execute(
            """SELECT s.node_id FROM node_profiles s JOIN nodes n USING (node_id)
                WHERE s.profile_no = %s AND s.until = 'infinity' AND n.variant = ''
                  AND s.node_id <> %s ORDER BY 1""",
            (profile.profile_no, node_id),
        ).fetchall()
        rest = [row[0] for row in rows]
        if not decisions.has_merge_of(self.conn, node_id, component_id):
            return rest
        stored = load_components(self.conn, [component_id])
        own = group_without_merges(
            stored.nodes.values(), stored.links.values(), self.rules, node_id
        )
        return [other for other in rest if other not in own] or rest

    # ── Block ───────────────────────────────────────────────────────────────────────────────

    def block(self, type_name: str, value: object) -> Decided:
        """Let an identifier name nobody and tie nobody together, whether it was seen or not.

        Raises ``Unprocessable`` when the rules see no identifier in it anyway.
        """
        hold_rules(self.conn)
        rules = read_rules(self.conn, self.country)
        text = normalise(type_name, value, rules.with_blocks(frozenset()))
        if text is None or type_name == PROFILE_ID_TYPE:
            raise Unprocessable("names_nobody", "no identifier has such a value", path="/value")
        identifier = Identifier(type_name, text)
        standing = decisions.find_standing(self.conn, "block", [identifier])
        if standing is not None:
            return Decided(standing.decision_id, {})
        decision_id = decisions.make_decision_id()
        self._insert(decision_id, "block", [identifier])
        self._apply_block(identifier, "identifier_blocked", decision_id)
        return Decided(decision_id, {})

    def unblock(self, type_name: str, value: object) -> Decided:
        """Undo the block of an identifier. Raises ``NotFound`` when it is not blocked."""
        hold_rules(self.conn)
        rules = read_rules(self.conn, self.country).with_blocks(frozenset())
        text = normalise(type_name, value, rules) or ""
        standing = decisions.find_standing(self.conn, "block", [Identifier(type_name, text)])
        if standing is None:
            raise NotFound("block_not_found", "this identifier is not blocked by hand")
        return self.undo(standing.decision_id)

    def _apply_block(self, identifier: Identifier, change: str, decision_id: str) -> None:
        count_generation(self.conn)
        self.rules = read_rules(self.conn, self.country)
        row = self.conn.execute(
            """SELECT node_id, component_id FROM nodes
                WHERE type = %s AND value = %s AND variant = ''""",
            tuple(identifier),
        ).fetchone()
        if row is None:
            return
        lock_components(self.conn, [row[0]])
        before = self._owners([row[0]])
        batch_id = open_batch(self.conn)
        release_cooled(self.conn, self.rules, batch_id, self.changes, self.now, [row[0]])
        self._replay([row[0]], batch_id)
        profiles = {*before.values(), *self._owners([row[0]]).values()}
        self._tell(change, decision_id, profiles, batch_id)
        self._close(batch_id)

    # ── Undo ────────────────────────────────────────────────────────────────────────────────

    def undo(self, decision_id: str) -> Decided:
        """Withdraw a decision: everything is as if it had never been taken.

        Once more does nothing. Raises ``NotFound`` when there is no such decision.
        """
        row = self.conn.execute(
            "SELECT kind FROM identity_decisions WHERE decision_id = %s", (decision_id,)
        ).fetchone()
        if row is None:
            raise NotFound("decision_not_found", "no decision has this id")
        if row[0] == "block":
            hold_rules(self.conn)
        else:
            self._share_rules()
        found = decisions.find_decision(self.conn, decision_id)
        if found is None or found.undone_at is not None:
            return Decided(decision_id, {})
        decisions.mark_undone(
            self.conn, decision_id, actor=self.actor, reason=self.reason, now=self.now
        )
        record(
            self.conn,
            self.actor,
            f"identity_{found.kind}_undone",
            decision_id,
            {"reason": self.reason},
        )
        if found.kind == "block":
            self._apply_block(found.identifiers[0], "identifier_unblocked", decision_id)
            return Decided(decision_id, {})
        node_ids = decisions.retract_fact(self.conn, decision_id, self.now)
        lock_components(self.conn, node_ids)
        batch_id = open_batch(self.conn)
        self._replay(node_ids, batch_id)
        change = "merge_undone" if found.kind == "merge" else "parting_undone"
        self._tell(change, decision_id, self._owners(node_ids).values(), batch_id)
        self._close(batch_id)
        return Decided(decision_id, {})

    # ── What they share ─────────────────────────────────────────────────────────────────────

    def _share_rules(self) -> None:
        share_rules(self.conn)
        self.rules = read_rules(self.conn, self.country)

    def _find(self, identifiers: Iterable[Identifier]) -> dict[Identifier, int]:
        """Return the node of each, in the order of the identifiers."""
        found: dict[Identifier, int] = {}
        for position, asked in enumerate(identifiers):
            row = self.conn.execute(
                """SELECT node_id, type, value FROM nodes
                    WHERE CASE WHEN %(type)s = 'id' THEN profile_id = %(value)s
                               ELSE type = %(type)s AND value = %(value)s AND variant = '' END""",
                {"type": asked.type, "value": asked.value},
            ).fetchone()
            if row is None:
                raise NotFound(
                    "identifier_not_found",
                    "nobody has this identifier",
                    details={"path": f"/identifiers/{position}"},
                )
            found[Identifier(row[1], row[2])] = row[0]
        return dict(sorted(found.items()))

    def _owners(self, node_ids: Iterable[int]) -> dict[int, Profile]:
        rows = self.conn.execute(
            """SELECT s.node_id, p.profile_no, p.profile_id
                 FROM node_profiles s JOIN profiles p USING (profile_no)
                WHERE s.node_id = ANY(%s) AND s.until = 'infinity'""",
            (sorted(node_ids),),
        ).fetchall()
        return {row[0]: Profile(row[1], row[2]) for row in rows}

    def _decided(self, decision_id: str, nodes: dict[Identifier, int]) -> Decided:
        owners = self._owners(nodes.values())
        return Decided(decision_id, {name: owners[n].profile_id for name, n in nodes.items()})

    def _decide(
        self,
        kind: decisions.DecisionKind,
        fact: LinkKind,
        identifiers: Iterable[Identifier],
        node_ids: Sequence[int],
        labels: dict[int, tuple[int, bool]],
    ) -> tuple[str, int]:
        decision_id = decisions.make_decision_id()
        self._insert(decision_id, kind, identifiers)
        component_id = min(label for label, _ in labels.values())
        link_id = decisions.insert_fact(
            self.conn, decision_id, fact, node_ids, component_id, self.now
        )
        return decision_id, link_id

    def _insert(
        self, decision_id: str, kind: decisions.DecisionKind, identifiers: Iterable[Identifier]
    ) -> None:
        decisions.insert_decision(
            self.conn,
            decision_id,
            kind,
            identifiers,
            actor=self.actor,
            reason=self.reason,
            now=self.now,
        )
        record(self.conn, self.actor, f"identity_{kind}", decision_id, {"reason": self.reason})

    def _replay(
        self, node_ids: Sequence[int], batch_id: int, *, ties: Sequence[Sequence[int]] = ()
    ) -> None:
        replay(
            self.conn,
            self.rules,
            ensure_salt(self.conn),
            node_ids,
            batch_id,
            self.changes,
            self.now,
            ties=ties,
        )

    def _tell(
        self,
        change: str,
        decision_id: str,
        profiles: Iterable[Profile],
        batch_id: int,
        **details: object,
    ) -> None:
        told = {profile.profile_id for profile in profiles}
        said = {"id": decision_id, "reason": self.reason, "actor": self.actor, **details}
        decisions.tell(self.conn, told, change, said, batch_id, self.now)

    def _close(self, batch_id: int) -> None:
        close_batch(self.conn, batch_id, self.changes)

    def _refusal(self, link_id: int, profiles: Iterable[Profile]) -> Conflict:
        """Say which rule withheld a merge."""
        rows = self.conn.execute(
            "SELECT reason FROM refusals WHERE link_id = %s ORDER BY reason = 'unique_conflict'",
            (link_id,),
        ).fetchall()
        reason = rows[-1][0] if rows else "component_full"
        details: dict[str, object] = {}
        if reason == "unique_conflict":
            found = self.conn.execute(
                """SELECT DISTINCT n.type FROM links l
                     JOIN node_profiles s ON s.node_id = ANY (l.node_ids) AND s.until = 'infinity'
                     JOIN node_profiles m ON m.profile_no = s.profile_no AND m.until = 'infinity'
                     JOIN nodes n ON n.node_id = m.node_id
                    WHERE l.link_id = %s AND n.variant = ''
                    GROUP BY n.type HAVING count(DISTINCT n.value) > 1 ORDER BY 1""",
                (link_id,),
            ).fetchall()
            details["types"] = [row[0] for row in found if self.rules.rule_of(row[0]).unique]
        return Conflict(reason, _REFUSALS.get(reason, "a rule keeps them apart"), details=details)


def group_without_merges(
    nodes: Iterable[Node], links: Iterable[LinkFact], rules: Rules, node_id: int
) -> set[int]:
    """Return who would be one person with ``node_id`` if nobody had merged anybody by hand."""
    seen = [link for link in links if not link.joins_by_hand]
    assignments = resolve(nodes, seen, rules).assignments
    profile = assignments[node_id][-1].profile
    return {other for other, parts in assignments.items() if parts[-1].profile == profile}
