"""What ingest answers, as bytes. Pure.

The SDKs want exactly 200 for success, and for every error JSON with ``code`` and ``message``: on
anything else RudderStack's Python SDK sends a refused batch eleven times.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from cdp.errors import CdpError, MethodNotAllowed
from cdp.ingest.cors import Headers
from cdp.ingest.lenient import encode
from cdp.ingest.parse import Rejection

_JSON = (b"content-type", b"application/json")
_DEFAULT_RETRY_SECONDS = 5
RETRY_STATUSES = (429, 503)


class Answer(NamedTuple):
    """Status, headers (without those of CORS) and body."""

    status: int
    headers: Headers
    body: bytes


def answer_accepted(accepted: int, rejected: Sequence[Rejection], receipt: bytes) -> Answer:
    """Return the answer to a write that the log has acknowledged."""
    refused = _describe(rejected) if rejected else b"[]"
    body = b'{"success":true,"accepted":%d,"rejected":%s,"receipt":"%s"}' % (
        accepted,
        refused,
        receipt,
    )
    return Answer(200, [_JSON, (b"content-length", b"%d" % len(body))], body)


def answer_json(document: Mapping[str, Any], *more: tuple[bytes, bytes]) -> Answer:
    """Return ``document`` with status 200."""
    body = encode(document)
    return Answer(200, [_JSON, (b"content-length", b"%d" % len(body)), *more], body)


def answer_bytes(content_type: bytes, body: bytes) -> Answer:
    """Return ``body`` with status 200, not to be kept by anybody."""
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return Answer(200, headers, body)


def answer_refused(error: CdpError, *more: tuple[bytes, bytes]) -> Answer:
    """Return the answer for an error, with ``Retry-After`` where one may try again."""
    body = encode(error.body())
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *more]
    if error.status in RETRY_STATUSES:
        headers += retry_headers(b"%d" % (error.retry_after or _DEFAULT_RETRY_SECONDS))
    return Answer(error.status, headers, body)


def refuse_method(methods: Collection[str]) -> Answer:
    """Return the answer to a method that a path does not take; ``methods`` are those it does."""
    allowed = ", ".join(sorted(methods))
    error = MethodNotAllowed("method_not_allowed", f"this path takes {allowed}")
    return answer_refused(error, (b"allow", allowed.encode()))


def retry_headers(seconds: bytes) -> Headers:
    """Return both headers that SDKs look at: which one depends on family and age."""
    return [(b"retry-after", seconds), (b"x-ratelimit-reset", seconds)]


def _describe(rejected: Sequence[Rejection]) -> bytes:
    return encode(
        [
            {
                "index": one.index,
                "messageId": one.message_id,
                "code": one.code,
                "message": one.message,
            }
            for one in rejected
        ]
    )
