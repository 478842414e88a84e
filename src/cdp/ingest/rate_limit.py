"""Token buckets: how many events a write key may bring in a second. Pure; time is passed in.

Events are counted only after a body has been read, so a request is let in while its key is not in
debt, and charged with what it brought. A large batch therefore passes whole, and the next request
waits until the debt is paid.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from cdp.errors import TooManyRequests
from cdp.ingest.cors import Headers
from cdp.model import Source

BURST_SECONDS = 10
"""Without a burst of its own, a limit saves up unused events for so long."""
_MOST_KEYS = 100_000
_ROUNDING = 1e-6


class Rate(NamedTuple):
    """What a source allows: ``events_per_second`` in the long run, ``burst`` at once."""

    events_per_second: float
    burst: float


def read_rate(setting: Any) -> Rate | None:
    """Read the setting ``rate_limit``: a number, or an object. ``None`` is no limit.

    So is what can be no limit: settings were not always checked when they were written.
    """
    try:
        if isinstance(setting, dict):
            per_second = float(setting["events_per_second"])
            burst = float(setting.get("burst") or per_second * BURST_SECONDS)
        else:
            per_second = float(setting)
            burst = per_second * BURST_SECONDS
    except (TypeError, ValueError, KeyError):
        return None
    return Rate(per_second, burst) if per_second > 0 and burst > 0 else None


class Bucket:
    """One key's account. Times are seconds of any steady clock."""

    __slots__ = ("_at", "_tokens", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._tokens = rate.burst
        self._at = 0.0

    def wait(self, now: float) -> int:
        """Return the whole seconds until the next request may come: 0 unless in debt."""
        per_second, burst = self.rate
        self._tokens = min(burst, self._tokens + (now - self._at) * per_second)
        self._at = now
        missing = min(1.0, burst) - self._tokens
        return 0 if missing < _ROUNDING else math.ceil(missing / per_second)

    def charge(self, events: int) -> None:
        """Take what a request brought; the account may go below zero."""
        self._tokens -= events

    def change(self, rate: Rate) -> None:
        """Go on at another rate. What was saved up beyond the new burst is lost; debt stays."""
        self.rate = rate
        self._tokens = min(self._tokens, rate.burst)


class RateLimited(TooManyRequests):
    """The write key is in debt, for ``wait`` seconds from now."""

    def __init__(self, rate: Rate, wait: int) -> None:
        super().__init__(
            "rate_limited",
            f"this key may send {rate.events_per_second:g} events a second; nothing was taken,"
            " send this again later",
            details={"events_per_second": rate.events_per_second, "burst": rate.burst},
            retry_after=wait,
        )
        self._rate = rate

    def headers(self) -> Headers:
        """Return the limit as other APIs tell it; ``answer_refused`` adds when to come back."""
        return [
            (b"x-ratelimit-limit", b"%d" % math.ceil(self._rate.events_per_second)),
            (b"x-ratelimit-remaining", b"0"),
        ]


class RateLimits:
    """The buckets of all keys that were seen. For one event loop."""

    def __init__(self, public_events_per_second: float) -> None:
        """``public_events_per_second`` holds for web and app keys that say nothing; 0 is none."""
        self._public = read_rate(public_events_per_second)
        self._known: dict[str, tuple[Source, Bucket | None]] = {}

    def admit(self, key: str, source: Source, now: float) -> Bucket | None:
        """Return what a request with ``key`` is charged to; ``None`` when it has no limit.

        Raises ``RateLimited`` while the key is in debt.
        """
        bucket = self.find(key, source)
        if bucket is not None and (wait := bucket.wait(now)):
            raise RateLimited(bucket.rate, wait)
        return bucket

    def find(self, key: str, source: Source) -> Bucket | None:
        """Return the bucket of a valid ``key`` of ``source``; ``None`` when it has no limit."""
        known = self._known.get(key)
        if known is not None and known[0] is source:
            return known[1]
        rate = read_rate(source.settings.get("rate_limit"))
        if rate is None and source.is_public:
            rate = self._public
        bucket = known[1] if known is not None else None
        if rate is None:
            bucket = None
        elif bucket is None:
            bucket = Bucket(rate)
        else:
            bucket.change(rate)
        if len(self._known) >= _MOST_KEYS:
            self._known.clear()
        self._known[key] = source, bucket
        return bucket
