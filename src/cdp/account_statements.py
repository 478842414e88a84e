"""What a batch says of accounts: in ``group`` calls, and in posted accounts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from cdp.accounts.account import MemberSaid, read_group_call
from cdp.accounts.accounts_store import PlacedAccount
from cdp.batch import PostedAccount
from cdp.model import Event

# The caller belongs to the account; as what, a ``group`` call does not say.
_CALLER = MemberSaid(True)


def list_statements(
    events: Iterable[tuple[Event, int | None]],
    accounts: Iterable[tuple[PostedAccount, Sequence[int | None]]],
) -> list[PlacedAccount]:
    """Return what placed ``events`` and ``accounts`` say, in the order in which they came.

    A member without a node was blocked meanwhile.
    """
    placed = [
        one
        for event, node in events
        if event.type == "group" and (one := _read_group_call(event, node)) is not None
    ]
    for account, nodes in accounts:
        members = [
            (node, said)
            for node, (_, said) in zip(nodes, account.members, strict=True)
            if node is not None
        ]
        placed.append(PlacedAccount(account.said, account.source.number, members))
    return placed


def _read_group_call(event: Event, node: int | None) -> PlacedAccount | None:
    said = read_group_call(
        event.group_id,
        msgspec.json.decode(event.properties),
        at=event.at,
        message_id=event.message_id,
    )
    if said is None:
        return None
    members = [] if node is None else [(node, _CALLER)]
    return PlacedAccount(said, event.source.number, members)
