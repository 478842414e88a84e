"""Where in an object store files are put: ``s3://bucket/folder``, by whose keys. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

DEFAULT_REGION = "us-east-1"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[^\\\0?#*:\"<>|]{0,500}")


class Bucket(NamedTuple):
    """A place in an object store that speaks S3."""

    name: str
    prefix: str
    """Without slashes at its ends; empty for the top of the bucket."""
    region: str
    scheme: str
    """``https``, or ``http`` for stores of one's own."""
    endpoint: str | None
    """Host and port; ``None`` for Amazon's own, by region."""

    @property
    def path(self) -> str:
        """What every object's name begins with: the bucket, and the prefix."""
        return f"{self.name}/{self.prefix}" if self.prefix else self.name

    @property
    def host(self) -> str:
        """The host that is spoken to."""
        if self.endpoint is None:
            return f"{self.name}.s3.{self.region}.amazonaws.com"
        return urlsplit(f"//{self.endpoint}").hostname or ""


def read_bucket(settings: Mapping[str, Any]) -> Bucket:
    """Read ``url``, ``endpoint`` and ``region``; ``ValueError`` names the first that is wrong."""
    parts = urlsplit(settings["url"])
    prefix = parts.path.strip("/")
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    is_place = parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc) is not None
    steps = prefix.split("/") if prefix else []
    if not is_place or not is_plain or not _PREFIX.fullmatch(prefix) or _leads_away(steps):
        raise ValueError("url")
    scheme, endpoint = _read_endpoint(settings.get("endpoint"))
    return Bucket(parts.netloc, prefix, settings.get("region", DEFAULT_REGION), scheme, endpoint)


def _leads_away(steps: list[str]) -> bool:
    return any(step in ("", ".", "..") for step in steps)


def _read_endpoint(text: str | None) -> tuple[str, str | None]:
    if text is None:
        return "https", None
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("endpoint") from error
    is_bare = not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in ("http", "https") or not host or not is_bare:
        raise ValueError("endpoint")
    return parts.scheme, parts.netloc
