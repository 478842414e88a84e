"""What people decide by hand, carried out: merge, unmerge, block, and undo any of them.

Each is a fact for the replay and a batch of its own, so that followers see it like an event. The
caller commits; a refusal is an error, and then nothing was done.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdp.access.audit_store import record
from cdp.errors import Conflict, NotFound, Unprocessable
from cdp.identity import decisions_store as decisions
from cdp.identity.apply_rules_store import release_cooled
from cdp.identity.components_store import load_components, lock_components
from cdp.identity.deciding_store import Decided, Deciding, Profile
from cdp.identity.facts import LinkFact, LinkKind, Node
from cdp.identity.find_store import PROFILE_ID_TYPE
from cdp.identity.identifiers import is_blocked, normalise
from cdp.identity.resolve import resolve
from cdp.identity.rules import Rules
from cdp.identity.rules_store import (
    count_generation,
    hold_rules,
    read_rules,
)
from cdp.model import Identifier
from cdp.storage.batches import open_batch

_REFUSALS = {
    "unique_conflict": "both have an identifier of a type that a person has only one of; send "
    "allow_unique_conflict to merge them all the same",
    "shared_device": "a shared device belongs to several people; name the people instead",
    "hot_identifier": "an identifier that ties so many people together is nobody's",
    "blocked": "a blocked identifier is nobody's; unblock it first",
    "component_full": "one of them is tied to too many identifiers to take in more",
}


class Hand(Deciding):
    """Carries out decisions in one transaction."""

    # ── Merge and unmerge ───────────────────────────────────────────────────────────────────

    def merge(
        self, identifiers: Iterable[Identifier], *, allow_unique_conflict: bool = False
    ) -> Decided:
        """Make the people of ``identifiers`` one.

        Raises ``NotFound`` for an identifier that nobody has, ``Conflict`` when a rule forbids it.
        """
        self.share_rules()
        nodes = self.find(identifiers)
        if len(nodes) < 2:
            raise Unprocessable("two_identifiers", "name at least two", path="/identifiers")
        labels = lock_components(self.conn, nodes.values())
        before = self.owners(nodes.values())
        standing = decisions.find_standing(self.conn, "merge", nodes)
        if standing is not None and len(set(before.values())) == 1:
            return self.decided(standing.decision_id, nodes)
        kind: LinkKind = "exception" if allow_unique_conflict else "merge"
        node_ids = sorted(nodes.values())
        decision_id, link_id = self.decide("merge", kind, nodes, node_ids, labels)
        batch_id = open_batch(self.conn)
        self.replay(node_ids, batch_id, ties=[node_ids])
        after = self.owners(node_ids)
        if len(set(after.values())) > 1:
            raise self._refusal(link_id)
        details = {"allow_unique_conflict": allow_unique_conflict}
        # To all who were, too: once it is undone they are theirs again.
        told = {*before.values(), *after.values()}
        self.tell("merged_by_hand", decision_id, told, batch_id, **details)
        self.close(batch_id)
        return self.decided(decision_id, nodes)

    def unmerge(self, identifiers: Iterable[Identifier]) -> Decided:
        """Part people: one identifier leaves its profile; several go to one profile each.

        Raises ``NotFound`` for an identifier that nobody has, ``Conflict`` when there is nothing
        to part.
        """
        self.share_rules()
        nodes = self.find(identifiers)
        if not nodes:
            raise Unprocessable("no_identifier", "name at least one", path="/identifiers")
        labels = lock_components(self.conn, nodes.values())
        before = self.owners(nodes.values())
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
            return self.decided(standing.decision_id, nodes)
        decision_id, _ = self.decide("unmerge", kind, nodes, node_ids, labels)
        batch_id = open_batch(self.conn)
        self.replay(node_ids, batch_id)
        told = {*before.values(), *self.owners(node_ids).values()}
        self.tell("parted_by_hand", decision_id, told, batch_id)
        self.close(batch_id)
        return self.decided(decision_id, nodes)

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
        self.insert(decision_id, "block", [identifier])
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
        before = self.owners([row[0]])
        batch_id = open_batch(self.conn)
        self._rename_refusals(row[0], identifier)
        release_cooled(self.conn, self.rules, batch_id, self.changes, self.now, [row[0]])
        self.replay([row[0]], batch_id)
        profiles = {*before.values(), *self.owners([row[0]]).values()}
        self.tell(change, decision_id, profiles, batch_id)
        self.close(batch_id)

    def _rename_refusals(self, node_id: int, identifier: Identifier) -> None:
        """Say anew why an identifier is withheld from those of whom it is no part either way.

        It was hot, or their component and its own are full: they need no replay, and may be many.
        """
        self.conn.execute(
            """UPDATE refusals r
                  SET reason = CASE WHEN %s THEN 'blocked'
                                    WHEN n.quarantined THEN 'hot_identifier' ELSE 'limit' END
                 FROM nodes n
                WHERE n.node_id = %s AND r.node_b = n.node_id AND r.component_id <> n.component_id
                  AND r.reason IN ('blocked', 'hot_identifier', 'limit')""",
            (is_blocked(identifier, self.rules), node_id),
        )

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
            self.share_rules()
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
        self.replay(node_ids, batch_id)
        change = "merge_undone" if found.kind == "merge" else "parting_undone"
        self.tell(change, decision_id, self.owners(node_ids).values(), batch_id)
        self.close(batch_id)
        return Decided(decision_id, {})

    def _refusal(self, link_id: int) -> Conflict:
        """Say which rule withheld a merge."""
        rows = self.conn.execute(
            "SELECT reason FROM refusals WHERE link_id = %s ORDER BY reason = 'unique_conflict'",
            (link_id,),
        ).fetchall()
        # No limit stops a merge by hand but that of all identifiers together.
        reason = rows[-1][0] if rows and rows[-1][0] != "limit" else "component_full"
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
