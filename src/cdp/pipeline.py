"""★ The story of the worker on one screen: read it first.

A batch of log records becomes people. All of it happens in one Postgres transaction, together with
the position in the log, so a crash between any two lines leaves either everything or nothing:

    records ─► read ─► claim ─► screen ─► place
            ─► write traits, consents, events, orders, service, accounts, requests
            ─► account ─► publish

Each step takes the transaction and the work so far, and adds to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from cdp.account_statements import list_statements
from cdp.accounts.accounts_store import write_accounts as keep_accounts
from cdp.batch import Batch, Message, PostedAccount, PostedOrder, PostedPrivacy
from cdp.identity.aliases_store import name_known
from cdp.identity.identity_store import IdentityStore
from cdp.model import Event, Observation, RejectedEvent
from cdp.observations import observe
from cdp.order_reports import list_reports
from cdp.orders.orders_store import write_reports
from cdp.privacy.again_store import ask_again
from cdp.profiles import profile_write_store as people
from cdp.profiles.consent_history_store import keep_changes
from cdp.profiles.default_consent_store import write_default_consents
from cdp.screen import list_deleted, list_named, refuse, sift
from cdp.service.service_store import write_service as keep_service
from cdp.storage import outcomes_store as outcomes
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Driver
from cdp.storage.ledger import claim_messages, key_message
from cdp.storage.positions import advance_positions
from cdp.storage.privacy_requests_store import queue_requests
from cdp.tally import tally_outcomes


@dataclass(slots=True)
class Work:
    """A batch on its way through the steps."""

    batch: Batch
    identity: IdentityStore
    now: datetime
    currency: str = "CNY"
    """Of amounts that name none."""
    batch_id: int = 0
    fresh: list[Message] = field(default_factory=list)
    duplicates: list[Message] = field(default_factory=list)
    suppressed: list[RejectedEvent] = field(default_factory=list)
    """What is not to be heard: older than a deletion, or of somebody silenced."""
    placed: list[people.PlacedEvent] = field(default_factory=list)
    """Each event with the node it hangs on."""
    link_ids: list[int | None] = field(default_factory=list)
    """Of each event the link that says what it carried."""
    placed_orders: list[tuple[PostedOrder, int | None]] = field(default_factory=list)
    """Each order with the node of its buyer."""
    placed_accounts: list[tuple[PostedAccount, list[int | None]]] = field(default_factory=list)
    """Each account with the nodes of the members it names."""
    changes: BatchChanges = field(default_factory=BatchChanges)


Step = Callable[[Driver, Work], None]


def claim(tx: Driver, work: Work) -> None:
    """Tell new messages from those that had their effect already."""
    work.batch_id = open_batch(tx)
    work.fresh, work.duplicates = claim_messages(tx, work.batch.messages)


def screen(tx: Driver, work: Work) -> None:
    """Leave out whoever was deleted since, or is not to be heard."""
    if not work.identity.has_tombstones(tx):
        return
    stones = work.identity.tombstones.find(tx, list_named(work.fresh))
    if stones:
        work.fresh, left_out = sift(work.fresh, stones)
        work.suppressed = [refuse(one) for one in left_out]
        deleted = list_deleted(left_out, stones)
        if deleted and work.batch.log == "postgres":
            # The log holds it all the same.
            ask_again(tx, deleted, [one.message_id for one in left_out], work.now)


def place(tx: Driver, work: Work) -> None:
    """Find or make the identifiers, tie them together, and settle who is who."""
    seen = [observe(message) for message in work.fresh]
    aliases = [
        n for n, one in enumerate(work.fresh) if isinstance(one, Event) and one.type == "alias"
    ]
    if aliases:
        _name_known(tx, seen, aliases)
    told = [one for each in seen for one in each]
    homes = iter(work.identity.apply(tx, work.batch_id, told, work.changes, work.now))
    for message, each in zip(work.fresh, seen, strict=True):
        if isinstance(message, PostedPrivacy):
            continue
        if isinstance(message, PostedAccount):
            places = [next(homes) for _ in each]
            work.placed_accounts.append((message, [home and home.node_id for home in places]))
            continue
        # Without identifiers it is revenue without a person.
        home = next(homes) if each else None
        node = home and home.node_id
        if isinstance(message, Event):
            work.placed.append((message, node))
            work.link_ids.append(home and home.link_id)
        else:
            work.placed_orders.append((message, node))


def _name_known(tx: Driver, seen: list[list[Observation]], aliases: list[int]) -> None:
    """Let aliases name the people who are known by what they call them."""
    positions = [n for n in aliases if seen[n]]
    named = name_known(tx, [seen[n][0] for n in positions], (one for each in seen for one in each))
    for position, observation in zip(positions, named, strict=True):
        seen[position] = [observation]


def write_traits(tx: Driver, work: Work) -> None:
    """Keep what was said of the people."""
    work.changes.trait_nodes |= people.write_traits(tx, work.placed)


def write_consents(tx: Driver, work: Work) -> None:
    """Keep what they agreed to, and every change of mind."""
    keep_changes(tx, work.placed)
    work.changes.trait_nodes |= people.write_consents(tx, work.placed)
    seen = [(event.source, node) for event, node in work.placed]
    seen += [(order.source, node) for order, node in work.placed_orders]
    work.changes.trait_nodes |= write_default_consents(tx, seen)


def write_events(tx: Driver, work: Work) -> None:
    """Keep what they did."""
    people.write_events(tx, work.batch_id, work.placed, work.link_ids)


def write_orders(tx: Driver, work: Work) -> None:
    """Fold what was said of orders into the orders, each of which counts once."""
    reports = list_reports(work.placed, work.placed_orders)
    work.changes.orders |= write_reports(tx, reports, work.currency)


def write_service(tx: Driver, work: Work) -> None:
    """Keep what was said of tickets, calls, answers, complaints and reviews."""
    keep_service(tx, work.placed)


def write_accounts(tx: Driver, work: Work) -> None:
    """Keep what was said of companies and households, and who belongs to them."""
    changed = keep_accounts(tx, list_statements(work.placed, work.placed_accounts))
    work.changes.accounts |= changed.accounts
    work.changes.trait_nodes |= changed.nodes


def queue_privacy(tx: Driver, work: Work) -> None:
    """Keep whom a shop wants deleted or exported, until that is done."""
    asked = [one for one in work.fresh if isinstance(one, PostedPrivacy)]
    queue_requests(tx, [request for one in asked for request in one.list_requests()])


def account(tx: Driver, work: Work) -> None:
    """Write down what became of everything that arrived, down to the last line."""
    refused = [*work.batch.rejected, *work.suppressed]
    kept_before = outcomes.write_rejected(tx, refused, work.batch_id)
    outcomes.write_dead_letters(tx, work.batch.log, work.batch.dead)
    outcomes.write_gaps(tx, work.batch.log, work.batch.gaps)
    counts = tally_outcomes(work.batch, work.fresh, work.duplicates, kept_before, work.suppressed)
    outcomes.count_outcomes(tx, counts)


def advance(tx: Driver, work: Work) -> None:
    """Move the position in the log; raises ``StalePosition`` when somebody else has done so."""
    advance_positions(tx, work.batch.log, work.batch.moves)


def publish(tx: Driver, work: Work) -> None:
    """Give the batch its place in commit order, for those who follow."""
    close_batch(
        tx,
        work.batch_id,
        work.changes,
        events=len(work.placed),
        received_until=max((one.received_at for one in work.batch.messages), default=None),
        positions={work.batch.log: {p: after for p, (_, after) in work.batch.moves.items()}},
        duplicates=[key_message(one.source.source_id, one.message_id) for one in work.duplicates],
    )


# Positions come first: a stale worker finds out before it has done, and locked, anything.
STEPS: tuple[Step, ...] = (
    advance,
    claim,
    screen,
    place,
    write_traits,
    write_consents,
    write_events,
    write_orders,
    write_service,
    write_accounts,
    queue_privacy,
    account,
    publish,
)


def process(tx: Driver, work: Work, steps: Iterable[Step] = STEPS) -> Work:
    """Take ``work`` through the steps in the transaction ``tx``, which the caller commits."""
    for step in steps:
        step(tx, work)
    return work
