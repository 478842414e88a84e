"""★ Learns from DuckDB's events what sources send, a bounded stretch at a time.

    core.events after the last batch learned ─► totals, shapes, samples ─► plan_events, …

One writes and moves on in the same transaction, so a crash repeats what left no trace. A file that
was dropped, or reset, is learned again with the events in it. Reading happens before the
transaction: nobody waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from cdp.plan.check import REASONS
from cdp.plan.observed import (
    EventKey,
    Observed,
    Place,
    Samples,
    Shape,
    Total,
    add_shape,
    add_total,
    list_missing,
)
from cdp.plan.observed_engine import (
    Duck,
    DuckFile,
    Learned,
    read_events,
    read_learned,
    read_observed,
    rows_of,
    write_observed,
)
from cdp.runtime.logs import get_logger

_log = get_logger(__name__)

MOST_EVENTS = 100_000
"""Events in a step, unless one batch alone has more."""
_MOST_BATCHES = 50_000
# Taking properties apart is what costs: of a large stretch, some stand for all.
_MOST_READ = 10_000
_MOST_SHAPES = 1_000
_MOST_SAMPLES = 60
_SAMPLES_PER_SHAPE = 4
_SHORTEST_PAUSE = 1.0
# A step's rest is so many times as long as its work: learning never takes more than a tenth.
_REST = 9.0

_UNTIL = """
SELECT coalesce(max(seq) FILTER (running <= $most), min(seq)) AS until, max(seq) AS newest,
       least(max(running), $most) AS events
  FROM (SELECT seq, sum(count(*)) OVER (ORDER BY seq) AS running
          FROM core.events WHERE seq > $after AND seq <= $last GROUP BY seq)
"""
_STRETCH = "FROM core.events WHERE seq > $after AND seq <= $until"
_KEY = (
    "coalesce(source_id, '') AS source_id, type,"
    " CASE WHEN type = 'track' THEN coalesce(event, '') ELSE '' END AS event"
)
# Marks are rare, and looked for as text first, which costs next to nothing.
_FLAGS = """CASE WHEN contains(context::VARCHAR, 'plan_violation')
          OR contains(context::VARCHAR, 'unplanned_')
     THEN json_extract_string(context, '$.cdp.flags[*]') END"""
_FINDINGS = ", ".join(
    f"count(*) FILTER (list_contains(flags, '{reason}')) AS {reason}" for reason in REASONS
)
_TOTALS = f"""
SELECT source_id, type, event, count(*) AS events, min("at") AS first_seen,
       max("at") AS last_seen, {_FINDINGS}
  FROM (SELECT {_KEY}, "at", {_FLAGS} AS flags {_STRETCH})
 GROUP BY 1, 2, 3 ORDER BY events DESC
"""
_SHAPES = f"""
SELECT {_KEY}, json_keys(properties) AS names, json_type(properties, '$.*') AS types,
       count(*) AS events, min({{'seq': seq, 'ordinal': ordinal}}, {_SAMPLES_PER_SHAPE}) AS places
{_STRETCH} AND (seq + ordinal) % $stride = 0
 GROUP BY 1, 2, 3, 4, 5 ORDER BY events DESC LIMIT {_MOST_SHAPES}
"""


class _Stretch(NamedTuple):
    """The batches of one step."""

    after: int
    until: int
    is_last: bool
    stride: int
    """Properties are counted in one of so many events."""


class Learner:
    """The one writer of what was observed. For one thread at a time, the follower's."""

    def __init__(self, duck_file: DuckFile, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = duck_file
        self._clock = clock
        self._rests_until = float("-inf")
        self._observed: Observed = {}
        self._samples = Samples()
        self._seq: int | None = None
        """Up to where ``_observed`` goes; ``None``: it must be read from the file."""

    def look(self) -> None:
        """Learn a stretch when it is time, for after each round. What fails is said, not raised."""
        if self._clock() < self._rests_until:
            return
        began = self._clock()
        try:
            self.step()
        except Exception as error:
            self._seq = None
            _log.error("plan_learning_failed", exc_info=error)
        spent = self._clock() - began
        self._rests_until = self._clock() + max(_SHORTEST_PAUSE, _REST * spent)

    def catch_up(self) -> None:
        """Learn everything that is there."""
        while self.step():
            pass

    def step(self) -> bool:
        """Learn the next stretch; return whether there was one."""
        as_of = self._file.as_of()
        with self._file.cursor() as duck:
            stretch = self._find_stretch(duck)
            if stretch is None:
                return False
            try:
                changed = self._learn(duck, stretch)
            except BaseException:
                self._seq = None
                raise
        learned = Learned(stretch.until, as_of if stretch.is_last else None)
        self._seq = None
        with self._file.write() as duck:
            # Dropped in between, all that was read is void.
            if read_learned(duck).seq != stretch.after:
                return True
            write_observed(duck, {key: self._observed[key] for key in changed}, learned)
        self._seq = stretch.until
        return True

    def _find_stretch(self, duck: Duck) -> _Stretch | None:
        after = read_learned(duck).seq
        if after != self._seq:
            self._observed, self._samples = read_observed(duck), Samples()
            self._seq = after
        applied = rows_of(duck, "SELECT seq FROM core.applied")[0]["seq"]
        if applied <= after:
            return None
        last = min(applied, after + _MOST_BATCHES)
        params = {"after": after, "last": last, "most": MOST_EVENTS}
        found = rows_of(duck, _UNTIL, params)[0]
        # The last batches may be without events.
        until = last if found["until"] == found["newest"] else found["until"]
        stride = 1 + (found["events"] or 0) // _MOST_READ
        return _Stretch(after, until, until == applied, stride)

    def _learn(self, duck: Duck, stretch: _Stretch) -> set[EventKey]:
        params = {"after": stretch.after, "until": stretch.until}
        changed: set[EventKey] = set()
        for row in rows_of(duck, _TOTALS, params):
            key = EventKey(row["source_id"], row["type"], row["event"])
            findings = {reason: row[reason] for reason in REASONS}
            total = Total(row["events"], row["first_seen"], row["last_seen"], findings)
            if add_total(self._observed, key, total):
                changed.add(key)
        shapes = [
            Shape(
                EventKey(row["source_id"], row["type"], row["event"]),
                row["names"] or (),
                row["types"] or (),
                row["events"],
                [Place(**place) for place in row["places"]],
            )
            for row in rows_of(duck, _SHAPES, {**params, "stride": stretch.stride})
        ]
        shapes = [shape for shape in shapes if shape.key in changed]
        for shape in shapes:
            add_shape(self._observed[shape.key], shape)
        self._sample(duck, shapes)
        return changed

    def _sample(self, duck: Duck, shapes: list[Shape]) -> None:
        """Look into a few events: first into those with properties that have no example yet."""

        def worth(shape: Shape) -> tuple[int, int]:
            event = self._observed[shape.key]
            return -list_missing(event, shape), event.sampled

        chosen: dict[Place, EventKey] = {}
        for shape in sorted(shapes, key=worth):
            for place in shape.places[: max(1, _MOST_SAMPLES - len(chosen))]:
                chosen[place] = shape.key
            if len(chosen) >= _MOST_SAMPLES:
                break
        for place, row in sorted(read_events(duck, chosen).items()):
            if isinstance(row["properties"], dict):
                key = chosen[place]
                self._samples.add(key, self._observed[key], row["properties"], place)
