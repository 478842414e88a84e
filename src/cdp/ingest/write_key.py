"""Find the write key wherever an SDK puts it. Pure."""

from __future__ import annotations

import binascii
from base64 import b64decode
from functools import lru_cache
from urllib.parse import parse_qs

LONGEST_KEY = 200


@lru_cache(maxsize=4096)
def read_basic_key(authorization: bytes) -> str | None:
    """Return the user name of a ``Basic`` header: the write key. ``None`` for any other header.

    Old clients leave out the colon behind it.
    """
    scheme, _, rest = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        decoded = b64decode(rest.strip() + b"=" * (-len(rest.strip()) % 4))
        text = decoded.decode()
    except (binascii.Error, ValueError):
        return None
    key = text.partition(":")[0].strip()
    return key if 0 < len(key) <= LONGEST_KEY else None


def read_query_key(query: bytes) -> str | None:
    """Return the key in ``?writeKey=``."""
    if b"riteKey" not in query and b"rite_key" not in query:
        return None
    values = parse_qs(query.decode("latin-1"))
    for name in ("writeKey", "WriteKey", "write_key"):
        for value in values.get(name, ()):
            if 0 < len(value) <= LONGEST_KEY:
                return value
    return None
