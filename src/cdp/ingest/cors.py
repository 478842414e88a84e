"""CORS, as the browser SDKs need it: on every answer of the program, errors included. Pure.

Since 1.84 analytics-next sends ``Authorization``, and RudderStack's SDK always did, so every event
is preflighted, and each retry asks for other headers. What is asked for is echoed: a ``*`` does not
cover ``Authorization`` by the standard. The API knows no cookies, so any origin may ask.
"""

from __future__ import annotations

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

_METHODS = b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_EXPOSED = b"Retry-After, X-RateLimit-Reset"
_MAX_AGE = b"86400"
_LONGEST_ORIGIN = 300


def find_header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the first value of a header; ``name`` in lower case, as ASGI has it."""
    for key, value in headers:
        if key == name:
            return value
    return None


def cors_headers(origin: bytes | None) -> Headers:
    """Return the headers that let a page at ``origin`` read an answer."""
    if origin is None or len(origin) > _LONGEST_ORIGIN:
        return [
            (b"access-control-allow-origin", b"*"),
            (b"access-control-expose-headers", _EXPOSED),
            # A cache may not give this answer to a page either.
            (b"vary", b"Origin"),
        ]
    return [
        (b"access-control-allow-origin", origin),
        # Beacons and `credentials: "include"` need it, and a concrete origin with it.
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    ]


def preflight_headers(asked: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers of the answer to a preflight that came with the headers ``asked``."""
    wanted = find_header(asked, b"access-control-request-headers")
    headers = cors_headers(find_header(asked, b"origin"))
    headers.append((b"access-control-allow-methods", _METHODS))
    if wanted:
        headers.append((b"access-control-allow-headers", wanted))
        headers.append((b"vary", b"Access-Control-Request-Headers"))
    headers.append((b"access-control-max-age", _MAX_AGE))
    return headers
