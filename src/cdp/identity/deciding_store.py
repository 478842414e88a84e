"""What every decision by hand does: find whose they are, write it down, replay, tell of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cdp.access.audit_store import record
from cdp.errors import NotFound
from cdp.identity import decisions_store as decisions
from cdp.identity.facts import LinkKind
from cdp.identity.recompute import replay
from cdp.identity.rules import Rules
from cdp.identity.rules_store import ensure_salt, read_rules, share_rules
from cdp.model import Identifier
from cdp.storage.batches import BatchChanges, close_batch
from cdp.storage.database import Driver


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
class Deciding:
    """One transaction in which ``actor`` decides, for ``reason``, at ``now``."""

    conn: Driver
    country: str
    actor: str
    reason: str
    now: datetime
    rules: Rules = field(init=False)
    changes: BatchChanges = field(default_factory=BatchChanges)

    def share_rules(self) -> None:
        """Read the rules, and keep them from changing until the transaction ends."""
        share_rules(self.conn)
        self.rules = read_rules(self.conn, self.country)

    def find(self, identifiers: Iterable[Identifier]) -> dict[Identifier, int]:
        """Return the node of each, in the order of the identifiers.

        Raises ``NotFound`` for one that nobody has.
        """
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

    def owners(self, node_ids: Iterable[int]) -> dict[int, Profile]:
        """Return whose each node is now."""
        rows = self.conn.execute(
            """SELECT s.node_id, p.profile_no, p.profile_id
                 FROM node_profiles s JOIN profiles p USING (profile_no)
                WHERE s.node_id = ANY(%s) AND s.until = 'infinity'""",
            (sorted(node_ids),),
        ).fetchall()
        return {row[0]: Profile(row[1], row[2]) for row in rows}

    def decided(self, decision_id: str, nodes: dict[Identifier, int]) -> Decided:
        """Return what came of a decision about ``nodes``."""
        owners = self.owners(nodes.values())
        return Decided(decision_id, {name: owners[n].profile_id for name, n in nodes.items()})

    def decide(
        self,
        kind: decisions.DecisionKind,
        fact: LinkKind,
        identifiers: Iterable[Identifier],
        node_ids: Sequence[int],
        labels: dict[int, tuple[int, bool]],
    ) -> tuple[str, int]:
        """Keep a decision and its fact; return the ids of both."""
        decision_id = decisions.make_decision_id()
        self.insert(decision_id, kind, identifiers)
        component_id = min(label for label, _ in labels.values())
        link_id = decisions.insert_fact(
            self.conn, decision_id, fact, node_ids, component_id, self.now
        )
        return decision_id, link_id

    def insert(
        self, decision_id: str, kind: decisions.DecisionKind, identifiers: Iterable[Identifier]
    ) -> None:
        """Keep a decision, and write it into the audit."""
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

    def replay(
        self, node_ids: Sequence[int], batch_id: int, *, ties: Sequence[Sequence[int]] = ()
    ) -> None:
        """Replay the components of some nodes, brought together by ``ties``."""
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

    def tell(
        self,
        change: str,
        decision_id: str,
        profiles: Iterable[Profile],
        batch_id: int,
        **details: object,
    ) -> None:
        """Write a line into the history of each profile."""
        told = {profile.profile_id for profile in profiles}
        said = {"id": decision_id, "reason": self.reason, "actor": self.actor, **details}
        decisions.tell(self.conn, told, change, said, batch_id, self.now)

    def close(self, batch_id: int) -> None:
        """Let followers hear of it; the last write of the transaction."""
        close_batch(self.conn, batch_id, self.changes)
