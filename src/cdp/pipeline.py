"""★ The story of the worker on one screen: read it first.

A batch of log records becomes people. All of it happens in one Postgres transaction, together with
the position in the log, so a crash between any two lines leaves either everything or nothing:

    records ─► read ─► claim ─► place ─► write traits, consents, events, orders ─► publish

Each step takes the transaction and the work so far, and adds to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from cdp.identity.identity_store import IdentityStore
from cdp.log.port import Record
from cdp.model import Event, Identifier, Observation, RejectedEvent, Source
from cdp.orders.order import Report
from cdp.orders.orders_store import DEFAULT_SCOPE, PlacedReport, write_reports
from cdp.orders.read_report import ORDER_EVENTS, read_event
from cdp.profiles import profile_write_store as people
from cdp.storage import outcomes_store as outcomes
from cdp.storage.batches import BatchChanges, close_batch, open_batch
from cdp.storage.database import Driver
from cdp.storage.ledger import claim_messages
from cdp.storage.positions import advance_positions


@dataclass(frozen=True, slots=True)
class PostedOrder:
    """One posted order: what it says of the order, and who bought."""

    source: Source
    message_id: str
    received_at: datetime
    identifiers: tuple[Identifier, ...]
    """May be empty: revenue without a person."""
    seen_at: datetime
    """When these identifiers were seen together."""
    report: Report


@dataclass(slots=True)
class Batch:
    """What one transaction works off: the events read from some records, and how far they reach."""

    log: str
    moves: dict[int, tuple[int, int]]
    """Per partition: the position before and after."""
    events: list[Event]
    orders: list[PostedOrder] = field(default_factory=list)
    rejected: list[RejectedEvent] = field(default_factory=list)
    dead: list[tuple[Record, int | None, bytes, str]] = field(default_factory=list)

    @property
    def messages(self) -> list[Event | PostedOrder]:
        """Everything that has its effect once."""
        return [*self.events, *self.orders]


@dataclass(slots=True)
class Work:
    """A batch on its way through the steps."""

    batch: Batch
    identity: IdentityStore
    now: datetime
    currency: str = "CNY"
    """Of amounts that name none."""
    batch_id: int = 0
    fresh: list[Event] = field(default_factory=list)
    fresh_orders: list[PostedOrder] = field(default_factory=list)
    duplicates: list[Event | PostedOrder] = field(default_factory=list)
    placed: list[people.PlacedEvent] = field(default_factory=list)
    placed_orders: list[tuple[PostedOrder, int | None]] = field(default_factory=list)
    changes: BatchChanges = field(default_factory=BatchChanges)


Step = Callable[[Driver, Work], None]


def claim(tx: Driver, work: Work) -> None:
    """Tell new messages from those that had their effect already."""
    work.batch_id = open_batch(tx)
    fresh, work.duplicates = claim_messages(tx, work.batch.messages)
    work.fresh = [one for one in fresh if isinstance(one, Event)]
    work.fresh_orders = [one for one in fresh if isinstance(one, PostedOrder)]


def place(tx: Driver, work: Work) -> None:
    """Find or make the identifiers, tie them together, and settle who is who."""
    people_events = [event for event in work.fresh if event.identifiers]
    bought = [order for order in work.fresh_orders if order.identifiers]
    observations = [observe(event) for event in people_events]
    observations += [observe_order(order) for order in bought]
    homes = work.identity.apply(tx, work.batch_id, observations, work.changes, work.now)
    of_events, of_orders = homes[: len(people_events)], homes[len(people_events) :]
    work.placed = list(zip(people_events, of_events, strict=True))
    work.placed += [(event, None) for event in work.fresh if not event.identifiers]
    work.placed_orders = list(zip(bought, of_orders, strict=True))
    work.placed_orders += [(order, None) for order in work.fresh_orders if not order.identifiers]


def write_traits(tx: Driver, work: Work) -> None:
    """Keep what was said of the people."""
    work.changes.trait_nodes |= people.write_traits(tx, work.placed)


def write_consents(tx: Driver, work: Work) -> None:
    """Keep what they agreed to."""
    work.changes.trait_nodes |= people.write_consents(tx, work.placed)


def write_events(tx: Driver, work: Work) -> None:
    """Keep what they did."""
    people.write_events(tx, work.batch_id, work.placed)


def write_orders(tx: Driver, work: Work) -> None:
    """Fold what was said of orders into the orders, each of which counts once."""
    reports = [
        placed
        for event, node in work.placed
        if event.name in ORDER_EVENTS and (placed := read_report(event, node, work.currency))
    ]
    reports += [
        PlacedReport(find_scope(order.source), order.source.number, node, order.report)
        for order, node in work.placed_orders
    ]
    work.changes.orders |= write_reports(tx, reports, work.currency)


def account(tx: Driver, work: Work) -> None:
    """Write down what became of everything that arrived, down to the last line."""
    outcomes.write_rejected(tx, work.batch.rejected)
    outcomes.write_dead_letters(tx, work.batch.log, work.batch.dead)
    outcomes.count_outcomes(tx, count(work))


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
    )


# Positions come first: a stale worker finds out before it has done, and locked, anything.
STEPS: tuple[Step, ...] = (
    advance,
    claim,
    place,
    write_traits,
    write_consents,
    write_events,
    write_orders,
    account,
    publish,
)


def process(tx: Driver, work: Work, steps: Iterable[Step] = STEPS) -> Work:
    """Take ``work`` through the steps in the transaction ``tx``, which the caller commits."""
    for step in steps:
        step(tx, work)
    return work


def observe(event: Event) -> Observation:
    """Return what ``event`` says about identity."""
    return Observation(
        event.identifiers,
        event.at,
        event.message_id,
        event.source.number,
        trusted=not event.source.is_public,
        received_at=event.received_at,
    )


def observe_order(order: PostedOrder) -> Observation:
    """Return what ``order`` says about identity. Public keys cannot post orders."""
    return Observation(
        order.identifiers,
        order.seen_at,
        order.message_id,
        order.source.number,
        trusted=not order.source.is_public,
        received_at=order.received_at,
        is_event=False,
    )


def read_report(event: Event, node: int | None, currency: str) -> PlacedReport | None:
    """Return what ``event`` says of an order; ``None`` when it names none."""
    report = read_event(
        event.name or "",
        msgspec.json.decode(event.properties),
        at=event.at,
        message_id=event.message_id,
        default_currency=currency,
    )
    if report is None:
        return None
    return PlacedReport(find_scope(event.source), event.source.number, node, report)


def find_scope(source: Source) -> str:
    """Return which numbering the orders of ``source`` follow."""
    return str(source.settings.get("order_scope", DEFAULT_SCOPE))


def count(work: Work) -> Counter[outcomes.OutcomeKey]:
    """Count the outcomes of ``work`` per source and minute of receipt."""
    counts: Counter[outcomes.OutcomeKey] = Counter()
    _count_messages(counts, "stored", [*work.fresh, *work.fresh_orders])
    _count_messages(counts, "duplicate", work.duplicates)
    for refused in work.batch.rejected:
        counts[refused.source_id, outcomes.minute_of(refused.received_at), "rejected"] += 1
    return counts


def _count_messages(
    counts: Counter[outcomes.OutcomeKey],
    outcome: outcomes.Outcome,
    messages: Sequence[Event | PostedOrder],
) -> None:
    # Few different times in a batch: the events of a request share theirs.
    received = Counter((one.source.source_id, one.received_at) for one in messages)
    for (source_id, received_at), number in received.items():
        counts[source_id, outcomes.minute_of(received_at), outcome] += number
