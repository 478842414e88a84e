"""The built-in tags that a workspace starts with, with default settings. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple


class StandardTag(NamedTuple):
    """A tag to be made under its plain key."""

    key: str
    name: str
    category: str
    definition: dict[str, Any]


def _built_in(key: str, name: str, category: str) -> StandardTag:
    return StandardTag(key, name, category, {"builtin": key})


STANDARD_TAGS = (
    _built_in("rfm", "RFM", "value"),
    _built_in("value_tier", "Value tier", "value"),
    _built_in("clv", "Customer lifetime value", "value"),
    _built_in("churn_risk", "Churn risk", "behaviour"),
    _built_in("lifecycle", "Lifecycle", "basic"),
    _built_in("engagement", "Engagement", "behaviour"),
    _built_in("preferred", "Preferred channel, category, store, hour", "behaviour"),
    _built_in("cross_sell", "Likely next purchases", "behaviour"),
    _built_in("nps", "NPS", "sentiment"),
    _built_in("sentiment", "Sentiment", "sentiment"),
    # After those that it looks at.
    StandardTag(
        "health",
        "Health",
        "value",
        {
            "builtin": "health",
            "settings": {
                "components": [
                    {"tag": "engagement.score", "weight": 40},
                    {"tag": "churn_risk.risk", "weight": 40, "range": [1, 0]},
                    {"tag": "nps.score", "weight": 20, "range": [0, 10]},
                ]
            },
        },
    ),
)
