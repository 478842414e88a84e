"""Requests of a few milliseconds travel to the log together: one record per partition and source.

One timer, started by the first event that waits, is all there is: an idle server answers one
``linger`` after the event, a busy one packs hundreds of requests into a handful of records.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from cdp.errors import Unavailable
from cdp.ingest.fair_share import FairShare
from cdp.log.format import JoinedLines, Kind, introduce, join_lines, pack_joined
from cdp.log.port import Log, LogUnavailable, NewRecord
from cdp.runtime.logs import get_logger

RECORD_BYTES = 900_000
"""Records are cut here, under Kafka's customary limit; a single event may be larger."""
ANSWER_SECONDS = 8.0
"""SDKs give up after 10 s; they get an answer before that, whatever the log does."""

_OVERHEAD_BYTES = 500

_logger = get_logger(__name__)

Offsets = Mapping[int, int]
"""Partition → offset of the last record of a write."""


class RequestLog(NamedTuple):
    """What one request brings for the log. Times are RFC 3339 text."""

    source_id: str
    request_id: str
    received_at: str
    sent_at: str | None
    events: Mapping[int, JoinedLines]
    """Lines by partition."""
    size: int
    """About the bytes of all of it."""
    rejected: Sequence[bytes] = ()
    """``RejectedLine`` objects as JSON."""
    rejected_partition: int = 0
    kind: Kind = "events"
    """What ``events`` are."""


class _Waiting(NamedTuple):
    request: RequestLog
    answer: asyncio.Future[Offsets]


class PackingWriter:
    """Packs what requests bring and appends it. Used from one event loop."""

    def __init__(
        self, log: Log, linger_ms: float, *, max_buffered_bytes: int = 64 * 1024 * 1024
    ) -> None:
        """``linger_ms``: how long the first event waits for company. More bytes than

        ``max_buffered_bytes`` waiting, or under way, are refused; when there is little room left,
        first those of sources that hold more than their share of it.
        """
        self.log = log
        self.partitions = log.partitions
        self._linger = linger_ms / 1000
        self._shares = FairShare(max_buffered_bytes)
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._outage = _Outage()
        self._is_closed = False

    async def append(self, request: RequestLog) -> Offsets:
        """Return where the request lies in the log, once it would survive ``kill -9``.

        Raises ``Unavailable`` with an honest ``retry_after`` when the log cannot take it, or too
        much is waiting already. What was refused may still have been appended: sent again, it is
        a duplicate.
        """
        size = request.size + _OVERHEAD_BYTES
        if self._is_closed:
            raise Unavailable("stopping", "the server is stopping", retry_after=5)
        if not self._shares.take(request.source_id, size):
            raise Unavailable(
                "buffer_full", "too many events wait for the log", retry_after=self._retry_after()
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Offsets] = loop.create_future()
        self._waiting.append(_Waiting(request, answer))
        self._waiting_bytes += size
        if self._waiting_bytes >= RECORD_BYTES:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(self._linger, self._flush)
        try:
            return await answer
        except LogUnavailable as error:
            retry_after = self._outage.note_failure(loop.time(), str(error))
            raise Unavailable(
                "log_unavailable",
                "the log does not acknowledge; send this again later",
                retry_after=retry_after,
            ) from error
        finally:
            self._shares.give_back(request.source_id, size)

    @property
    def buffered_bytes(self) -> int:
        """The bytes that wait for the log's acknowledgement."""
        return self._shares.held

    async def start(self) -> None:
        """Take events from now on."""
        self._is_closed = False

    async def close(self) -> None:
        """Append what waits, and wait for the answers of the log."""
        self._is_closed = True
        answers = [waiting.answer for waiting in self._waiting]
        self._flush()
        if answers:
            await asyncio.wait(answers, timeout=ANSWER_SECONDS)

    def _retry_after(self) -> int:
        return self._outage.retry_after(asyncio.get_running_loop().time())

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not waiting:
            return
        loop = asyncio.get_running_loop()
        records, places = pack([request for request, _ in waiting])
        try:
            appended = self.log.append(records)
        except Exception as error:
            # Nobody else would answer those who wait.
            _refuse(waiting, error)
            return
        # A limit of its own, because the log's promise of a bounded time is only a promise.
        limit = loop.call_later(ANSWER_SECONDS, _refuse, waiting, LogUnavailable("no answer"))

        def settle(done: Future[list[int]]) -> None:
            limit.cancel()
            error = done.exception()
            if error is not None:
                _refuse(waiting, error)
            else:
                self._outage.end()
                _answer(waiting, records, places, done.result())

        # The log answers from a thread of its own.
        appended.add_done_callback(lambda done: _call_soon(loop, settle, done))


def _call_soon(loop: asyncio.AbstractEventLoop, settle: object, done: Future[list[int]]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle, done)  # type: ignore[arg-type]


_Entry = tuple[int, str, JoinedLines]
"""The number of a request, what a record says of it, and lines of it."""


def pack(requests: Sequence[RequestLog]) -> tuple[list[NewRecord], list[list[int]]]:
    """Return records, and per request the numbers of those that hold its lines. Pure."""
    may_overflow = sum(request.size for request in requests) > RECORD_BYTES
    groups: defaultdict[tuple[str, Kind], dict[int, list[_Entry]]] = defaultdict(dict)
    for number, request in enumerate(requests):
        intro = introduce(request.request_id, request.received_at, request.sent_at)
        bins = groups[request.source_id, request.kind]
        for partition, lines in request.events.items():
            try:
                bins[partition].append((number, intro, lines))
            except KeyError:
                bins[partition] = [(number, intro, lines)]
        if request.rejected:
            refused = (number, intro, join_lines(request.rejected))
            bins = groups[request.source_id, "rejected"]
            bins.setdefault(request.rejected_partition, []).append(refused)
    records: list[NewRecord] = []
    places: list[list[int]] = [[] for _ in requests]
    for (source_id, kind), bins in groups.items():
        key = source_id.encode()
        for partition, entries in bins.items():
            for part in _cut(entries) if may_overflow and _overflows(entries) else (entries,):
                for number, _, _ in part:
                    places[number].append(len(records))
                said = [(intro, lines) for _, intro, lines in part]
                records.append(pack_joined(partition, key, source_id, said, kind))
    return records, places


def _overflows(entries: Iterable[_Entry]) -> bool:
    return sum(len(lines.value) for _, _, lines in entries) > RECORD_BYTES


def _cut(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Cut into groups of at most ``RECORD_BYTES``, lines of one request apart where needed."""
    group: list[_Entry] = []
    size = 0
    for number, intro, joined in entries:
        lines: list[bytes] = []
        for line in joined.split():
            if size and size + len(line) > RECORD_BYTES:
                if lines:
                    group.append((number, intro, join_lines(lines)))
                yield group
                group, lines, size = [], [], 0
            lines.append(line)
            size += len(line) + 1
        group.append((number, intro, join_lines(lines)))
    yield group


def _answer(
    waiting: Sequence[_Waiting],
    records: Sequence[NewRecord],
    places: Sequence[Sequence[int]],
    offsets: Sequence[int],
) -> None:
    alone = [{record.partition: at} for record, at in zip(records, offsets, strict=True)]
    for (_, answer), numbers in zip(waiting, places, strict=True):
        if not answer.done():
            if len(numbers) == 1:
                answer.set_result(alone[numbers[0]])
            else:
                # Later records of a partition have higher offsets.
                answer.set_result({records[n].partition: offsets[n] for n in numbers})


def _refuse(waiting: Iterable[_Waiting], error: BaseException) -> None:
    for _, answer in waiting:
        if not answer.done():
            answer.set_exception(error)
            # Whoever waited may have given up: then nobody retrieves it, and that is no news.
            answer.exception()


class _Outage:
    """How long the log has been failing, and so how long a client had best wait.

    SDKs give up after a fixed number of tries, so in a long outage only long waits save events.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def note_failure(self, now: float, reason: str) -> int:
        if self._since is None:
            self._since = now
            _logger.warning("log_unavailable", reason=reason or "no answer in time")
        return self.retry_after(now)

    def retry_after(self, now: float) -> int:
        """Return seconds: as long again as it has lasted, between 5 and 120."""
        lasted = 0.0 if self._since is None else now - self._since
        return round(min(120.0, max(5.0, lasted)))

    def end(self) -> None:
        if self._since is not None:
            self._since = None
            _logger.info("log_available_again")
