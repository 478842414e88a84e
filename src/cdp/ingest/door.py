"""The door for what comes other than by an SDK's own request: imports, hooks, replays.

    lines ─► judge, each by itself ─► request ─► log

They meet the same verdicts as everything else, and lie in the log in the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from cdp.errors import Unavailable
from cdp.ingest.lenient import encode
from cdp.ingest.open_body import Opened, read_heads
from cdp.ingest.packing import ANSWER_SECONDS, Offsets, RequestLog, pack
from cdp.ingest.parse import Judged, judge
from cdp.ingest.records import RecordKind, judge_records
from cdp.log.format import Kind, RejectedLine
from cdp.log.port import Log, LogUnavailable
from cdp.model import FindCheck, Source, check_nothing
from cdp.settings import Settings
from cdp.trait_parts import LARGEST_TRAIT

_LONGEST_RAW = 600_000
"""Bytes of a refused event that are kept: as base64 they still fit into one record."""
_LONGEST_SHARED = 32 * 1024


def write_request(
    source: Source,
    judged: Judged,
    *,
    request_id: str,
    received_at: str,
    size: int,
    partitions: int,
    sent_at: str | None = None,
    kind: Kind = "events",
) -> RequestLog:
    """Return what is to be logged of a request whose lines have ``size`` bytes. Pure.

    ``kind`` is what the lines taken are; times are RFC 3339 text.
    """
    rejected = write_rejected(judged, kind) if judged.rejected else ()
    if rejected:
        size += sum(map(len, rejected))
    # Refused lines name nobody for certain, so the request chooses where they lie.
    partition = crc32(request_id.encode()) % partitions if rejected else 0
    return RequestLog(
        source.source_id,
        request_id,
        received_at,
        sent_at,
        judged.joined,
        size,
        rejected,
        partition,
        kind,
    )


def write_rejected(judged: Judged, kind: str) -> list[bytes]:
    """Return the log lines of what was refused, with all that judging it again takes. Pure."""
    shared = encode(judged.shared) if judged.shared else None
    # What a batch says for all would be kept once per refused event.
    is_cut = shared is not None and len(shared) > _LONGEST_SHARED
    return [
        encode(
            RejectedLine(
                one.code,
                one.message,
                one.raw[:_LONGEST_RAW],
                one.message_id,
                one.index,
                kind,
                judged.route_type,
                None if is_cut else shared,
                is_cut or len(one.raw) > _LONGEST_RAW,
            )
        )
        for one in judged.rejected
    ]


class Door:
    """Judges lines and appends them to the log. Thread-safe; ``append`` blocks."""

    def __init__(
        self,
        log: Log,
        settings: Settings,
        record_kinds: Sequence[RecordKind],
        find_check: FindCheck = check_nothing,
    ) -> None:
        """``find_check`` tells what the tracking plan has events of a source checked for."""
        self.partitions = log.partitions
        self._log = log
        self._max_event_bytes = settings.max_event_bytes
        self._record_kinds = {kind.list_name: kind for kind in record_kinds}
        self._find_check = find_check

    def judge(self, source: Source, kind: Kind, lines: Sequence[bytes]) -> Judged:
        """Judge ``lines``, each one event or record of ``kind`` as JSON. No I/O."""
        if kind != "events":
            return judge_records(Opened(lines), self._record_kinds[kind], self.partitions)[0]
        return judge(
            Opened(lines, heads=read_heads(lines)),
            route_type=None,
            partitions=self.partitions,
            max_event_bytes=source.settings.get("max_event_bytes", self._max_event_bytes),
            max_trait_bytes=source.settings.get("max_trait_bytes", LARGEST_TRAIT),
            check=self._find_check(source),
        )

    def write(
        self,
        source: Source,
        judged: Judged,
        *,
        request_id: str,
        received_at: str,
        kind: Kind = "events",
    ) -> RequestLog:
        """Return what is to be logged of ``judged``. No I/O."""
        return write_request(
            source,
            judged,
            request_id=request_id,
            received_at=received_at,
            size=judged.size,
            partitions=self.partitions,
            kind=kind,
        )

    def append(self, requests: Sequence[RequestLog]) -> Offsets:
        """Append ``requests``; return where they lie once they would survive ``kill -9``.

        Raises ``Unavailable`` when the log does not acknowledge; what it may have taken all the
        same is a duplicate when it comes again.
        """
        records, _ = pack(requests)
        try:
            offsets = self._log.append(records).result(ANSWER_SECONDS)
        except (LogUnavailable, TimeoutError) as error:
            raise Unavailable(
                "log_unavailable", "the log does not acknowledge", retry_after=5
            ) from error
        reached: dict[int, int] = {}
        for record, offset in zip(records, offsets, strict=True):
            reached[record.partition] = max(offset, reached.get(record.partition, -1))
        return reached
