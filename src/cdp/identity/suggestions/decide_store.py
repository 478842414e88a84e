"""Accept or reject a suggestion: a merge by hand, or a no that binds."""

from __future__ import annotations

from cdp.access.audit_store import record
from cdp.errors import Conflict, NotFound
from cdp.identity.by_hand_store import Hand
from cdp.identity.find_store import PROFILE_ID_TYPE
from cdp.identity.rules import Rules
from cdp.identity.suggestions.plan_queue import settle
from cdp.identity.suggestions.queue_store import (
    Suggestion,
    find_suggestion,
    list_kept,
    mark_decided,
    retire,
)
from cdp.model import Identifier
from cdp.storage.database import Driver


def accept(hand: Hand, suggestion_id: str, *, allow_unique_conflict: bool = False) -> Suggestion:
    """Make the two one person by a merge by hand; once more does nothing.

    Raises ``NotFound``, or ``Conflict`` when they are one already, or a rule forbids it.
    """
    # Rules before people before the queue, in the order of every other decision.
    hand.share_rules()
    found = _find(hand.conn, suggestion_id)
    if found.status == "accepted":
        return found
    person_a, person_b = _find_two(found)
    names = [name_person(hand.conn, person, hand.rules) for person in (person_a, person_b)]
    made = hand.merge(names, allow_unique_conflict=allow_unique_conflict)
    mark_decided(
        hand.conn,
        found.number,
        "accepted",
        actor=hand.actor,
        reason=hand.reason,
        now=hand.now,
        decision_id=made.decision_id,
    )
    _tell(hand, "accepted", suggestion_id)
    survivors = [owner.profile_no for owner in hand.owners([person_a, person_b]).values()]
    _settle(hand.conn, survivors)
    return _find(hand.conn, suggestion_id)


def reject(hand: Hand, suggestion_id: str) -> Suggestion:
    """Keep that the two are not one person; once more does nothing.

    Raises ``NotFound``, or ``Conflict`` when it was accepted, or they are one by now.
    """
    found = _find(hand.conn, suggestion_id)
    if found.status == "rejected":
        return found
    if found.status == "accepted":
        raise Conflict(
            "already_accepted",
            "they were made one; undo that merge by its decision",
            details={"decision_id": found.decision_id},
        )
    person_a, person_b = _find_two(found)
    mark_decided(
        hand.conn,
        found.number,
        "rejected",
        actor=hand.actor,
        reason=hand.reason,
        now=hand.now,
    )
    _tell(hand, "rejected", suggestion_id)
    _settle(hand.conn, [person_a, person_b])
    return _find(hand.conn, suggestion_id)


def name_person(conn: Driver, person: int, rules: Rules) -> Identifier:
    """Return the strongest identifier that is this person's alone, for all time.

    A profile may be named by a device that others share by now; who has nothing better is called by
    the profile's id.
    """
    rows = conn.execute(
        """SELECT n.type, n.value FROM node_profiles s JOIN nodes n USING (node_id)
            WHERE s.profile_no = %s AND s.since = '-infinity' AND s.until = 'infinity'
              AND n.variant = '' AND NOT n.quarantined""",
        (person,),
    ).fetchall()
    names = [Identifier(*row) for row in rows]
    if names:
        return min(names, key=rules.order_of)
    row = conn.execute(
        "SELECT profile_id FROM profiles WHERE profile_no = %s", (person,)
    ).fetchone()
    if row is None:
        raise NotFound("profile_not_found", "one of them is gone")
    return Identifier(PROFILE_ID_TYPE, row[0])


def _find(conn: Driver, suggestion_id: str) -> Suggestion:
    found = find_suggestion(conn, suggestion_id, for_update=True)
    if found is None:
        raise NotFound("suggestion_not_found", "no suggestion has this id")
    return found


def _find_two(found: Suggestion) -> tuple[int, int]:
    """Return who the two are now. Raises ``Conflict`` when there is nothing to decide."""
    if found.person_a is None or found.person_b is None:
        raise Conflict("suggestion_stale", "one of them is gone")
    if found.person_a == found.person_b:
        raise Conflict("suggestion_stale", "they are one person already")
    return found.person_a, found.person_b


def _tell(hand: Hand, decision: str, suggestion_id: str) -> None:
    record(
        hand.conn,
        hand.actor,
        f"identity_suggestion_{decision}",
        suggestion_id,
        {"reason": hand.reason},
    )


def _settle(conn: Driver, people: list[int]) -> None:
    """Let what a decision answered be suggested no longer."""
    retire(conn, settle(list_kept(conn, people)))
