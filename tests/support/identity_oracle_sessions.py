"""Whose a shared device is under ``last_authenticated``, by the written specification alone.

From each moment at which somebody was seen on it, a shared device is theirs: until the next such
moment, and for the session time-out at most. Otherwise it is its own. Of several who were seen at
one moment it is the strongest one's, whoever was heard of first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from cdp.identity.identifiers import is_blocked
from cdp.identity.rules import Rules
from cdp.model import Identifier, Observation
from tests.support.identity_oracle import Place, Span, Verdict

Moment = tuple[datetime, Identifier]


def give_devices_to_the_last_seen(
    verdict: Verdict, seen: Iterable[Observation], rules: Rules
) -> None:
    """Change ``verdict`` as the rules' ``shared_device`` says."""
    if rules.shared_device != "last_authenticated":
        return
    seen = [one for one in seen if one.is_event and not _is_backdated(one)]
    for device, spans in list(verdict.spans.items()):
        since, _, owner = spans[-1]
        if owner != Place(device, own=True) or since is None:
            continue
        moments = sorted(
            _list_moments(verdict, seen, rules, device, since),
            key=lambda moment: rules.order_of(moment[1]),
            reverse=True,
        )
        moments.sort(key=lambda moment: moment[0])
        ends: list[datetime] = [until for s in verdict.spans.values() for _, until, _ in s if until]
        cuts = {since, *ends}
        for at, _ in moments:
            cuts |= {at, at + rules.session_timeout}
        parts: list[Span] = spans[:-1]
        for cut in sorted(cut for cut in cuts if cut >= since):
            now = _find_owner(verdict, moments, cut, rules.session_timeout) or owner
            if parts and parts[-1][2] == now:
                continue
            if parts:
                parts[-1] = (parts[-1][0], cut, parts[-1][2])
            parts.append((cut, None, now))
        verdict.spans[device] = parts


def _is_backdated(one: Observation) -> bool:
    late = one.received_at is not None and one.received_at - one.at > timedelta(days=7)
    return late and not one.trusted


def _list_moments(
    verdict: Verdict,
    seen: Iterable[Observation],
    rules: Rules,
    device: Identifier,
    since: datetime,
) -> Iterator[Moment]:
    parted = {
        told.strong
        for told in verdict.refusals
        if told.reason == "parted_by_hand" and told.weak == device
    }
    for one in seen:
        names = [
            name
            for name in sorted(one.identifiers, key=rules.order_of)
            if rules.rule_of(name.type).strength != "ephemeral"
            and name not in verdict.hot
            and not is_blocked(name, rules)
        ]
        if device in one.identifiers and names and one.at >= since and parted.isdisjoint(names):
            yield one.at, names[0]


def _find_owner(
    verdict: Verdict, moments: Iterable[Moment], at: datetime, timeout: timedelta
) -> Place | None:
    last = None
    for moment in moments:
        if moment[0] <= at:
            last = moment
    if last is None or at >= last[0] + timeout:
        return None
    return next(
        owner
        for since, until, owner in verdict.spans[last[1]]
        if (since is None or since <= at) and (until is None or at < until)
    )
