"""What can go wrong between an SDK and the server, as values for a ``FaultProxy``."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEPT_JSON = b'{"code":"later","message":"not now"}'


@dataclass(frozen=True)
class Refuse:
    """Answers in the server's place; the server never hears of the request."""

    status: int
    retry_after: int | None = None
    body: bytes = KEPT_JSON


@dataclass(frozen=True)
class CutBefore:
    """Drops the connection before the server has heard of the request."""


@dataclass(frozen=True)
class CutAfter:
    """Drops the connection once the server has committed and answered; nobody hears of it."""


@dataclass(frozen=True)
class Late:
    """Holds the answer back: the server has committed, the client still waits, or gives up."""

    seconds: float


Fault = Refuse | CutBefore | CutAfter | Late


@dataclass
class Seen:
    """One request as it came, and what became of it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    """Names in lower case, in the order sent."""
    body: bytes
    at: float
    """On the monotonic clock."""
    fault: Fault | None = None
    forwarded: bool = False
    """Whether the server took it up and answered."""
    status: int | None = None
    """What the client was told; ``None`` when it was cut off."""
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""

    @property
    def path(self) -> str:
        """The path without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters of the query."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    def header(self, name: str) -> str | None:
        """The first value of a header, named in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def text(self) -> str:
        """The body, unpacked."""
        packed = self.header("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode()

    @property
    def json(self) -> Any:
        """The body as JSON (Python's reader takes NaN, as its writer makes it)."""
        return json.loads(self.text)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in the body of a post: one, or those of a batch."""
        if self.method != "POST" or self.path.endswith("/m"):
            return []
        try:
            body = self.json
        except ValueError:
            return []
        found: list[dict[str, Any]] = body.get("batch", [body])
        return found

    @property
    def message_ids(self) -> list[str]:
        """The ids of its events."""
        return [event["messageId"] for event in self.events if "messageId" in event]


def list_ids(requests: Iterable[Seen]) -> list[str]:
    """The message ids of several requests, one for each time that they came."""
    return [one for request in requests for one in request.message_ids]
