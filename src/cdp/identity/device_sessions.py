"""Whose a shared device is while the person last authenticated on it goes on using it. Pure.

By the rules' setting ``shared_device: last_authenticated``: from every moment at which a shared
device was seen with somebody, the device is that person's, until the next such moment of somebody
else, or for ``session_timeout`` after the last one. For the rest of the time it is nobody's, as by
the other setting all the time. Moments are facts, so whatever the order of arrival, the result is
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from cdp.identity.facts import Assignment, LinkFact, Node, ProfileKey, Resolution
from cdp.identity.identifiers import is_blocked
from cdp.identity.rules import Rules
from cdp.model import Identifier


class Use(NamedTuple):
    """A link that says who was seen on a shared device."""

    device: int
    since: datetime
    """The moment from which the device is shared."""
    link: LinkFact
    top: int
    """The strongest identifier of a person on the link."""


class Run(NamedTuple):
    """Moments at which ``top`` was seen on a device, each within the time-out after the one before,

    nobody else in between.
    """

    top: int
    first: datetime
    last: datetime


def are_sessions_kept(rules: Rules) -> bool:
    """Whether a shared device is, for a while, the person's who was last authenticated on it."""
    return rules.shared_device == "last_authenticated"


def list_uses(
    resolution: Resolution, by_id: Mapping[int, Node], links: Iterable[LinkFact], rules: Rules
) -> list[Use]:
    """Return who was seen on the devices that are shared, weakest first: at one moment the last,

    which is the strongest, counts.
    """
    shared = {
        key.node_id: since
        for key in resolution.joined_at
        if key.shared and (since := resolution.assignments[key.node_id][-1].since) is not None
    }
    if not shared:
        return []
    parted = {(r.link_id, r.weak) for r in resolution.refusals if r.reason == "parted_by_hand"}
    uses = []
    for link in links:
        devices = [n for n in link.node_ids if n in shared and (link.link_id, n) not in parted]
        if link.kind != "seen" or not devices:
            continue
        top = _find_person(link, by_id, resolution.hot, rules)
        if top is not None:
            uses += [Use(device, shared[device], link, top) for device in devices]
    uses.sort(key=lambda use: _rank(by_id[use.top], rules), reverse=True)
    return uses


def _find_person(
    link: LinkFact, by_id: Mapping[int, Node], hot: frozenset[int], rules: Rules
) -> int | None:
    """Return the strongest identifier on a link that names a person."""
    names = [
        node_id
        for node_id in link.node_ids
        if node_id in by_id
        and node_id not in hot
        and rules.rule_of(by_id[node_id].type).strength != "ephemeral"
        and not is_blocked(Identifier(by_id[node_id].type, by_id[node_id].value), rules)
    ]
    return min(names, key=lambda n: _rank(by_id[n], rules), default=None)


def _rank(node: Node, rules: Rules) -> tuple[int, str, str]:
    return rules.order_of(Identifier(node.type, node.value))


def assign_sessions(
    resolution: Resolution, runs: Mapping[int, Sequence[Run]], timeout: timedelta
) -> Resolution:
    """Give each shared device to whoever was last authenticated on it, for as long as that holds.

    ``runs`` are per device, in order of time.
    """
    if not runs:
        return resolution
    assignments = dict(resolution.assignments)
    for device, found in runs.items():
        *before, own = assignments[device]
        parts = _list_parts(own, resolution.assignments, found, timeout)
        assignments[device] = tuple(_join_equal([*before, *parts]))
    return replace(resolution, assignments=assignments)


def _list_parts(
    own: Assignment,
    assignments: Mapping[int, tuple[Assignment, ...]],
    runs: Sequence[Run],
    timeout: timedelta,
) -> Iterator[Assignment]:
    """Cut the time in which a device is shared."""
    here = own.since
    for position, run in enumerate(runs):
        end = run.last + timeout
        if position + 1 < len(runs):
            end = min(end, runs[position + 1].first)
        for since, until, profile in _follow(assignments[run.top], run.first, end):
            if here is not None and here < since:
                yield Assignment(own.node_id, here, since, own.profile)
            yield Assignment(own.node_id, since, until, profile)
            here = until
    yield Assignment(own.node_id, here, None, own.profile)


def _follow(
    parts: Iterable[Assignment], first: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime, ProfileKey]]:
    """Say whose an identifier was from ``first`` to ``end``: a contact may move meanwhile."""
    for part in parts:
        since = first if part.since is None else max(first, part.since)
        until = end if part.until is None else min(end, part.until)
        if since < until:
            yield since, until, part.profile


def _join_equal(parts: Iterable[Assignment]) -> Iterator[Assignment]:
    """Let what touches and belongs to one profile be one."""
    last: Assignment | None = None
    for part in parts:
        if last is not None and last.profile == part.profile:
            last = last._replace(until=part.until)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last
