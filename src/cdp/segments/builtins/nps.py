"""Net promoter score. Pure.

Reichheld, "The One Number You Need to Grow", Harvard Business Review, December 2003.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

PROMOTER, PASSIVE, DETRACTOR = "promoter", "passive", "detractor"
_CONFIDENCE = 1.96


def read_score(value: Any) -> int | None:
    """Return an answer as a score; ``None`` when it is no whole number from 0 to 10."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value <= 10 and value == int(value) else None


def group_of(score: int) -> str:
    """Return promoter (9, 10), passive (7, 8) or detractor (0 to 6)."""
    if score >= 9:
        return PROMOTER
    return PASSIVE if score >= 7 else DETRACTOR


def summarise(counts: Mapping[int, int], rejected: int = 0) -> dict[str, Any]:
    """Return the figures over answers, one per person and survey: how many gave each score.

    ``nps`` is 100 times (promoters - detractors) / responses, passives in the denominator; null
    without responses. ``margin_of_error`` is in points at 95 %. Only ``display`` is rounded.
    """
    count = sum(counts.values())
    promoters = sum(many for score, many in counts.items() if score >= 9)
    detractors = sum(many for score, many in counts.items() if score <= 6)
    nps = margin = None
    if count:
        share, against = promoters / count, detractors / count
        nps = 100 * (promoters - detractors) / count
        variance = max(0.0, share + against - (share - against) ** 2)
        margin = 100 * _CONFIDENCE * math.sqrt(variance / count)
    return {
        "responses": count,
        "promoters": promoters,
        "passives": count - promoters - detractors,
        "detractors": detractors,
        "nps": nps,
        "display": None if nps is None else round_half_away(nps),
        "margin_of_error": margin,
        "rejected": rejected,
    }


def round_half_away(number: float) -> int:
    """Return the nearest whole number, halves away from zero; never a negative zero."""
    return int(math.copysign(math.floor(abs(number) + 0.5), number))
