"""The settings that browser SDKs fetch before they send anything. Pure.

Segment's library takes ``apiHost`` and ``protocol`` from here, so a page needs to know one address
only; on a plain HTTP host ``https`` here would lose every event. One integration alone, or it would
fetch more code; no metrics, or every page would post some.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from cdp.ingest.cors import find_header
from cdp.model import Source

CACHE_CONTROL = b"public, max-age=300"
_HOST = re.compile(r"[A-Za-z0-9.\-_]{1,255}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")

_LOOPBACK = re.compile(
    r"(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$", re.IGNORECASE
)


def find_address(
    scheme: str, headers: Iterable[tuple[bytes, bytes]], public_url: str | None
) -> tuple[str, str]:
    """Return protocol and host (with path, if any) by which the caller reaches us.

    ``public_url`` decides when it is set; otherwise the request itself. A proxy that ends TLS may
    not say so, or not be trusted to. But a page that came by https cannot have reached us without,
    unless on its own machine: browsers refuse to mix.
    """
    if public_url:
        parts = urlsplit(public_url)
        return parts.scheme, parts.netloc + parts.path.rstrip("/")
    host = (find_header(headers, b"host") or b"").decode("latin-1")
    if not _HOST.fullmatch(host):
        host = "localhost"
    is_secure = (find_header(headers, b"origin") or b"").startswith(b"https:")
    return "https" if is_secure and not _LOOPBACK.match(host) else scheme, host


_EVERYTHING: Mapping[str, Any] = {"__default": {"enabled": True}}

ListTracked = Callable[[Source], Mapping[str, Any]]
"""From a source to ``plan.track``: which track events a browser is to pass on, by name."""


def track_everything(source: Source) -> Mapping[str, Any]:
    """Be the ``plan.track`` of a source without a tracking plan."""
    return _EVERYTHING


def project_settings(
    write_key: str, protocol: str, host: str, tracked: Mapping[str, Any] = _EVERYTHING
) -> dict[str, Any]:
    """Return what analytics-next and the mobile SDKs of Segment load.

    ``tracked`` is ``plan.track``. analytics-next keeps what is disabled there from classic
    destinations, and from all others of a page that gives it to ``load`` as its option ``plan``;
    the event itself comes here all the same.
    """
    return {
        "integrations": {
            "Segment.io": {"apiKey": write_key, "apiHost": f"{host}/v1", "protocol": protocol}
        },
        "plan": {"track": tracked},
        "metrics": {"sampleRate": 0},
    }


def source_config(write_key: str, source: Source) -> dict[str, Any]:
    """Return what the SDKs of RudderStack load."""
    return {
        "source": {
            "id": source.source_id,
            "name": source.name,
            "writeKey": write_key,
            "workspaceId": "cdp",
            "enabled": True,
            "config": {
                "statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}
            },
            "destinations": [],
        }
    }
