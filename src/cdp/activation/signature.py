"""Standard Webhooks signatures: https://www.standardwebhooks.com, version 1. Pure."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from hashlib import sha256

from cdp.errors import Unprocessable

PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64


def make_secret() -> str:
    """Return a new secret: ``whsec_`` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def check_secret(secret: str) -> str:
    """Return ``secret``; raise ``Unprocessable`` unless it is 24 to 64 bytes in base64."""
    try:
        size = len(_read(secret))
    except (binascii.Error, ValueError):
        size = 0
    if not _SHORTEST <= size <= _LONGEST:
        raise Unprocessable(
            "bad_setting",
            f"secret: {PREFIX} and {_SHORTEST} to {_LONGEST} bytes in base64",
            path="/settings/secret",
        )
    return secret


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature`` for ``body``; ``timestamp`` is in Unix seconds."""
    content = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    digest = hmac.digest(_read(secret), content, sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def _read(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
