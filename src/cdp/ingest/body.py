"""Read a request's body: whole, bounded, and inflated when it is compressed."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cdp.errors import BadRequest, TooLarge

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_GZIP = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"


class ClientLeft(Exception):
    """The client hung up before its request was complete; nobody waits for an answer."""


async def read_body(receive: Receive, content_length: bytes | None, limit: int) -> bytes:
    """Return the body as sent. Raises ``TooLarge`` above ``limit`` bytes, or ``ClientLeft``."""
    if content_length is not None and content_length.isdigit() and int(content_length) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(first) > limit:
            raise _too_large(limit)
        return first
    chunks = [first]
    size = len(first)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def inflate(body: bytes, encoding: bytes | None, limit: int) -> bytes:
    """Return ``body`` without its ``Content-Encoding``. Pure.

    Gzip is recognised by its first bytes too: no JSON begins with them. Raises ``BadRequest`` for
    corrupt data or another encoding, ``TooLarge`` above ``limit`` inflated bytes.
    """
    name = (encoding or b"identity").strip().lower()
    if name in (b"gzip", b"x-gzip") or (name == b"identity" and body[:2] == _GZIP_MAGIC):
        return _gunzip(body, limit)
    if name in (b"identity", b""):
        return body
    raise BadRequest(
        "unsupported_encoding",
        "send the body as it is, or with `Content-Encoding: gzip`",
        details={"content_encoding": name.decode("latin-1")[:100]},
    )


def _gunzip(body: bytes, limit: int) -> bytes:
    inflated: list[bytes] = []
    size = 0
    while body:
        stream = zlib.decompressobj(_GZIP)
        try:
            chunk = stream.decompress(body, limit + 1 - size)
        except zlib.error as error:
            raise BadRequest("corrupt_gzip", f"the body cannot be unpacked: {error}") from error
        size += len(chunk)
        if size > limit or stream.unconsumed_tail:
            raise _too_large(limit)
        if not stream.eof:
            raise BadRequest("corrupt_gzip", "the compressed body ends too early")
        inflated.append(chunk)
        # Several gzip members in a row are one file.
        body = stream.unused_data
        if body and body[:2] != _GZIP_MAGIC:
            raise BadRequest("corrupt_gzip", "something else follows the compressed body")
    return inflated[0] if len(inflated) == 1 else b"".join(inflated)


def _too_large(limit: int) -> TooLarge:
    return TooLarge("body_too_large", f"a request may have {limit} bytes; send smaller batches")
