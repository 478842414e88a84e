"""What becomes of the queue when people were compared anew, or somebody decided. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

Status = Literal["open", "accepted", "rejected", "stale"]
People = tuple[int, int]
"""The numbers of two profiles, the smaller first."""


class Proposal(NamedTuple):
    """Two people who may be one. ``proofs`` is what speaks for it, see ``list_proofs``."""

    people: People
    score: float
    proofs: frozenset[str]


class Kept(NamedTuple):
    """A suggestion in the queue, with the people that its two sides are now.

    ``people`` is ``None`` when both are one person by now, or one is gone.
    """

    number: int
    people: People | None
    status: Status
    score: float
    proofs: frozenset[str]


class QueuePlan(NamedTuple):
    """What is to be done, by proposal and by number."""

    add: list[Proposal]
    renew: dict[int, Proposal]
    """Open again, with what was found now: known ones, and rejected ones with new evidence."""
    retire: list[int]
    """No longer suggested."""


def list_proofs(ranks: Mapping[str, int], shared: Iterable[str], salt: bytes) -> frozenset[str]:
    """Return what speaks for two people being one: ``field=rank``, and hashes of shared contacts.

    ``ranks`` are those of the model's levels, 0 for different. The hashes are keyed BLAKE2b (RFC
    7693), so nobody reads an address from the queue.
    """
    found = {f"{field}={rank}" for field, rank in ranks.items() if rank > 0}
    for contact in shared:
        found.add(hashlib.blake2b(contact.encode(), key=salt[:64], digest_size=12).hexdigest())
    return frozenset(found)


def speaks_anew(found: frozenset[str], known: frozenset[str]) -> bool:
    """Whether ``found`` has a contact that was not known, or a field that is more alike."""
    reached = _read_ranks(known)
    if any(rank > reached.get(field, 0) for field, rank in _read_ranks(found).items()):
        return True
    return any("=" not in proof and proof not in known for proof in found)


def _read_ranks(proofs: Iterable[str]) -> dict[str, int]:
    pairs = (proof.split("=") for proof in proofs if "=" in proof)
    return {field: int(rank) for field, rank in pairs}


def plan_queue(
    found: Iterable[Proposal], kept: Iterable[Kept], apart: frozenset[People]
) -> QueuePlan:
    """Say what becomes of the queue after everybody was compared.

    ``apart`` are people that somebody parted by hand. A rejection binds for whoever its sides are
    by now, until something new speaks against it.
    """
    standing = list(kept)
    plan = QueuePlan([], {}, [])
    rejected, waiting = _group(standing, "rejected"), _group(standing, "open")
    stale = _group(standing, "stale")
    for proposal in found:
        people = proposal.people
        said_no = rejected.get(people, ())
        if people in apart or any(not speaks_anew(proposal.proofs, no.proofs) for no in said_no):
            continue
        known = [*waiting.get(people, ()), *said_no, *stale.get(people, ())]
        if known:
            plan.renew[known[0].number] = proposal
        else:
            plan.add.append(proposal)
    plan.retire.extend(
        one.number for one in standing if one.status == "open" and one.number not in plan.renew
    )
    return plan


def settle(kept: Iterable[Kept]) -> list[int]:
    """Return the open suggestions that a decision about their people made idle.

    Those about one person by now, those that a rejection covers, and all but the likeliest about
    the same two.
    """
    standing = list(kept)
    rejected = _group(standing, "rejected")
    idle = [one.number for one in standing if one.status == "open" and one.people is None]
    for people, waiting in _group(standing, "open").items():
        first, *rest = sorted(waiting, key=lambda one: (-one.score, one.number))
        idle += [one.number for one in rest]
        if any(not speaks_anew(first.proofs, no.proofs) for no in rejected.get(people, ())):
            idle.append(first.number)
    return idle


def _group(kept: Iterable[Kept], status: Status) -> dict[People, list[Kept]]:
    found: dict[People, list[Kept]] = {}
    for one in kept:
        if one.status == status and one.people is not None:
            found.setdefault(one.people, []).append(one)
    return found
