"""An order is a function of the set of its reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cdp.orders.order import Refund, Report, fold_reports

_times = st.integers(0, 5).map(
    lambda hours: datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=hours)
)
_amounts = st.none() | st.integers(0, 10_000)


@st.composite
def reports(draw: st.DrawFn) -> list[Report]:
    made = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(("record", "completed", "updated", "refunded", "cancelled")))
        message_id = f"m{number}"
        refunds = (Refund(message_id, draw(_amounts)),) if kind in ("record", "refunded") else ()
        made.append(
            Report("1", kind, draw(_times), message_id, total=draw(_amounts), refunds=refunds)
        )
    return made


@given(reports(), st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_of_reports_matters(
    told: list[Report], random: object
) -> None:
    shuffled = told + told[:2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold_reports(shuffled, "CNY") == fold_reports(told, "CNY")


@given(reports())
def test_an_order_told_by_events_never_gives_back_more_than_it_took(told: list[Report]) -> None:
    order = fold_reports(told, "CNY")
    if all(r.kind != "record" for r in told) and any(
        r.kind in ("completed", "updated") for r in told
    ):
        assert 0 <= order.net <= order.total
