"""The id under which a posted record counts, for whoever watches it arrive."""

from __future__ import annotations

import msgspec

from cdp.ingest.live.lines import NameRecord
from cdp.log.format import LoggedLine
from cdp.log.port import Record
from cdp.model import Source
from cdp.posted_record import Refusal
from cdp.read_posted import Arrival, RecordReader
from cdp.runtime.clock import parse_time


def make_name_record(currency: str) -> NameRecord:
    """Return a function that reads records as the worker does, for their message ids alone."""
    reader = RecordReader(lambda _: (), currency)

    def name_record(kind: str, line: LoggedLine, record: Record, source: Source) -> str | None:
        received_at = parse_time(line.received_at)
        if received_at is None or not reader.reads(kind):
            return None
        place = f"{line.request_id}\n{record.partition}\n{line.ordinal}"
        read = reader.read(
            kind, msgspec.json.decode(line.line), Arrival(source, received_at, place)
        )
        return None if isinstance(read, Refusal) else read.message_id

    return name_record
