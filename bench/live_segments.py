"""A hundred live segments while events arrive: how soon a change shows, and what keeping up costs.

Through the running program: events by HTTP at a steady rate, changes by polling the route that
consumers poll. Probes are people of the population whose event makes them enter a segment, and
people whom time alone makes leave one, at a moment that is known.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psutil

from bench.end_to_end import percentile
from bench.population import run_populated
from bench.ratios import compare
from tests.support.program import Program

PEOPLE, EVENTS = 20_000, 400_000
FULL_PEOPLE, FULL_EVENTS = 1_000_000, 20_000_000
SEGMENTS = 100
PER_SECOND = 1_000
SECONDS, FULL_SECONDS = 45.0, 120.0
LIMIT_SECONDS = 5.0

_PER_REQUEST = 100
_PROBE_EVERY = 1.0
_POLL_SECONDS = 0.05
_WINDOW = timedelta(hours=1)
# How long before its moment a probe of time is posted: long enough to have entered first.
_AHEAD = timedelta(seconds=20)
_MOST_WAITED = 60.0


def list_rules() -> list[dict[str, Any]]:
    """A hundred rules of ten kinds, each meaning some percent of the people at most."""
    french = {"trait": "country", "op": "eq", "value": "FR"}

    def ordered(**more: Any) -> dict[str, Any]:
        return {"event": "Order Completed", **more}

    kinds: list[Any] = [
        lambda n: {"all": [ordered(within={"last": f"{n + 1}d"}), french]},
        lambda n: ordered(within={"last": f"{n + 5}d"}, count={"op": "gte", "value": 3}),
        lambda n: ordered(where=[{"property": "total", "op": "gte", "value": 485 + n}]),
        lambda n: ordered(
            aggregate={"fn": "sum", "property": "total"}, op="gte", value=1500 + 50 * n
        ),
        lambda n: {"all": [{"not": ordered(within={"last": f"{80 + n}d"})}, french]},
        lambda n: {
            "event": "Page Viewed",
            "within": {"last": f"{n + 1}d"},
            "count": {"op": "gte", "value": 3},
        },
        lambda n: {"event": "Page Viewed", "count": {"op": "gte", "value": 13 + n}},
        lambda n: {
            "event": "Event 7",
            "where": [{"property": "sku", "op": "eq", "value": f"sku-{n}"}],
        },
        lambda n: {"all": [{"event": "Event 5", "within": {"last": f"{n + 1}h"}}, {"not": french}]},
        lambda n: {
            "all": [
                {"event": "Event 4", "within": {"last": f"{n + 2}d"}},
                {"not": {"event": "Event 6", "within": {"last": f"{n + 60}d"}}},
            ]
        },
    ]
    return [kinds[number % 10](number // 10) for number in range(SEGMENTS)]


PROBE = {"event": "Probe"}
TIME_PROBE = {"event": "Time Probe", "within": {"last": "1h"}}


@dataclass
class Watch:
    """Follows the changes of a segment and notes when each of them was seen."""

    key: str
    seen: dict[tuple[str, str], float] = field(default_factory=dict)
    """By profile and change, the wall clock's time of the answer that told of it."""
    cursor: str | None = None

    def poll(self, client: httpx.Client) -> None:
        """Ask what is new."""
        params = {"since": self.cursor} if self.cursor else {}
        answer = client.get(f"/v1/segments/{self.key}/changes", params={**params, "limit": 1000})
        answer.raise_for_status()
        page, at = answer.json(), time.time()
        self.cursor = page["next"]
        for row in page["data"]:
            self.seen.setdefault((row["profile_id"], row["change"]), at)


@dataclass
class Traffic:
    """Posts batches at a steady rate until it is stopped, and counts what was taken."""

    program: Program
    people: int
    accepted: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Post until stopped; a request that is late is not made up for by more at once."""
        client = _open_door(self.program)
        number = int(time.time()) * 1_000_000
        due = time.monotonic()
        while not self.stopping.is_set():
            _post(
                client, [_make_event(n, self.people) for n in range(number, number + _PER_REQUEST)]
            )
            number += _PER_REQUEST
            self.accepted += _PER_REQUEST
            due = max(due + _PER_REQUEST / PER_SECOND, time.monotonic() - 1.0)
            self.stopping.wait(max(0.0, due - time.monotonic()))


def _make_event(number: int, people: int) -> dict[str, Any]:
    kind = number * 2654435761 % 10
    name = "Page Viewed" if kind < 3 else "Order Completed" if kind == 3 else f"Event {kind}"
    properties = {"total": number % 500, "currency": "CNY", "sku": f"sku-{number % 997}"}
    return {
        "type": "track",
        "event": name,
        "userId": f"user-{number * 40503 % people + 1}",
        "messageId": f"live-{number}",
        "properties": properties,
    }


def _open_door(program: Program) -> httpx.Client:
    key = program.credentials["write_key"]
    return httpx.Client(base_url=program.url, auth=(key, ""), timeout=60)


def _post(client: httpx.Client, batch: list[dict[str, Any]]) -> None:
    body = json.dumps({"batch": batch}).encode()
    headers = {"Content-Type": "application/json"}
    client.post("/v1/batch", content=body, headers=headers).raise_for_status()


@contextmanager
def _keep_posting(program: Program, people: int) -> Iterator[Traffic]:
    traffic = Traffic(program, people)
    thread = threading.Thread(target=traffic.run, daemon=True)
    thread.start()
    try:
        yield traffic
    finally:
        traffic.stopping.set()
        thread.join(60)


@dataclass
class Probes:
    """People who were made to enter or leave, and when that was due."""

    people: int
    entered: dict[str, float] = field(default_factory=dict)
    """By profile, when the answer to its event came."""
    leaving: dict[str, float] = field(default_factory=dict)
    """By profile, the moment at which it falls out of the window."""

    def post(self, client: httpx.Client) -> None:
        """Post an event that lets one person enter, and one that lets another leave soon."""
        number = len(self.entered)
        first, second = self.people - number, self.people // 2 - number
        moment = datetime.now(UTC) + _AHEAD
        late = {"event": "Time Probe", "timestamp": (moment - _WINDOW).isoformat()}
        batch = [
            {"type": "track", "userId": f"user-{first}", "event": "Probe"},
            {"type": "track", "userId": f"user-{second}", **late},
        ]
        _post(client, batch)
        self.entered[_name_profile(first)] = time.time()
        self.leaving[_name_profile(second)] = moment.timestamp()


def _name_profile(person: int) -> str:
    return f"prf_{person:026}"


def read_cpu(process: psutil.Process) -> tuple[float, float]:
    """Seconds of processor time of the thread that answers requests, and of all others."""
    whole = sum(process.cpu_times()[:2])
    main = next(one for one in process.threads() if one.id == process.pid)
    answering = main.user_time + main.system_time
    return answering, whole - answering


@dataclass
class Outcome:
    """What a run showed."""

    lags: list[float]
    flips: list[float]
    missed: int
    evaluator_share: float
    """Processor time of everything in the server but its event loop, of one core."""
    server_share: float
    per_second: float


def measure(program: Program, people: int, seconds: float) -> Outcome:
    """Let events arrive for ``seconds`` and follow two segments of the hundred and two."""
    server = program.find_child("serve")
    watches = (Watch("probe"), Watch("time_probe"))
    probes = Probes(people)
    with program.client() as client, _open_door(program) as door:
        for watch in watches:
            watch.poll(client)
        with _keep_posting(program, people) as traffic:
            _wait(5.0, client, watches)
            before, count, started = read_cpu(server), traffic.accepted, time.monotonic()
            while time.monotonic() < started + seconds:
                probes.post(door)
                _wait(_PROBE_EVERY, client, watches)
            spent = [late - early for early, late in zip(before, read_cpu(server), strict=True)]
            took = time.monotonic() - started
            per_second = (traffic.accepted - count) / took
            _wait_for_all(client, watches, probes)
    lags, flips = _match(watches, probes)
    # Who was not in before his moment came had nothing to leave; that shows in the other lag.
    could_leave = [who for who in probes.leaving if (who, "entered") in watches[1].seen]
    return Outcome(
        lags,
        flips,
        len(probes.entered) + len(could_leave) - len(lags) - len(flips),
        spent[1] / took,
        sum(spent) / took,
        per_second,
    )


def _wait(seconds: float, client: httpx.Client, watches: tuple[Watch, ...]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for watch in watches:
            watch.poll(client)
        time.sleep(_POLL_SECONDS)


def _wait_for_all(client: httpx.Client, watches: tuple[Watch, ...], probes: Probes) -> None:
    """Until every probe was seen, with the traffic going on, but not for ever."""
    until = time.monotonic() + _MOST_WAITED
    while time.monotonic() < until:
        lags, flips = _match(watches, probes)
        everybody_left = all(moment < time.time() - 5 for moment in probes.leaving.values())
        if everybody_left and len(lags) + len(flips) == len(probes.entered) + len(probes.leaving):
            return
        _wait(0.5, client, watches)


def _match(watches: tuple[Watch, ...], probes: Probes) -> tuple[list[float], list[float]]:
    by_event, by_time = watches
    lags = [
        by_event.seen[profile, "entered"] - at
        for profile, at in probes.entered.items()
        if (profile, "entered") in by_event.seen
    ]
    flips = [
        by_time.seen[profile, "left"] - at
        for profile, at in probes.leaving.items()
        if (profile, "left") in by_time.seen
    ]
    return lags, flips


def create_segments(client: httpx.Client) -> None:
    """Make the hundred and the two that are watched."""
    rules = {f"s{number}": rule for number, rule in enumerate(list_rules())}
    for key, rule in {**rules, "probe": PROBE, "time_probe": TIME_PROBE}.items():
        answer = client.post("/v1/segments", json={"key": key, "rule": rule}, timeout=120)
        assert answer.status_code == 201, answer.text


def run(quick: bool) -> list[dict[str, Any]]:
    """Return three rows: the lag of events, the lag of time, the cost of the evaluator."""
    people, events = (PEOPLE, EVENTS) if quick else (FULL_PEOPLE, FULL_EVENTS)
    with run_populated(people, events) as program:
        with program.client() as client:
            create_segments(client)
            sizes = [row["count"] for row in client.get("/v1/segments?limit=200").json()["data"]]
        found = measure(program, people, SECONDS if quick else FULL_SECONDS)
    if found.missed:
        raise AssertionError(f"{found.missed} changes did not come, {len(found.lags)} did")
    of = f"{SEGMENTS} segments, {people:,} people, {found.per_second:.0f} events/s"
    extra = {"members": sum(sizes), "per_second": found.per_second}
    return [
        _row("live", f"p95 from 200 to change, of 5 s: {of}", found.lags, extra),
        _row("live", f"p95 from moment to change by time, of 5 s: {of}", found.flips, extra),
        {
            **compare(
                "live",
                "processor of the evaluator, pool threads included, of one core",
                [found.evaluator_share],
                at_most=1.0,
                server_share=found.server_share,
                **extra,
            ),
            "spread": None,
        },
    ]


def _row(goal: str, name: str, lags: list[float], extra: dict[str, Any]) -> dict[str, Any]:
    row = compare(goal, name, [percentile(lags, 0.95) / LIMIT_SECONDS], at_most=1.0, **extra)
    return {**row, "spread": None, "p50": statistics.median(lags), "seconds": lags}
